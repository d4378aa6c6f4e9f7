"""nerfacto's samples along rays in three Triton kernels a round, where no gradients are wanted.

A round of proposals is, for each ray: densities to weights, weights to a cumulative distribution, and points of equal
share of it (Barron et al. 2022, mip-NeRF 360, section 3). In PyTorch that is some sixty tensors of the size of all
samples, which take three times as long as the networks themselves. Random numbers are drawn as nerfstudio draws them,
so the samples are the same up to rounding.

Importing this needs Triton (see `hash_grid_triton`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.model_components.ray_samplers import (
    PDFSampler,
    ProposalNetworkSampler,
    UniformLinDispPiecewiseSampler,
    UniformSampler,
)
from torch import Tensor

from pds_nerfstudio.scenes.kernels.hash_grid_triton import runs_in_triton
from pds_nerfstudio.scenes.kernels.sampling import SampleFn, usual_samples

_RAYS = 4
"""Rays of which a program makes the distributions."""
_BLOCK = 256
"""Samples that a program of the others places."""
_LEAST_SUM = 1e-5
"""Weights of a ray are raised to this sum, as in `PDFSampler`."""


@triton.jit
def _distance(spacing, near, far, PIECEWISE: tl.constexpr):
    """Return the distance along a ray at a place in 0 … 1; see `UniformLinDispPiecewiseSampler`."""
    if PIECEWISE:
        near = tl.where(near < 1, near / 2, 1 - 1 / (2 * near))
        far = tl.where(far < 1, far / 2, 1 - 1 / (2 * far))
    place = spacing * far + (1 - spacing) * near
    if PIECEWISE:
        place = tl.where(place < 0.5, 2 * place, 1 / (2 - 2 * place))
    return place


@triton.jit
def _ends(edges, ray, sample, near, far, some, SAMPLES: tl.constexpr, PIECEWISE: tl.constexpr):
    """Return the distances at which samples start and end."""
    edge = edges + ray * (SAMPLES + 1) + sample
    start = _distance(tl.load(edge, mask=some, other=0.0), near, far, PIECEWISE)
    return start, _distance(tl.load(edge + 1, mask=some, other=0.0), near, far, PIECEWISE)


@triton.jit
def _optical_depth(densities, edges, row, sample, near, far, some, SAMPLES: tl.constexpr, PIECEWISE: tl.constexpr):
    """Return densities times the lengths of their samples."""
    start, end = _ends(edges, row, sample, near, far, some, SAMPLES, PIECEWISE)
    return (end - start) * tl.load(densities + row * SAMPLES + sample, mask=some, other=0.0)


@triton.jit
def _cumulate(
    densities,
    edges,
    nears,
    fars,
    cumulated,
    rays,
    anneal,
    padding,
    least_sum,
    SAMPLES: tl.constexpr,
    PADDED: tl.constexpr,
    RAYS: tl.constexpr,
    PIECEWISE: tl.constexpr,
    ANNEALED: tl.constexpr,
):
    """Write the share of each ray's weights up to the end of each sample. One program for RAYS rays."""
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)[:, None]
    sample = tl.arange(0, PADDED)[None, :]
    near, far = tl.load(nears + ray, mask=ray < rays, other=0.5), tl.load(fars + ray, mask=ray < rays, other=1.0)
    some = (ray < rays) & (sample < SAMPLES)
    row = ray.to(tl.int64)
    depth = _optical_depth(densities, edges, row, sample, near, far, some, SAMPLES, PIECEWISE)
    # What lies before a sample is summed by itself: a difference of sums would lose it beside a dense sample.
    behind = some & (sample > 0)
    before = _optical_depth(densities, edges, row, sample - 1, near, far, behind, SAMPLES, PIECEWISE)
    before = tl.cumsum(tl.where(behind, before, 0.0), 1)
    weight = (1 - tl.exp(-depth)) * tl.exp(-before)
    weight = tl.where(weight == weight, weight, 0.0)
    if ANNEALED:
        nothing = tl.where(anneal == 0, weight * 0 + 1.0, weight * 0)
        weight = tl.where(weight > 0, tl.exp(anneal * tl.log(tl.maximum(weight, 1e-38))), nothing)
    weight = tl.where(some, weight + padding, 0.0)
    total = tl.sum(weight, 1)[:, None]
    missing = tl.maximum(least_sum - total, 0.0)
    weight = tl.where(some, weight + missing / SAMPLES, 0.0)
    share = tl.minimum(tl.cumsum(weight / (total + missing), 1), 1.0)
    tl.store(cumulated + row * SAMPLES + sample, share, mask=some)


@triton.jit
def _invert(
    cumulated,
    edges,
    jitter,
    resampled,
    total,
    SAMPLES: tl.constexpr,
    NEW: tl.constexpr,
    JITTERS: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the NEW + 1 edges of new samples at equal shares of the weights. One program for BLOCK edges."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    some = at < total
    ray, edge = at // (NEW + 1), at % (NEW + 1)
    # Of a ray's random numbers there are one for all of its edges, one for each, or none, which is the middle.
    shift = edge * 0 + 0.5
    if JITTERS > 0:
        shift = tl.load(jitter + ray * JITTERS + edge % JITTERS, mask=some, other=0.5)
    share = (edge.to(tl.float32) + shift) / (NEW + 1)
    row = cumulated + ray * SAMPLES
    # How many samples end at or before that share.
    low, high = ray * 0, ray * 0 + SAMPLES
    for _ in tl.static_range(STEPS):
        middle = (low + high) // 2
        searching = some & (low < high)
        passed = searching & (tl.load(row + middle, mask=searching, other=0.0) <= share)
        low, high = tl.where(passed, middle + 1, low), tl.where(searching & (passed == 0), middle, high)
    above = tl.minimum(low + 1, SAMPLES)
    start = tl.load(row + low - 1, mask=some & (low > 0), other=0.0)
    end = tl.load(row + above - 1, mask=some, other=1.0)
    old = edges + ray * (SAMPLES + 1)
    first, last = tl.load(old + low, mask=some, other=0.0), tl.load(old + above, mask=some, other=0.0)
    width = end - start
    part = tl.where(width > 0, (share - start) / tl.where(width > 0, width, 1.0), tl.where(share > start, 1.0, 0.0))
    tl.store(resampled + at, first + tl.minimum(tl.maximum(part, 0.0), 1.0) * (last - first), mask=some)


@triton.jit
def _place(
    origins,
    directions,
    nears,
    fars,
    edges,
    positions,
    total,
    SAMPLES: tl.constexpr,
    BLOCK: tl.constexpr,
    PIECEWISE: tl.constexpr,
):
    """Write the positions of the middles of samples. One program for BLOCK samples."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    some = at < total
    ray, sample = at // SAMPLES, at % SAMPLES
    near, far = tl.load(nears + ray, mask=some, other=0.5), tl.load(fars + ray, mask=some, other=1.0)
    start, end = _ends(edges, ray, sample, near, far, some, SAMPLES, PIECEWISE)
    distance = (start + end) / 2
    for axis in tl.static_range(3):
        origin = tl.load(origins + 3 * ray + axis, mask=some, other=0.0)
        direction = tl.load(directions + 3 * ray + axis, mask=some, other=0.0)
        tl.store(positions + 3 * at + axis, origin + direction * distance, mask=some)


class _Sampler:
    def __init__(self, sampler: ProposalNetworkSampler) -> None:
        self._sampler = sampler
        self._piecewise = isinstance(sampler.initial_sampler, UniformLinDispPiecewiseSampler)

    @torch.no_grad()
    def __call__(self, rays: RayBundle, density_fns: Sequence[Callable[..., Tensor]]) -> RaySamples:
        if not runs_in_triton(rays.origins):
            return usual_samples(self._sampler, rays, density_fns)
        assert rays.nears is not None and rays.fars is not None
        numbers = (rays.origins, rays.directions, rays.nears, rays.fars)
        origins, directions, nears, fars = (t.float().contiguous() for t in numbers)
        rounds = self._sampler.num_proposal_network_iterations
        counts = [*self._sampler.num_proposal_samples_per_ray[:rounds], self._sampler.num_nerf_samples_per_ray]
        edges = self._first_edges(len(rays), counts[0], origins)
        for density_fn, count, following in zip(density_fns, counts, counts[1:], strict=False):
            positions = origins.new_empty(len(rays), count, 3)
            grid = (triton.cdiv(len(rays) * count, _BLOCK),)
            _place[grid](
                origins,
                directions,
                nears,
                fars,
                edges,
                positions,
                len(rays) * count,
                SAMPLES=count,
                BLOCK=_BLOCK,
                PIECEWISE=self._piecewise,
            )
            edges = self._resampled(density_fn(positions), edges, nears, fars, count, following)
        return self._samples(rays, edges)

    def _first_edges(self, rays: int, count: int, like: Tensor) -> Float[Tensor, "rays edges"]:
        """Return evenly spaced edges, each shifted up to halfway to its neighbours while training."""
        first = self._sampler.initial_sampler
        even = torch.linspace(0, 1, count + 1, device=like.device)
        if not (first.train_stratified and first.training):
            return even.repeat(rays, 1)
        jitter = torch.rand((rays, 1 if first.single_jitter else count + 1), device=like.device)
        middles = (even[1:] + even[:-1]) / 2
        low = torch.cat([even[:1], middles])
        return torch.addcmul(low, torch.cat([middles, even[-1:]]) - low, jitter)

    def _resampled(
        self, densities: Tensor, edges: Tensor, nears: Tensor, fars: Tensor, count: int, following: int
    ) -> Float[Tensor, "rays edges"]:
        pdf, rays = self._sampler.pdf_sampler, len(edges)
        cumulated, resampled = edges.new_empty(rays, count), edges.new_empty(rays, following + 1)
        _cumulate[(triton.cdiv(rays, _RAYS),)](
            densities.float().contiguous(),
            edges,
            nears,
            fars,
            cumulated,
            rays,
            float(self._sampler._anneal),
            float(pdf.histogram_padding),
            _LEAST_SUM,
            SAMPLES=count,
            PADDED=triton.next_power_of_2(count),
            RAYS=_RAYS,
            PIECEWISE=self._piecewise,
            ANNEALED=bool(self._sampler._anneal != 1),
        )
        jitters = 0
        if pdf.train_stratified and pdf.training:
            jitters = 1 if pdf.single_jitter else following + 1
        jitter = torch.rand((rays, jitters), device=edges.device) if jitters else edges
        total = resampled.numel()
        _invert[(triton.cdiv(total, _BLOCK),)](
            cumulated,
            edges,
            jitter,
            resampled,
            total,
            SAMPLES=count,
            NEW=following,
            JITTERS=jitters,
            STEPS=math.ceil(math.log2(count + 1)),
            BLOCK=_BLOCK,
        )
        return resampled

    def _samples(self, rays: RayBundle, edges: Float[Tensor, "rays edges"]) -> RaySamples:
        first = self._sampler.initial_sampler
        near, far = first.spacing_fn(rays.nears), first.spacing_fn(rays.fars)

        def distance(place: Tensor) -> Tensor:
            return cast(Tensor, first.spacing_fn_inv(place * far + (1 - place) * near))

        distances = distance(edges)
        return rays.get_ray_samples(
            bin_starts=distances[..., :-1, None],
            bin_ends=distances[..., 1:, None],
            spacing_starts=edges[..., :-1, None],
            spacing_ends=edges[..., 1:, None],
            spacing_to_euclidean_fn=distance,
        )


def sampler_without_gradients(sampler: ProposalNetworkSampler) -> SampleFn:
    """Return what samples rays as a sampler does, as fast as it goes without gradients.

    Args:
        sampler: If it is not of nerfacto's usual kind, the result is the sampler itself.
    """
    if _is_known(sampler):
        return _Sampler(sampler)
    return partial(usual_samples, sampler)


def _is_known(sampler: Any) -> bool:
    return (
        type(sampler) is ProposalNetworkSampler
        and type(sampler.initial_sampler) in (UniformLinDispPiecewiseSampler, UniformSampler)
        and type(sampler.pdf_sampler) is PDFSampler
        and not sampler.pdf_sampler.include_original
    )
