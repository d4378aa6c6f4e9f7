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
        b"<svg><path fill='a' stroke='a' color='a' opacity='.1' style='fill:c;stroke:c'/></svg>",
        "path{fill:b; stroke:b !important; color:b}",
    )
    found = cascade.declared(root.children[0])
    assert {k: (d.value, d.origin) for k, d in found.items()} == {
        "fill": ("c", "style"),
        "stroke": ("b", "sheet"),
        "color": ("b", "sheet"),
        "opacity": (".1", "attribute"),
    }


def test_inheritance() -> None:
    cascade, root = _cascade(
        b"<svg fill='a' opacity='.5' stroke='s'><g opacity='.2' fill='b'>"
        b"<path opacity='inherit' stroke='initial'/>"
        b"<path fill='inherit'/></g></svg>"
    )
    first, second = root.children[0].children
    assert cascade.own_style(first) == {"fill": "b", "opacity": ".2"}
    assert cascade.own_style(second) == {"fill": "b", "stroke": "s"}


def test_urls() -> None:
    assert parse_url("url(#a)") == ("#a", "")
    assert parse_url(" url( '#a b' )  red") == ("#a b", "red")
    assert parse_url("red") is None and parse_url(None) is None
