"""From a scene's numbers to directed edges in canvas pixels: fills, and the outlines of strokes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import MAX_COORDINATE
from pds_nerfstudio.vector.raster.bezier import MAX_CHORDS, chord_counts, flatten, turning
from pds_nerfstudio.vector.raster.plan import Plan
from pds_nerfstudio.vector.raster.polyline import Polylines, dash_contours, drop_points, lengths
from pds_nerfstudio.vector.raster.scene import SceneParameters, Stroke
from pds_nerfstudio.vector.raster.stroke import Pens, arc_step, stroke_outline


def fill_edges(
    plan: Plan, parameters: SceneParameters, matrices: Float[Tensor, "r 2 3"], tolerance: float
) -> tuple[Float[Tensor, "e 2 2"], Int[Tensor, " e"]]:
    """Return the edges of all fills and clip paths, differentiable in the points.

    Args:
        plan: Of the scene.
        parameters: The scene's numbers.
        matrices: From each region's units to the canvas.
        tolerance: Largest distance between a curve and its chords, in pixels.

    Returns:
        Directed edges in canvas pixels, and the region of each. Open contours are closed by a straight line.
    """
    part = plan.filled
    ctrl = _apply(matrices[part.region], parameters.points[plan.segments[part.segment]])
    with torch.no_grad():
        counts = torch.where(part.straight, 1, chord_counts(ctrl, tolerance))
    edges, segment = flatten(ctrl, counts)
    closing = _apply(matrices[plan.closing_region], parameters.points[plan.closing])
    return torch.cat([edges, closing]), torch.cat([part.region[segment], plan.closing_region])


def stroke_edges(
    plan: Plan,
    parameters: SceneParameters,
    matrices: Float[Tensor, "r 2 3"],
    stretch: Float[Tensor, " i"],
    tolerance: float,
) -> tuple[Float[Tensor, "e 2 2"], Int[Tensor, " e"]]:
    """Return the outlines of all strokes, differentiable in points and widths.

    Args:
        plan: Of the scene, with strokes in it.
        parameters: The scene's numbers.
        matrices: From each region's units to the canvas.
        stretch: Factor by which they lengthen at most, for each of the plan's `stroke_regions`.
        tolerance: Largest distance between a curve and its chords, in pixels.

    Returns:
        Directed edges in canvas pixels, and the region of each.
    """
    part = plan.stroked
    local = _rows(parameters.points, plan.segments[part.segment])
    ctrl = _apply(matrices[part.region], local)
    width, join, cap = plan.pens.unbind(1)
    pens = Pens(
        half_width=0.5 * parameters.widths.index_select(0, width).clamp(min=0),
        join=join,
        cap=cap,
        miter_limit=plan.miter_limits.to(local.dtype),
        tolerance=tolerance / stretch.clamp(min=1e-12),
    )
    with torch.no_grad():
        # the sides of a stroke turn with the curve, at a distance of half its width
        turns = turning(ctrl) / arc_step(pens.half_width, pens.tolerance)[part.instance]
        counts = torch.maximum(chord_counts(ctrl, tolerance), turns.ceil().clamp(max=MAX_CHORDS).long())
        counts = torch.where(part.straight, 1, counts)
    edges, segment = flatten(local, counts)
    smooth = torch.cat([segment[1:] == segment[:-1], segment.new_zeros(1, dtype=torch.bool)])[: segment.numel()]
    lines = drop_points(Polylines(edges, part.instance[segment], smooth, part.instance_closed))
    of = part.instance_region
    if plan.dashed:
        lines, owner = cut_dashes(plan, lines)
        pens = Pens(**{name: values[owner] for name, values in vars(pens).items()})
        of = of[owner]
    outline, contour = stroke_outline(lines, pens)
    region = of[contour]
    return _apply(matrices[region], outline), region


def cut_dashes(plan: Plan, lines: Polylines) -> tuple[Polylines, Int[Tensor, " d"]]:
    """Return the dashes of a scene's strokes, and the contour that each comes from; see `polyline.dash_contours`.

    Args:
        plan: Of the scene.
        lines: The contours of its strokes, in their order.
    """
    styles = [plan.strokes[region] for region in plan.stroke_regions]
    units = _dash_units(lines, styles, plan.stroked.instance_region)
    return dash_contours(lines, [(style.dashes, style.dash_offset) for style in styles], units)


def _dash_units(
    lines: Polylines, styles: Sequence[Stroke], region: Int[Tensor, " c"]
) -> list[Float[Tensor, ""] | None]:
    """Return for each contour what its dashes are measured in: a share of its path's length (SVG 2, section 9.6.1)."""
    if not any(style.path_length for style in styles):
        return [None] * len(styles)
    total = lines.edges.new_zeros(int(region.max()) + 1)
    total = total.index_add(0, region[lines.contour], lengths(lines.edges))
    own = total[region].clamp(min=1e-9)
    return [own[k] / s.path_length if s.path_length else None for k, s in enumerate(styles)]


def _apply(matrices: Float[Tensor, "n 2 3"], points: Float[Tensor, "n k 2"]) -> Float[Tensor, "n k 2"]:
    moved = torch.baddbmm(matrices[:, None, :, 2], points, matrices[:, :, :2].transpose(1, 2))
    return moved.clamp(-MAX_COORDINATE, MAX_COORDINATE)


def _rows(values: Float[Tensor, "n d"], rows: Int[Tensor, "s k"]) -> Float[Tensor, "s k d"]:
    """Return rows of a tensor. On a GPU, the backward pass of indexing by brackets would sort them first."""
    return values.index_select(0, rows.flatten()).view(*rows.shape, values.shape[1])
