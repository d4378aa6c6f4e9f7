"""Back-propagating an image through some of its rays in place of all, without bias.

Rendering an image is cheap against back-propagating it, and where the image's gradient is small a ray has little to
say. So a view is rendered whole without a graph; when its gradient is known, n rays i are drawn with probabilities p_i
that follow the gradient's size, rendered again with a graph, and weighted with 1 / (n·p_i). The mean over the draws is
the gradient of all rays (importance sampling).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from pds_nerfstudio.scenes.models.ray_gradients import Pull, RayGradients

EVEN_SHARE = 0.5
"""Share of the rays that is drawn evenly. It bounds every weight to 1 / EVEN_SHARE times that of an even draw: what
else a ray decides, such as the regularisers' gradient, is never left to a few rays of huge weight."""

_RAYS_FOR_LOSSES = 4096
"""Rays, evenly spread over the view, over which the losses of the first step are averaged."""

RenderColors = Callable[[RayBundle], Float[Tensor, "rays 3"]]
"""Colours of rays, without gradients."""


@dataclass
class LastLosses:
    """Estimates of the two losses' means, from the rays of the last step.

    The values of the losses are for the log alone: no rays are rendered for them but in the first step. Their gradients
    are those of each step's own rays.
    """

    values: Float[Tensor, "2"] | None = None
    """The two means; None before the first step."""


def ray_probabilities(gradient: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays"]:
    """Return p_i = (1 − λ)·‖g_i‖ / Σ‖g‖ + λ/N with λ = `EVEN_SHARE`, in double precision; even without a gradient.

    Args:
        gradient: On each ray's colour.
    """
    size = gradient.double().norm(dim=-1).nan_to_num(0, 0, 0)
    total = size.sum()
    even = torch.full_like(size, 1 / len(size))
    return torch.where(total > 0, torch.lerp(size / total.clamp_min(1e-300), even, EVEN_SHARE), even)


def systematic_sample(probabilities: Float[Tensor, "rays"], n: int, offset: Float[Tensor, ""]) -> Int[Tensor, "n"]:
    """Draw n rays, ray i among them n·p_i times on average, and never more than one time more or less than that.

    Systematic sampling: the points (k + u)/n, k = 0 … n−1, with one random u for all, fall into intervals of lengths
    p_i. It varies less than independent draws and needs no more than one random number.

    Args:
        probabilities: Sum to one.
        n: How many.
        offset: u, uniform in [0, 1).
    """
    points = (torch.arange(n, device=probabilities.device, dtype=torch.float64) + offset) / n
    ends = probabilities.double().cumsum(0)
    return torch.searchsorted(ends, points * ends[-1], right=True).clamp_max(len(ends) - 1)


def render_through_sampled_rays(
    gradients: RayGradients,
    render_colors: RenderColors,
    rays: RayBundle,
    n: int,
    rays_per_chunk: int,
    colors_per_chunk: int,
    parameters: Sequence[Tensor],
    last: LastLosses,
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, ""], Float[Tensor, ""]]:
    """Return all rays' colours and the means of their two losses, back-propagated through n rays.

    What is drawn at random for a ray is drawn anew when the ray is rendered again: the gradient is that of a view as
    good as the first. No rendering holds more than a chunk at a time. The losses' values are the estimates of the step
    before.

    Args:
        gradients: Renders rays with gradients.
        render_colors: Renders the colours alone.
        rays: Of the whole view, row by row, or any others.
        n: How many rays to back-propagate; if there are no more, all of them, each once.
        rays_per_chunk: How many to render at a time with gradients.
        colors_per_chunk: How many to render at a time without.
        parameters: What gradients are wanted for.
        last: The losses' values; the backward pass notes those of its rays there, for the next step.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    chunks = rays_per_chunk, colors_per_chunk
    outputs = _SampledRays.apply(gradients, render_colors, rays, n, chunks, last, wanted, *wanted)
    return cast(tuple[Tensor, Tensor, Tensor], outputs)


class _SampledRays(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gradients: RayGradients,
        render_colors: RenderColors,
        rays: RayBundle,
        n: int,
        chunks: tuple[int, int],
        last: LastLosses,
        wanted: list[Tensor],
        *_: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.gradients, ctx.rays, ctx.n, ctx.last, ctx.wanted = gradients, rays, n, last, wanted
        ctx.rays_per_chunk, per_chunk = chunks
        device = wanted[0].device
        ctx.autocast = {
            "device_type": device.type,
            "dtype": torch.get_autocast_dtype(device.type),
            "enabled": torch.is_autocast_enabled(device.type),
        }
        gradients.prepare(rays[: min(n, ctx.rays_per_chunk)], wanted, ctx.autocast)
        colors = torch.cat([render_colors(rays[start : start + per_chunk]) for start in range(0, len(rays), per_chunk)])
        if last.values is None:
            # A resumed run has a first step too: it shall draw what it would have drawn anyway.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                few = rays[:: math.ceil(len(rays) / _RAYS_FOR_LOSSES)]
                starts = range(0, len(few), ctx.rays_per_chunk)
                parts = [gradients.render(few[start : start + ctx.rays_per_chunk])[1:] for start in starts]
            last.values = torch.stack([torch.cat(part).mean() for part in zip(*parts, strict=True)])
        first, second = last.values.clone().unbind()
        return colors, first, second

    @staticmethod
    def backward(ctx: Any, on_colors: Tensor, on_first: Tensor, on_second: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        chosen, weights = _choose(ctx, on_colors)
        # If a number anywhere in the image is not finite, it must be seen in the result, whichever rays are drawn.
        on_colors = on_colors[chosen] + 0 * on_colors.sum()
        sums: list[Tensor | None] = [None] * len(ctx.wanted)
        means = torch.zeros(2, device=on_colors.device)
        shares = weights / len(ctx.rays)
        pull = Pull(weights[:, None] * on_colors, shares * on_first, shares * on_second, shares)
        for part in torch.arange(len(chosen), device=chosen.device).split(ctx.rays_per_chunk):
            of_part = Pull(*(t[part] for t in pull))
            losses, gradients = ctx.gradients(ctx.rays[chosen[part]], of_part, ctx.wanted, ctx.autocast)
            means += losses.to(means)
            for index, gradient in enumerate(gradients):
                if gradient is not None:
                    so_far = sums[index]
                    sums[index] = gradient if so_far is None else so_far + gradient
        ctx.last.values = means
        return (None,) * 7 + tuple(sums)


def _choose(ctx: Any, on_colors: Float[Tensor, "rays 3"]) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Return the rays to back-propagate, and what each counts for."""
    if ctx.n >= len(ctx.rays):
        return torch.arange(len(ctx.rays), device=on_colors.device), on_colors.new_ones(len(ctx.rays))
    probabilities = ray_probabilities(on_colors)
    offset = torch.rand((), device=on_colors.device, dtype=torch.float64)
    chosen = systematic_sample(probabilities, ctx.n, offset)
    return chosen, 1 / (ctx.n * probabilities[chosen])
