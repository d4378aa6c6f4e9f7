from pds_nerfstudio.vector.svg.cascade import Cascade
from pds_nerfstudio.vector.svg.css import StyleSheet
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.xml_source import Element, parse_xml


def _cascade(text: bytes, css: str = "") -> tuple[Cascade, Element]:
    sheet = StyleSheet()
    sheet.add(css)
    return Cascade(sheet), parse_xml(text, "x").root


def test_attributes_then_sheets_then_the_style_attribute() -> None:
    cascade, root = _cascade(
        b"<svg><path fill='red' stroke='red' color='red' opacity='.1' style='fill:lime;stroke:lime'/></svg>",
        "path{fill:blue; stroke:blue !important; color:blue}",
    )
    found = cascade.declared(root.children[0])
    assert {k: (d.value, d.origin) for k, d in found.items()} == {
        "fill": ("lime", "style"),
        "stroke": ("blue", "sheet"),
        "color": ("blue", "sheet"),
        "opacity": (".1", "attribute"),
    }


def test_inheritance() -> None:
    cascade, root = _cascade(
        b"<svg fill='red' opacity='.5' stroke='lime'><g opacity='.2' fill='blue'>"
        b"<path opacity='inherit' stroke='initial'/>"
        b"<path fill='inherit'/></g></svg>"
    )
    first, second = root.children[0].children
    assert cascade.own_style(first) == {"fill": "blue", "opacity": ".2"}
    assert cascade.own_style(second) == {"fill": "blue", "stroke": "lime"}


def _styles(css: str, *tags: str) -> list[dict[str, str]]:
    """Return the styles of elements in a group."""
    cascade, root = _cascade(f"<svg><g fill='red'>{''.join(tags)}</g></svg>".encode(), css)
    return [dict(cascade.own_style(element)) for element in root.children[0].children]


def test_a_value_that_a_property_cannot_have_is_dropped() -> None:
    (style,) = _styles(
        "path{fill:lime; fill:nonsense; stroke-width:2; stroke-width:wide; stroke:url(#a) nonsense}",
        "<path opacity='.5' style='opacity:x; fill-rule:odd; stroke-dasharray:1 2px a; clip-path:circle(3px)'/>",
    )
    assert style == {"fill": "lime", "stroke-width": "2", "opacity": ".5"}


def test_what_could_not_be_read_is_known_where_nothing_else_says_it() -> None:
    cascade, root = _cascade(
        b"<svg fill='lab(1 2 3)'><g fill='red' style='fill:nonsense'/><path fill='lime'/><a/></svg>"
    )
    styles = [cascade.own_style(child) for child in root.children]
    assert [set(style.unread) for style in styles] == [set(), set(), {"fill"}]
    assert cascade.unread == {"fill 'lab(1 2 3)'"}


def test_keywords_and_functions_ignore_case() -> None:
    (style,) = _styles(
        "", "<path fill='NONE' stroke='CurrentColor' stroke-linejoin='ROUND' display='Inline' clip-path='URL(#aB)'/>"
    )
    assert style == {
        "fill": "none", "stroke": "currentcolor", "stroke-linejoin": "round", "display": "inline",
        "clip-path": "URL(#aB)",
    }  # fmt: skip
    assert parse_url(style["clip-path"]) == ("#aB", "")
    (style,) = _styles("", "<path fill='INHERIT' stroke='Initial'/>")
    assert style == {"fill": "red"}


def test_colours_beyond_srgb_stand_back_behind_those_in_it() -> None:
    wide = "color(display-p3 0 1 0)"
    both, attribute, alone, newer = _styles(
        ".n{fill:lime}",
        f"<path style='fill:{wide};fill:red'/>",
        f"<path fill='blue' style='fill:{wide}'/>",
        f"<path style='fill:{wide}'/>",
        f"<path class='n' style='fill:red;fill:{wide}'/>",
    )
    assert [style["fill"] for style in (both, attribute, alone, newer)] == ["red", "blue", wide, "red"]


def test_variables() -> None:
    css = "svg{--main:lime; --Main:blue; --far:var(--main)} g{--near:var(--none, var(--far))}"
    values = {
        "var(--main)": "lime",
        "var(--Main)": "blue",
        "var( --near , red )": "lime",
        "var(--none, #0a7d3b)": "#0a7d3b",
        "var(--a, var(--b, rgb(1, 2, calc(3))))": None,
        "var(--a, var(--b, rgb(1, 2, 3)))": "rgb(1, 2, 3)",
        "var(--none)": None,
        "var(--main": None,
    }
    styles = _styles(css, *(f"<path fill='{value}'/>" for value in values))
    # what has no value counts as not given
    assert [style["fill"] for style in styles] == [value or "red" for value in values.values()]


def test_variables_that_grow_without_end_are_no_value() -> None:
    css = "svg{--a:var(--a); --b0:1" + "".join(f"; --b{k}:var(--b{k - 1}) var(--b{k - 1})" for k in range(1, 30)) + "}"
    assert all(s["fill"] == "red" for s in _styles(css, "<path fill='var(--a)'/>", "<path fill='var(--b29)'/>"))


def test_font_sizes_are_of_the_parents() -> None:
    cascade, root = _cascade(
        b"<svg font-size='20'><g font-size='150%'><g font-size='2em'/><g font-size='2rem'/></g>"
        b"<g style='font:italic 700 1.5em/2 serif'/><g style='font-size:LARGER'/><g/><g font-size='big'/></svg>"
    )
    sizes = [cascade.own_style(e)["font-size"] for e in root.walk()]
    assert [float(size) for size in sizes] == [20, 30, 60, 40, 30, 24, 20, 20]


def test_geometry_is_a_matter_of_sheets_but_of_no_other_attribute() -> None:
    cascade, root = _cascade(
        b"<svg><circle class='a' r='9'/><path class='a' d='M0 0'/></svg>", ".a{r:3px; cx:4px; d:none}"
    )
    circle, path = root.children
    assert cascade.own_style(circle) == {"r": "3px", "cx": "4px"}
    assert cascade.own_style(path) == {"d": "none"}


def test_shorthands() -> None:
    (style,) = _styles("", "<path style='background:no-repeat LIME'/>")
    assert style["background-color"] == "lime"
    (style,) = _styles("", "<path style='background:rgb(1 2 3 / .5)'/>")
    assert style["background-color"] == "rgb(1 2 3 / .5)"


def test_urls() -> None:
    assert parse_url("url(#a)") == ("#a", "")
    assert parse_url(" url( '#a b' )  red") == ("#a b", "red")
    assert parse_url("red") is None and parse_url(None) is None
