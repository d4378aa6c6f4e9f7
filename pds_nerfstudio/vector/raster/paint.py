"""Gradients as functions of the pixel (SVG 2, section 14.2), differentiable in their end points and stops."""

import torch
from jaxtyping import Float
from torch import Tensor

INSIDE, OUTSIDE = 0.998, 1.002
"""How far from the end circle's centre, in radii, the focus of a radial gradient is moved to, and from where on it is
taken to lie outside."""


def linear_parameter(points: Float[Tensor, "h w 2"], geometry: Float[Tensor, " 6"]) -> Float[Tensor, "h w"]:
    """Return the place along the vector (x1, y1) → (x2, y2): 0 at its start, 1 at its end; 1 if it is a point."""
    start, vector = geometry[:2], geometry[2:4] - geometry[:2]
    square = vector.square().sum()
    if not bool(square > 0):
        return torch.ones_like(points[..., 0])
    return (points - start) @ (vector / square)


def radial_parameter(points: Float[Tensor, "h w 2"], geometry: Float[Tensor, " 6"]) -> Float[Tensor, "h w"]:
    """Return the largest t for which the point lies on the circle about f + t (c − f) with radius fr + t (r − fr).

    With d = p − f, e = c − f and ρ = r − fr this solves (e·e − ρ²) t² − 2 (d·e + fr ρ) t + d·d − fr² = 0. If the first
    circle is not inside of the other, that holds within a cone only, and for circles of a radius of 0 or more (SVG 2,
    14.2.3); see `cone_cover`. One that touches the other is moved just inside of it.
    """
    centre, radius, focus, start_radius = geometry[:2], geometry[2], geometry[3:5], geometry[5]
    if not bool(radius > 0):
        return torch.ones_like(points[..., 0])
    growth = radius - start_radius
    axis = centre - focus
    distance = axis.square().sum()
    if _is_cone(geometry):
        a, half_b, square = _cone(points, geometry)
        root = square.clamp(min=1e-12).sqrt()
        far = (half_b + root) / a
        return torch.where(start_radius + far * growth >= 0, far, (half_b - root) / a)
    reach = INSIDE * growth.abs()
    if bool(distance > reach**2):
        axis = axis * (reach / distance.sqrt())
        focus, distance = centre - axis, axis.square().sum()
    offset = points - focus
    a = distance - growth**2
    half_b = offset @ axis + start_radius * growth
    c = offset.square().sum(-1) - start_radius**2
    root = (half_b * half_b - a * c).clamp(min=1e-12).sqrt()
    return (half_b - root) / torch.where(a < 0, a, -1e-12)


def cone_cover(points: Float[Tensor, "h w 2"], geometry: Float[Tensor, " 6"]) -> Float[Tensor, "#h #w"]:
    """Return 1 where a radial gradient paints, and 0 outside of the cone that it may be."""
    if not bool(geometry[2] > 0) or not _is_cone(geometry):
        return points.new_ones(1, 1)
    with torch.no_grad():
        growth, start_radius = geometry[2] - geometry[5], geometry[5]
        a, half_b, square = _cone(points, geometry)
        root = square.clamp(min=0).sqrt()
        radius = start_radius + torch.maximum((half_b + root) * growth, (half_b - root) * growth) / a
        return ((square >= 0) & (radius >= 0)).to(points)


def _is_cone(geometry: Float[Tensor, " 6"]) -> bool:
    """Tell whether a radial gradient's first circle is not inside of the other."""
    return bool((geometry[:2] - geometry[3:5]).norm() > OUTSIDE * (geometry[2] - geometry[5]).abs())


def _cone(
    points: Float[Tensor, "h w 2"], geometry: Float[Tensor, " 6"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Return the equation's first coefficient, half of its second one, negated, and a quarter of its discriminant."""
    axis, growth, start_radius = geometry[:2] - geometry[3:5], geometry[2] - geometry[5], geometry[5]
    offset = points - geometry[3:5]
    a = axis.square().sum() - growth**2
    half_b = offset @ axis + start_radius * growth
    return a, half_b, half_b * half_b - a * (offset.square().sum(-1) - start_radius**2)


def spread_parameter(t: Float[Tensor, "*b"], spread: str) -> Float[Tensor, "*b"]:
    """Bring a gradient's parameter into 0 … 1 by "pad", "reflect" or "repeat"."""
    if spread == "repeat":
        return t - t.detach().floor()
    if spread == "reflect":
        turn = (t.detach() * 0.5).floor()
        return 1 - (t - 2 * turn - 1).abs()
    return t


def pixel_footprint(t: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Return how much the parameter changes over one pixel."""
    slopes = [torch.gradient(t, dim=dim)[0] for dim in (0, 1) if t.shape[dim] > 1]
    square = sum((slope.square() for slope in slopes), torch.zeros_like(t))
    return square.clamp(min=1e-12).sqrt()


SHARP = 0.05
"""Neighbouring stops at least this far apart are taken for a smooth passage, whatever a pixel's size."""


def gradient_colors(
    t: Float[Tensor, "h w"], spread: str, offsets: Float[Tensor, " k"], values: Float[Tensor, "k c"]
) -> Float[Tensor, "c h w"]:
    """Interpolate between gradient stops, constant outside of them.

    The colour is the first stop's plus, for every two neighbours, their difference times how far t has come from one to
    the other. Where two stops share a place, and at the seam of a repeated gradient, that passage takes one pixel:
    edges inside of a gradient are as smooth as others, and have a derivative by their place.

    Args:
        t: Parameter of each pixel.
        spread: What follows outside of 0 … 1: "pad", "reflect" or "repeat".
        offsets: Places of the stops; one that lies before its predecessor counts as if it lay upon it.
        values: What to interpolate.
    """
    ordered = torch.cummax(offsets.clamp(0, 1), 0).values
    steps = ordered[1:] - ordered[:-1]
    seam = spread == "repeat"
    footprint = pixel_footprint(t) if seam or bool((steps < SHARP).any()) else torch.zeros_like(t)
    place = spread_parameter(t, spread)
    result = values[0][:, None, None].expand(-1, *t.shape)
    for k in range(values.shape[0] - 1):
        if bool(steps[k] < SHARP):
            middle = 0.5 * (ordered[k] + ordered[k + 1])
            done = ((place - middle) / torch.maximum(steps[k], footprint) + 0.5).clamp(0, 1)
        else:
            done = ((place - ordered[k]) / steps[k]).clamp(0, 1)
        result = result + (values[k + 1] - values[k])[:, None, None] * done
    if seam:
        beyond = (t - t.detach().round()) / footprint + 0.5
        passage = values[-1][:, None, None] + (values[0] - values[-1])[:, None, None] * beyond
        result = torch.where((beyond > 0) & (beyond < 1), passage, result)
    return result
