"""Gradients of rays that are rendered for the gradients' sake."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from pds_nerfstudio.cuda_graph import Kinds, Replay, can_record
from pds_nerfstudio.errors import first_line
from pds_nerfstudio.scenes.kernels.checked import TOLERANCE

RenderRays = Callable[[RayBundle], tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]]
"""Colours of rays, and two losses of each."""

_SEEN = 2
"""Batches of a kind that are rendered as they come, before the next is recorded."""
_KINDS = 3
"""Kinds of batches of which recordings are kept, each with memory of its own."""


class Pull(NamedTuple):
    """What is asked of rays."""

    colors: Float[Tensor, "rays 3"]
    """Gradients on their colours."""
    first: Float[Tensor, "rays"]
    """Gradients on the first of their losses."""
    second: Float[Tensor, "rays"]
    """Gradients on the second."""
    shares: Float[Tensor, "rays"]
    """The share of each ray's losses in the sums."""


@dataclass
class _Kind:
    """Batches of as many rays, rendered alike."""

    seen: int = 0
    """How many there were."""
    recorded: Replay | None = None
    """What renders them, if it has been recorded."""


class RayGradients:
    """Renders rays with a graph, and returns the gradients of what is asked of them.

    That takes some thousand kernels, however few rays there are. On a GPU, batches that come again are recorded, and
    launched at once (see `cuda_graph`).

    Args:
        render: Renders rays. What it reads must stay where it is in memory.
        state: What else decides how, such as whether the model is in training.
    """

    def __init__(self, render: RenderRays, state: Callable[[], Hashable] = lambda: None) -> None:
        self.render = render
        self._state = state
        self._kinds = Kinds(_Kind, _KINDS)
        self._can_record = True

    def prepare(self, rays: RayBundle, wanted: Sequence[Tensor], autocast: dict[str, Any]) -> None:
        """Record what such rays need if as many have come before, and it can be recorded.

        That is not done when gradients are asked for: torch computes them in a thread of its own, in which numbers that
        nerfstudio makes on the CPU could not be made on the GPU.

        Args:
            rays: Any, as many as those to come.
            wanted: By what gradients will be wanted.
            autocast: Arguments of `torch.autocast`.
        """
        if not (self._can_record and can_record(rays.origins.device)):
            return
        kind = self._kind(rays, wanted, autocast)
        if kind.recorded is None and kind.seen >= _SEEN:
            kind.recorded = self._record(rays, wanted, autocast)
        kind.seen += 1

    def __call__(
        self, rays: RayBundle, pull: Pull, wanted: Sequence[Tensor], autocast: dict[str, Any]
    ) -> tuple[Float[Tensor, "2"], list[Tensor | None]]:
        """Return the sums of both losses, and gradients.

        Args:
            rays: In any number.
            pull: What is asked of them.
            wanted: By what.
            autocast: Arguments of `torch.autocast`.
        """
        inputs = [*_tensors(rays), *(t.float() for t in pull)]
        recorded = self._kind(rays, wanted, autocast).recorded
        if recorded is not None:
            found = [None if t is None else t.clone() for t in recorded(inputs)]
        else:
            found = self._compute(rays, inputs, wanted, autocast)
        sums, *gradients = found
        assert sums is not None
        return sums, gradients

    def _kind(self, rays: RayBundle, wanted: Sequence[Tensor], autocast: dict[str, Any]) -> _Kind:
        shapes = tuple((t.shape, t.dtype, t.device) for t in _tensors(rays))
        key = (shapes, tuple(t.data_ptr() for t in wanted), tuple(autocast.items()), self._state())
        return self._kinds[key]

    def _compute(
        self, like: RayBundle, inputs: Sequence[Tensor], wanted: Sequence[Tensor], autocast: dict[str, Any]
    ) -> list[Tensor | None]:
        *of_rays, colors, first, second, shares = inputs
        with torch.enable_grad(), torch.autocast(**autocast):
            outputs = self.render(_with_tensors(like, of_rays))
        sums = torch.stack([(shares * loss.detach()).sum() for loss in outputs[1:]]).to(shares)
        pairs = zip(outputs, (colors, first, second), strict=True)
        ends, given = zip(*((x, pull.to(x)) for x, pull in pairs if x.requires_grad), strict=True)
        return [sums, *torch.autograd.grad(ends, wanted, given, allow_unused=True)]

    def _record(self, rays: RayBundle, wanted: Sequence[Tensor], autocast: dict[str, Any]) -> Replay | None:
        device, n = rays.origins.device, len(rays)
        inputs = [*_tensors(rays), torch.ones(n, 3, device=device), *torch.ones(3, n, device=device)]
        uncached = {**autocast, "cache_enabled": False}  # weights in half precision are made anew in each run

        def compute(given: Sequence[Tensor]) -> list[Tensor | None]:
            with device:  # nerfstudio makes some numbers on the CPU otherwise, and copies them
                return self._compute(rays, given, wanted, uncached)

        try:
            recorded = Replay(compute, inputs)
            with torch.random.fork_rng([torch.cuda.current_device()]):
                ours = [None if t is None else t.clone() for t in recorded(inputs)]
            with torch.random.fork_rng([torch.cuda.current_device()]):
                usual = self._compute(rays, inputs, wanted, autocast)
            off = _distance(ours, usual)
            if off > TOLERANCE:
                raise RuntimeError(f"its results are {off:.0%} off")
        except RuntimeError as error:  # Drivers and libraries fail in ways of their own.
            self._can_record = False
            warnings.warn(f"Rays are rendered kernel by kernel, more slowly ({first_line(error)}).", stacklevel=4)
            return None
        return recorded


def _distance(ours: Sequence[Tensor | None], usual: Sequence[Tensor | None]) -> float:
    """Return how far some tensors are from others, relative to their lengths; infinite if one is missing."""
    off = 0.0
    for found, expected in zip(ours, usual, strict=True):
        if found is None or expected is None:
            off = max(off, 0.0 if found is expected else float("inf"))
        elif expected.isfinite().all():
            off = max(off, float((found - expected).norm() / expected.norm().clamp_min(1e-30)))
    return off


def _tensors(rays: RayBundle) -> list[Tensor]:
    """Return all tensors of rays, in an order of their own."""
    values = [getattr(rays, field.name) for field in fields(rays)] + [rays.metadata[name] for name in rays.metadata]
    return [value for value in values if isinstance(value, Tensor)]


def _with_tensors(like: RayBundle, tensors: Sequence[Tensor]) -> RayBundle:
    """Return rays made of other tensors than those that they are like."""
    left = iter(tensors)
    values = {field.name: getattr(like, field.name) for field in fields(like)}
    values |= {name: next(left) for name, value in values.items() if isinstance(value, Tensor)}
    values["metadata"] = {
        name: next(left) if isinstance(value, Tensor) else value for name, value in like.metadata.items()
    }
    return RayBundle(**values)
