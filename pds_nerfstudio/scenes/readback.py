"""Copy numbers from the GPU without waiting for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Num
from torch import Tensor

Label = TypeVar("Label")


@runtime_checkable
class Arrival(Protocol):
    """Tells when numbers have arrived; on a GPU, an event."""

    def query(self) -> bool:
        """Return whether they have."""

    def synchronize(self) -> object:
        """Wait until they have."""


class Readback(Generic[Label]):
    """A queue of numbers that a device computes: a CPU's can be taken at once, a GPU's a little later.

    To ask a GPU for a number is to wait for all of its work. With this queue, the next step can be started while the
    GPU still computes this one.

    Args:
        most_late: How many entries may be on their way before `take` waits for the oldest. It bounds how far the host
            runs ahead.
    """

    def __init__(self, most_late: int = 2) -> None:
        self._most_late = most_late
        self._outstanding: deque[tuple[Label, Tensor, Arrival | None]] = deque()

    def put(self, label: Label, numbers: list[Num[Tensor, ""]]) -> None:
        """Send for numbers, all on one device."""
        values, arrival = send(torch.stack([number.detach().float() for number in numbers]))
        self._outstanding.append((label, values, arrival))

    def take(self, wait: bool = False) -> Iterator[tuple[Label, list[float]]]:
        """Yield what has arrived, in the order it was put in.

        Args:
            wait: Take everything, also what has yet to arrive.
        """
        while self._outstanding:
            label, values, arrival = self._outstanding[0]
            if arrival is not None and not arrival.query():
                if not wait and len(self._outstanding) <= self._most_late:
                    return
                arrival.synchronize()
            self._outstanding.popleft()
            yield label, values.tolist()


def send(values: Tensor) -> tuple[Tensor, Arrival | None]:
    """Copy values to the host; they may be read after the event that is returned with them."""
    if not values.is_cuda:
        return values, None
    copies = values.to("cpu", non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record(torch.cuda.current_stream(values.device))
    return copies, arrival
