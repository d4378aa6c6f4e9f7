"""Primitives of filters that change colours (Filter Effects 1, sections 9.6 and 9.7)."""

from pds_nerfstudio.vector.raster.filter_graph import ColorMatrix, Merge, Transfer, TransferFunction
from pds_nerfstudio.vector.svg.filter_functions import hue_rotated, luminance_to_alpha, saturated
from pds_nerfstudio.vector.svg.numbers import is_list, parse_number, parse_numbers
from pds_nerfstudio.vector.svg.xml_source import Element

COLORS = frozenset(("feColorMatrix", "feComponentTransfer"))
"""Tags of the primitives that `color_operation` reads."""
_AS_IT_IS = TransferFunction()


def numbers_of(primitive: Element, name: str, default: str = "") -> list[float]:
    """Return the numbers of an attribute; none if it holds anything else."""
    text = primitive.attributes.get(name, default)
    return parse_numbers(text) if is_list(text) else []


def color_operation(primitive: Element) -> ColorMatrix | Transfer | Merge:
    """Return what a primitive does to colours; one that cannot be read leaves them as they are."""
    if primitive.tag == "feColorMatrix":
        return _matrix(primitive) or Merge()
    channels = {child.tag: _function(child) for child in primitive.children}
    red, green, blue, alpha = (channels.get(f"feFunc{name}", _AS_IT_IS) for name in "RGBA")
    return Transfer((red, green, blue, alpha))


def _matrix(primitive: Element) -> ColorMatrix | None:
    kind, values = primitive.attributes.get("type", "matrix"), numbers_of(primitive, "values")
    if kind == "saturate":
        return saturated(max(values[0], 0.0)) if values else None
    if kind == "hueRotate":
        return hue_rotated(values[0]) if values else None
    if kind == "luminanceToAlpha":
        return luminance_to_alpha()
    return ColorMatrix(tuple(values)) if len(values) == 20 else None


def _function(element: Element) -> TransferFunction:
    kind = element.attributes.get("type", "identity")
    if kind in ("table", "discrete"):
        return TransferFunction(kind, tuple(numbers_of(element, "tableValues")))
    names = {
        "linear": (("slope", 1.0), ("intercept", 0.0)),
        "gamma": (("amplitude", 1.0), ("exponent", 1.0), ("offset", 0.0)),
    }
    values = []
    for name, default in names.get(kind, ()):
        number = parse_number(element.attributes.get(name, ""))
        values.append(default if number is None else number)
    return TransferFunction(kind, tuple(values)) if values else _AS_IT_IS
