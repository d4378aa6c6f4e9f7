"""Numbers that come back from a device late."""

import pytest
import torch

from pds_nerfstudio.scenes import readback
from pds_nerfstudio.scenes.readback import Readback


class Slow:
    """Stands for the event of a GPU that has other work to do first."""

    def __init__(self) -> None:
        self.happened = False
        self.waited_for = False

    def query(self) -> bool:
        return self.happened

    def synchronize(self) -> None:
        self.happened = self.waited_for = True


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> list[Slow]:
    """The events of what is sent, in their order."""
    events: list[Slow] = []

    def send(values: torch.Tensor) -> tuple[torch.Tensor, Slow]:
        events.append(Slow())
        return values, events[-1]

    monkeypatch.setattr(readback, "send", send)
    return events


def numbers(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_a_cpus_numbers_are_there_at_once() -> None:
    queue: Readback[str] = Readback()
    queue.put("first", numbers(1.0, 2.0))
    assert list(queue.take()) == [("first", [1.0, 2.0])]
    assert list(queue.take(wait=True)) == []


def test_what_was_put_in_does_not_change_afterwards() -> None:
    queue: Readback[int] = Readback()
    value = torch.ones((), requires_grad=True)
    queue.put(0, [value])
    with torch.no_grad():
        value.zero_()
    assert list(queue.take()) == [(0, [1.0])]


def test_nobody_waits_until_too_many_are_outstanding(arrivals: list[Slow]) -> None:
    queue: Readback[int] = Readback(most_late=2)
    taken = []
    for step in range(4):
        queue.put(step, numbers(step))
        taken.append([label for label, _ in queue.take()])
    assert taken == [[], [], [0], [1]]
    assert [event.waited_for for event in arrivals] == [True, True, False, False]


def test_they_come_in_order_and_none_is_lost(arrivals: list[Slow]) -> None:
    queue: Readback[int] = Readback(most_late=5)
    for step in range(3):
        queue.put(step, numbers(10 * step))
    arrivals[1].happened = True
    assert list(queue.take()) == []
    arrivals[0].happened = True
    assert list(queue.take()) == [(0, [0.0]), (1, [10.0])]
    assert list(queue.take(wait=True)) == [(2, [20.0])]
