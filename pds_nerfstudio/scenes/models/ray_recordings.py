"""Work on rays that comes again and again: on a GPU recorded, and launched at once (see `cuda_graph`)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pds_nerfstudio.cuda_graph import Kinds, Replay, can_record
from pds_nerfstudio.errors import first_line
from pds_nerfstudio.scenes.kernels.checked import TOLERANCE
from pds_nerfstudio.scenes.ray_bundles import tensors_of

Work = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]
"""From tensors to tensors, all on one device."""

_SEEN = 2
"""Pieces of work of a kind that are done as they come, before the next is recorded."""
_KINDS = 3
"""Kinds of which recordings are kept, each with memory of its own."""


@dataclass
class _Kind:
    """Pieces of work that differ in nothing but numbers."""

    seen: int = 0
    """How many there were."""
    recorded: Replay | None = None
    """What does them, if it has been recorded."""


class RayRecordings:
    """Recordings of one work on rays.

    Args:
        what: Is done to rays, for the warning where it can't be recorded: rays are so and so, kernel by kernel.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._kinds = Kinds(_Kind, _KINDS)
        self._can_record = True

    def of_kind(self, kind: Hashable) -> Replay | None:
        """Return the recording of a kind, if there is one."""
        return self._kinds[kind].recorded

    def prepare(
        self, kind: Hashable, device: torch.device, work: Work, inputs: Callable[[], Sequence[Tensor]]
    ) -> Replay | None:
        """Return the recording of a kind; record it if enough of its pieces have come before, and it can be.

        Args:
            kind: All that decides what the work is, but the numbers.
            device: Where it is done.
            work: Waits for nothing that the device computes.
            inputs: Returns arguments as those to come, on which the recording is compared with the work itself.
        """
        if not (self._can_record and can_record(device)):
            return None
        known = self._kinds[kind]
        if known.recorded is None and known.seen >= _SEEN:
            known.recorded = self._record(device, work, inputs())
        known.seen += 1
        return known.recorded

    def _record(self, device: torch.device, work: Work, inputs: Sequence[Tensor]) -> Replay | None:
        def on_device(given: Sequence[Tensor]) -> Sequence[Tensor | None]:
            with _SpacedOn(device):
                return work(given)

        try:
            recorded = Replay(on_device, inputs)
            # Both draw the same random numbers, and the run draws what it would have drawn anyway.
            with torch.random.fork_rng([torch.cuda.current_device()]):
                ours = [None if t is None else t.clone() for t in recorded(inputs)]
            with torch.random.fork_rng([torch.cuda.current_device()]):
                usual = work(inputs)
            off = _distance(ours, usual)
            if off > TOLERANCE:
                raise RuntimeError(f"its results are {off:.0%} off")
        except RuntimeError as error:  # Drivers and libraries fail in ways of their own.
            self._can_record = False
            warnings.warn(f"Rays are {self._what} kernel by kernel, more slowly ({first_line(error)}).", stacklevel=5)
            return None
        return recorded


class _SpacedOn(TorchFunctionMode):
    """Evenly spaced numbers are made on a device, and not on the CPU and copied, as nerfstudio does.

    `with device` would do, had not transformers exchanged `torch.linspace` while PyTorch noted what it is to look for.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:
            given.setdefault("device", self._device)
        return func(*args, **given)


def _distance(ours: Sequence[Tensor | None], usual: Sequence[Tensor | None]) -> float:
    """Return how far some tensors are from others, relative to their lengths; infinite if one is missing."""
    off = 0.0
    for found, expected in zip(ours, usual, strict=True):
        if found is None or expected is None:
            off = max(off, 0.0 if found is expected else float("inf"))
        elif expected.isfinite().all():
            off = max(off, float((found - expected).norm() / expected.norm().clamp_min(1e-30)))
    return off


def kind_of(rays: RayBundle, weights: Sequence[Tensor], *others: Hashable) -> Hashable:
    """Return what decides how rays are worked on, but their numbers.

    Args:
        rays: The rays.
        weights: That are read where they lie in memory.
        others: Whatever else.
    """
    shapes = tuple((t.shape, t.dtype, t.device) for t in tensors_of(rays))
    return shapes, tuple(t.data_ptr() for t in weights), *others
