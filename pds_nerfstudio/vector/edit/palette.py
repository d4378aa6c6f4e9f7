"""The colours that a drawing has already, which new parts of it take where they are near."""

from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.likeness import color_distance
from pds_nerfstudio.vector.edit.scene_tree import shapes_of
from pds_nerfstudio.vector.raster.scene import SceneParameters, Solid

_NEAR = 3.5
"""Colour difference up to which a colour of the drawing's own is taken."""


def palette_of(editor: VectorEditor, parameters: SceneParameters) -> Float[Tensor, "k 3"]:
    """Return the plain colours that a drawing's old paths are painted with, by some values of its numbers."""
    rows = {
        part.paint.color
        for shape in shapes_of(editor.before.scene)
        for part in (shape.fill, shape.stroke)
        if part is not None and isinstance(part.paint, Solid)
    }
    return parameters.colors[sorted(rows)]


def main_colors(editor: VectorEditor, parameters: SceneParameters) -> dict[int, Float[Tensor, "3"]]:
    """Return for each path that is painted in one plain colour that of its fill, or of its line if it has none."""
    paints = {s.path: part.paint for s in shapes_of(editor.before.scene) if (part := s.fill or s.stroke) is not None}
    return {path: parameters.colors[paint.color] for path, paint in paints.items() if isinstance(paint, Solid)}


def nearest_color(color: Float[Tensor, "3"], palette: Float[Tensor, "k 3"]) -> Float[Tensor, "3"]:
    """Return the colour of a palette that looks most like another, or that one itself if none is near."""
    if not len(palette):
        return color
    distance = color_distance(palette.T, color[:, None])
    return palette[int(distance.argmin())] if float(distance.min()) < _NEAR else color
