"""The rectangles outside of which masks and filters show nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from pds_nerfstudio.vector.raster.affine import IDENTITY
from pds_nerfstudio.vector.raster.scene import Members
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.context import Context
from pds_nerfstudio.vector.svg.numbers import parse_length
from pds_nerfstudio.vector.svg.outline_importer import Box
from pds_nerfstudio.vector.svg.xml_source import Element

_SIDES = {"x": ("-10%", "width"), "y": ("-10%", "height"), "width": ("120%", "width"), "height": ("120%", "height")}
BOX = "objectBoundingBox"
"""Units that are those of a box."""


@dataclass(frozen=True)
class Placed:
    """What a mask or a filter is on."""

    context: Context
    """What holds inside of the element."""
    members: Members
    """What is in its box."""
    box: Box | None
    """The box in the element's units, if it has an area."""


@dataclass(frozen=True)
class UnitRegion:
    """A rectangle."""

    box: Box
    """It, in the units of an element, or of the element's box."""
    follows: bool
    """Whether it is the latter."""


def read_region(element: Element, units: str, placed: Placed) -> UnitRegion | None:
    """Return the rectangle of a mask or a filter.

    Args:
        element: The mask or the filter.
        units: Name of the attribute that says what its numbers refer to.
        placed: What it is on.

    Returns:
        None where it has no area, or where it refers to a box that has none.
    """
    follows = element.attributes.get(units, BOX) != "userSpaceOnUse"
    view = placed.context.viewport
    values = []
    for name, (default, side) in _SIDES.items():
        text = element.attributes.get(name, default)
        reference = 1.0 if follows else getattr(view, side)
        value = parse_length(text, 1.0) if follows else view.length(text, reference)
        values.append(parse_length(default, reference) if value is None else value)
    x, y, width, height = (value or 0.0 for value in values)
    if width <= 0 or height <= 0 or (follows and placed.box is None):
        return None
    return UnitRegion((x, y, width, height), follows)


def corners(box: Box) -> Sequence[tuple[float, float]]:
    """Return the corners of a rectangle, in turn."""
    x, y, width, height = box
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def follower_or_not(region: UnitRegion, placed: Placed, builder: SceneBuilder) -> int:
    """Add a rectangle as a path, in the units of what it is on; return the number of the path."""
    path = builder.add_polygon(corners(region.box))
    return builder.add_follower(path, IDENTITY, placed.members) if region.follows else path


def in_user_units(region: UnitRegion, placed: Placed) -> Box:
    """Return a rectangle in the units of what it is on, where that is at import."""
    if not region.follows or placed.box is None:
        return region.box
    (x, y, width, height), (left, top, across, down) = region.box, placed.box
    return left + x * across, top + y * down, width * across, height * down
