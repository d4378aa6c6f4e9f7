import pytest

from pds_nerfstudio.vector.svg.css import StyleSheet, parse_declarations
from pds_nerfstudio.vector.svg.xml_source import Element, parse_xml


def _found(sheet: StyleSheet, element: Element) -> dict[str, str]:
    values = {}
    for d in sheet.declarations(element):
        values[d.name] = d.value
    return values


def test_declarations_and_where_they_stand() -> None:
    text = 'fill : red ;/* x:y; */stroke:url( "#a;b" ) blue !important; --x:1;broken'
    first, second, *_ = parse_declarations(text)
    assert (first.name, first.value, first.important) == ("fill", "red", False)
    assert text[slice(*first.span)] == "red"
    assert (second.name, second.value, second.important) == ("stroke", 'url( "#a;b" ) blue', True)
    assert text[slice(*second.span)] == 'url( "#a;b" ) blue'


def test_specificity_and_order() -> None:
    sheet = StyleSheet()
    sheet.add("""<!-- * {fill: a; stroke: a} path {fill: b} .k {fill: c} #i {fill: d}
        path.k, .z {fill: e; stroke: e} @media print { .k {fill: no} } @import "x"; .k {stroke-width: 2}
        -->""")
    root = parse_xml(b"<svg><path id='i' class='q k'/><path class='k'/><path/><g/></svg>", "x").root
    assert _found(sheet, root.children[0]) == {"fill": "d", "stroke": "e", "stroke-width": "2"}
    assert _found(sheet, root.children[1])["fill"] == "e"
    assert _found(sheet, root.children[2])["fill"] == "b"
    assert _found(sheet, root.children[3]) == {"fill": "a", "stroke": "a"}
    assert sheet.asks_for_attributes and sheet.skipped == {"@import"}


def test_classes_and_ids_are_no_matter_of_attributes() -> None:
    sheet = StyleSheet()
    sheet.add(".a, #b.c{fill:red}")
    assert sheet and not sheet.asks_for_attributes and not StyleSheet()


def test_combinators() -> None:
    sheet = StyleSheet()
    sheet.add("g path {fill: in} g > path {stroke: child} .a .b > path{color: deep} path:hover, [x] {fill: no}")
    sheet.add("a::before, a:odd {fill: no}")
    root = parse_xml(
        b"<svg><g><path/><a class='a'><g class='b'><path/></g></a><a><path/></a></g><path/></svg>", "x"
    ).root
    group, outside = root.children
    assert _found(sheet, group.children[0]) == {"fill": "in", "stroke": "child"}
    assert _found(sheet, group.children[1].children[0].children[0]) == {
        "fill": "in",
        "stroke": "child",
        "color": "deep",
    }
    assert _found(sheet, group.children[2].children[0]) == {"fill": "in"}
    assert _found(sheet, outside) == {}
    assert sheet.skipped == {"selector 'a::before, a:odd'"}


SELECTORS = {
    "rect:first-child": [0],
    "path:last-child": [4],
    "g > :nth-child(2n+1)": [0, 2, 4],
    ":nth-last-child(2)": [3],
    "rect + path": [2],
    "rect ~ *": [1, 2, 3, 4],
    "[data-k]": [2, 3],
    "[data-k=b]": [3],
    "[data-k~='c']": [2],
    "[data-k^='a'], [data-k$='b'], [class*='iz']": [2, 3, 4],
    "[lang|=en]": [1],
    "g :not(rect):not([data-k])": [4],
    ":is(rect, .size)": [0, 1, 4],
    "rect:nth-of-type(2)": [1],
    ":root > g > path": [2, 4],
    "rect:only-child": [],
    "path:hover": [],
}


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors(selector: str) -> None:
    root = parse_xml(
        b"<svg><g><rect/><rect lang='en-GB'/><path data-k='a c'/><circle data-k='b'/><path class='size'/></g></svg>",
        "x",
    ).root
    sheet = StyleSheet()
    sheet.add(selector + "{fill:red}")
    group = root.children[0]
    assert [k for k, child in enumerate(group.children) if _found(sheet, child)] == SELECTORS[selector]
    assert not sheet.skipped


@pytest.mark.parametrize(
    ("queries", "applies"),
    [
        ("screen", True), ("all", True), ("only screen", True), ("print", False), ("print, SCREEN", True),
        ("not print", True), ("not all", False), ("(prefers-color-scheme: dark)", False),
        ("(prefers-color-scheme:light)", True), ("screen and (prefers-color-scheme: dark)", False),
    ],
)  # fmt: skip
def test_media(queries: str, applies: bool) -> None:
    sheet = StyleSheet()
    sheet.add(f"path{{fill:red}} @media {queries} {{ @media all {{path{{fill:lime}}}} }} path{{stroke:red}}")
    path = parse_xml(b"<svg><path/></svg>", "x").root.children[0]
    assert _found(sheet, path) == {"fill": "lime" if applies else "red", "stroke": "red"}
    sheet.add("path{fill:blue}", queries)
    assert (_found(sheet, path)["fill"] == "blue") == applies
    assert not sheet.skipped


def test_at_rules_that_may_matter_are_named() -> None:
    sheet = StyleSheet()
    sheet.add(
        "@charset 'utf-8';@import url('https://fonts.example/css2?family=A:wght@400;700&display=swap');"
        "@font-face{src:url(data:a;b)}@media (min-width:9px){a{fill:red}}@supports (fill:red){a{fill:red}}a{fill:lime}"
    )
    assert sheet.skipped == {"@import", "@media (min-width:9px)", "@supports"}
    assert _found(sheet, parse_xml(b"<svg><a/></svg>", "x").root.children[0]) == {"fill": "lime"}


@pytest.mark.parametrize(
    "selector", [" ".join("*" * 9), "a ~ a", ":has(a a)", "a" + ":not(b" * 99 + ")" * 99, "a" * 3000, "[*|a]"]
)
def test_selectors_that_take_too_long_are_left_out(selector: str) -> None:
    deep = b"<g>" * 100 + b"<path/>" * 2500 + b"</g>" * 100
    root = parse_xml(b"<svg>" + deep + b"</svg>", "x").root
    sheet = StyleSheet()
    sheet.add(selector + "{fill:red} svg{fill:lime}")
    assert _found(sheet, root) == {"fill": "lime"}
    assert len(sheet.skipped) == 1


def test_broken_sheets_end() -> None:
    for text in ("a{" * 9000, "@media all{" * 50, "{", "a{", "}", "a{b:c", "a{{{}", "/*", "@x", "@x;", "a{}}}b{c:d}"):
        StyleSheet().add(text)
