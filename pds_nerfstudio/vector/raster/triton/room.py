"""Memory for what only the device knows the number of: chords, edges and cells."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

_ALIGNED = 64
"""Multiples of so many cells keep planes aligned."""
_SPARE = 1.5
"""How much more room there is than was needed."""


@dataclass(frozen=True)
class Room:
    """For how many there is memory. A picture that needs more is not drawn; it is known afterwards (see `Needed`)."""

    chords: int
    """Along the middle of strokes."""
    edges: int
    """Around strokes."""
    cells: int
    """Of all windows."""

    @classmethod
    def for_(cls, needed: list[int]) -> "Room":
        """Return room for what pictures needed (chords, edges, cells), and for half as much again."""
        return cls(*(aligned(int(_SPARE * number) + 1) for number in needed))

    def holds(self, needed: list[int]) -> bool:
        """Return whether so many (chords, edges, cells) fit."""
        return all(n <= room for n, room in zip(needed, (self.chords, self.edges, self.cells), strict=True))


def aligned(number: int) -> int:
    """Return the next multiple of `_ALIGNED`."""
    return -(-number // _ALIGNED) * _ALIGNED


def places(counts: Int[Tensor, " n"], room: int | None) -> tuple[Int[Tensor, " n"], int, Int[Tensor, ""]]:
    """Return where the things of each owner begin, for how many there is memory, and how many there are.

    Args:
        counts: 0, and then how many things each owner has.
        room: For how many there is memory. If there are more, all begin at 0, as if there were none. None waits for
            the device to say how many there are.
    """
    firsts = counts.cumsum(0, dtype=torch.int32)
    needed = firsts[-1]
    if room is None:
        return firsts, int(needed), needed
    return firsts * (needed <= room), room, needed
