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
    assert sheet.selects_tag("path") and not sheet.selects_tag("g")


def test_combinators() -> None:
    sheet = StyleSheet()
    sheet.add("g path {fill: in} g > path {stroke: child} .a .b > path{color: deep} path:hover, [x] {fill: no}")
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
    assert sheet.skipped == {"path:hover", "[x]"}


def test_broken_sheets_end() -> None:
    for text in ("{", "a{", "}", "a{b:c", "a{{{}", "/*", "@x", "@x;", "a{}}}b{c:d}"):
        StyleSheet().add(text)
