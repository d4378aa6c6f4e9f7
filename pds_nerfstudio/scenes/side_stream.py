"""Work whose answers Python waits for, on a stream of its own: there it need not wait for all that was asked before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class SideStream:
    """Does work beside what a device is at.

    Args:
        device: Where it works. Elsewhere than on a GPU, nobody waits anyway.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, work: Callable[[], Result], tensors_of: Callable[[Result], Iterable[Tensor]]) -> Result:
        """Return the result of work that reads nothing which has been computed since it was first done.

        Args:
            work: To do.
            tensors_of: Returns the tensors of its result.
        """
        if self._device.type != "cuda":
            return work()
        here = torch.cuda.current_stream(self._device)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device, priority=-1)  # before what is queued
            self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            result = work()
        here.wait_stream(self._stream)
        for tensor in tensors_of(result):
            if tensor.is_cuda:
                tensor.record_stream(here)  # its memory is not free before that stream has done with it
        return result
