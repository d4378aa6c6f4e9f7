"""Work of a GPU that is recorded once and run again with other numbers.

Python needs some ten to a hundred microseconds for each kernel that it launches, and many kernels take less. A CUDA
graph launches all of a function's kernels at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Kind = TypeVar("Kind")

_WARM_UPS = 2
"""Runs before the recording, in which kernels are compiled and libraries take their memory."""


class Replay:
    """A function of tensors on a GPU, recorded.

    Random numbers are drawn anew in each run. The random numbers of what comes after are those that would have been
    drawn without the recording.

    Args:
        function: Waits for nothing that the GPU computes, and does the same each time. What it reads beside its
            arguments must stay where it is in memory.
        inputs: Its arguments, all on one GPU; those that require gradients do so in the recording, too.
        pool: Whose memory is shared.

    Raises:
        RuntimeError: If the function can't be recorded.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Tensor]], Sequence[Tensor | None]],
        inputs: Sequence[Tensor],
        pool: Replay | None = None,
    ) -> None:
        self.inputs = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
        """Where the arguments of a run lie."""
        self.outputs: list[Tensor | None] = []
        """What the last run returned; the next one overwrites it."""
        self._graph = torch.cuda.CUDAGraph()
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        memory = None if pool is None else pool._graph.pool()
        with torch.random.fork_rng([torch.cuda.current_device()]), torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                function(self.inputs)
            try:
                # Other threads may go on as they please.
                with torch.cuda.graph(self._graph, pool=memory, stream=beside, capture_error_mode="thread_local"):
                    self.outputs = list(function(self.inputs))
            except RuntimeError:
                _let_go()
                raise
        here.wait_stream(beside)

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Run it with other arguments of the same shapes, and return its outputs, which the next run overwrites."""
        for own, given in zip(self.inputs, inputs, strict=True):
            # Not counted as a change: what else is recorded may pull at what was computed from these places.
            own.data.copy_(given)
        self._graph.replay()
        return self.outputs


class Kinds(Generic[Kind]):
    """What is known of each kind of work, of the last few kinds that came.

    Args:
        make: Of a kind that has not come before, or is forgotten.
        most: How many are remembered: a recording keeps memory of its own.
    """

    def __init__(self, make: Callable[[], Kind], most: int) -> None:
        self._make, self._most = make, most
        self._known: OrderedDict[Hashable, Kind] = OrderedDict()

    def __getitem__(self, key: Hashable) -> Kind:
        """Return what is known of a kind, which is the last that came from now on."""
        if key not in self._known:
            self._known[key] = self._make()
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return self._known[key]


def _let_go() -> None:
    """End what is left of a recording that failed: random numbers are drawn for one until another one ends."""
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
        torch.zeros(1, device="cuda")


def can_record(device: torch.device) -> bool:
    """Return whether work on a device can be recorded now."""
    return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()
