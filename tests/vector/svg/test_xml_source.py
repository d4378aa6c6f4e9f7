import gzip

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.svg.xml_source import MAX_BYTES, MAX_DEPTH, parse_xml


def test_positions_of_tags_and_attributes() -> None:
    data = b"<?xml version='1.0'?>\n<svg a=\"1\"\n  b = '>\"x' ><g c='&lt;&#65;'/><p></p></svg>"
    source = parse_xml(data, "x")
    first, last = source.tag_span(source.root)
    assert data[first:last] == b'<svg a="1"\n  b = \'>"x\' >'
    spans = source.attribute_spans(source.root)
    assert [data[slice(*spans[k])] for k in ("a", "b")] == [b"1", b'>"x']
    inner, other = source.root.children
    assert inner.attributes["c"] == "<A"
    assert data[slice(*source.attribute_spans(inner)["c"])] == b"&lt;&#65;"
    assert data[other.end :].startswith(b"</p>")


def test_namespaces() -> None:
    text = b"""<s:svg xmlns:s="http://www.w3.org/2000/svg"
    xmlns:l="http://www.w3.org/1999/xlink" xmlns:o="urn:o">
    <s:use l:href="#a" o:x="1" xml:space="preserve"/><s:use l:href="#a" href="#b"/><o:path/><g/></s:svg>"""
    use, both, foreign, plain = parse_xml(text, "x").root.children
    assert use.tag == "use" and use.attributes == {"href": "#a"} and use.raw_attributes == {"href": "l:href"}
    assert both.attributes["href"] == "#b"
    assert foreign.tag == "{urn:o}path"
    assert plain.tag == "g"


def test_entities_that_only_stand_for_text() -> None:
    text = b'<!DOCTYPE svg [<!ENTITY c "red">]><svg fill="&c;"><style>a{fill:&c;;}</style></svg>'
    root = parse_xml(text, "x").root
    assert root.attributes["fill"] == "red" and root.children[0].text == "a{fill:red;}"


def test_entities_that_hold_those_before_them() -> None:
    text = b'<!DOCTYPE svg [<!ENTITY c "red"><!ENTITY s "fill:&c;&amp;&c;">]><svg style="&s;"/>'
    assert parse_xml(text, "x").root.attributes["style"] == "fill:red&red"


@pytest.mark.parametrize("parts", [1, 2])
def test_compressed_files(parts: int) -> None:
    plain = "<?xml version='1.0' encoding='latin-1'?><svg id='ü'/>".encode("latin-1")
    cut = len(plain) // parts
    packed = b"".join(gzip.compress(plain[k : k + cut]) for k in range(0, len(plain), cut))
    source = parse_xml(packed, "x")
    assert source.root.attributes["id"] == "ü"
    assert source.encode(source.data) == packed
    assert gzip.decompress(source.encode(source.data.replace(b"svg", b"gvs"))) == plain.replace(b"svg", b"gvs")


def test_a_picture_is_called_by_its_name() -> None:
    with pytest.raises(UserError, match="PNG"):
        parse_xml(b"\x89PNG\r\n", "x")


def test_what_inkscape_keeps_for_itself() -> None:
    text = b"""<svg xmlns:s="http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd" xmlns:o="urn:o" s:type="star" o:cx="1"
    type="k"/>"""
    root = parse_xml(text, "x").root
    assert root.editor_attributes == {"type": "s:type"} and root.attributes == {"type": "k"}


def test_a_public_doctype_is_not_fetched() -> None:
    doctype = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://127.0.0.1:9/svg11.dtd">'
    assert parse_xml(doctype + b"<svg/>", "x").root.tag == "svg"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_other_encodings_survive(encoding: str) -> None:
    declared = {"utf-8-sig": "utf-8"}.get(encoding, encoding)
    text = f"<?xml version='1.0' encoding='{declared}'?><svg id='ü'/>"
    source = parse_xml(text.encode(encoding), "x")
    assert source.root.attributes["id"] == "ü"
    assert source.encode(source.data) == text.encode(encoding)


BOMB = b'<!DOCTYPE s [<!ENTITY a "aaaaaaaa">' + b"".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">'.encode() for i in range(9)
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe garbage",
        b"<svg>",
        b"<svg a='1' a='2'/>",
        b"<svg>\xff</svg>",
        b"<?xml version='1.0' encoding='no-such'?><svg/>",
        BOMB + b"]><s>&j;</s>",
        b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><s>&x;</s>',
        b'<!DOCTYPE s [<!ENTITY % x SYSTEM "http://127.0.0.1:9/">%x;]><s/>',
        b'<!DOCTYPE s [<!ENTITY x "<g/>">]><s>&x;</s>',
        b'<!DOCTYPE s [<!ENTITY x "&y;"><!ENTITY y "&x;">]><s>&x;</s>',
        b'<!DOCTYPE s [<!ENTITY x "a&later;"><!ENTITY later "b">]><s>&x;</s>',
        gzip.compress(bytes(MAX_BYTES + 1)),
        gzip.compress(b"<svg/>")[:-6],
        b"\x1f\x8bnonsense",
        b"\x1f\x8b",
        b"<svg>" * (MAX_DEPTH + 10) + b"</svg>" * (MAX_DEPTH + 10),
        b" " * (MAX_BYTES + 1),
    ],
    ids=range(18),
)
def test_what_is_refused_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(UserError) as error:
        parse_xml(data, "file.svg")
    assert str(error.value).startswith("file.svg: ") and "\n" not in str(error.value)
