"""The edges of markers and of the tiles of patterns, beyond which nothing of them shows."""

from collections.abc import Iterator

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Clip, ClipShape, Group, Shape
from pds_nerfstudio.vector.svg.outline_importer import Box, OutlineImporter

_SLACK = 1e-6
"""How far something may stick out, as a share of the tile."""


def cut_to(tile: Box, group: Group, frame: Affine, outlines: OutlineImporter) -> Clip | None:
    """Return what cuts a group to a rectangle; None if it stays within that, where a cut would only thin its edges.

    Args:
        tile: The rectangle.
        group: What must not move.
        frame: From the rectangle's units to the drawing's.
        outlines: Has the points.
    """
    x, y, width, height = tile
    box = outlines.box(outlines.members(group, frame))
    if box is not None and not any(shape.stroke for shape in _shapes(group)):
        left, top, across, down = box
        slack = _SLACK * max(width, height)
        beyond = (x - left, y - top, left + across - x - width, top + down - y - height)
        if max(beyond) <= slack:
            return None
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Clip((ClipShape(outlines.rows.builder.add_polygon(corners), frame),))


def _shapes(group: Group) -> Iterator[Shape]:
    for child in group.children:
        if isinstance(child, Group):
            yield from _shapes(child)
        elif isinstance(child, Shape):
            yield child
