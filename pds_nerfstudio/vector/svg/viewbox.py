"""How a viewBox is fitted into a viewport (SVG 2, section 8.6)."""

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.svg.numbers import parse_numbers

Box = tuple[float, float, float, float]
"""x, y, width, height."""

_ALIGN = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}


def parse_view_box(text: str | None) -> Box | None:
    """Return a viewBox of positive size; None for anything else."""
    numbers = parse_numbers(text) if text else []
    if len(numbers) != 4 or numbers[2] <= 0 or numbers[3] <= 0:
        return None
    x, y, width, height = numbers
    return x, y, width, height


def fit_view_box(box: Box, width: float, height: float, preserve: str | None = None) -> Affine:
    """Return the map from a viewBox to a viewport at the origin.

    Args:
        box: The viewBox.
        width: Width of the viewport.
        height: Height of the viewport.
        preserve: Value of preserveAspectRatio; by default the box is centred and wholly visible.
    """
    x, y, w, h = box
    sx, sy = width / w, height / h
    words = (preserve or "").split() or ["xMidYMid"]
    align = words[0]
    if align == "none":
        return affine.compose(affine.scaling(sx, sy), affine.translation(-x, -y))
    scale = max(sx, sy) if "slice" in words[1:] else min(sx, sy)
    left, top = _ALIGN.get(align[1:4], 0.5), _ALIGN.get(align[5:8], 0.5)
    shift = affine.translation(left * (width - scale * w), top * (height - scale * h))
    return affine.compose(affine.compose(shift, affine.scaling(scale, scale)), affine.translation(-x, -y))
