"""A fast function that is compared once with the plain one that it replaces, before its results are used.

Kernels run on GPUs, drivers and compilers on which nobody has tested them. A kernel that can't be built there, or gives
wrong results, must neither end an edit nor spoil it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pds_nerfstudio.errors import first_line

Input = TypeVar("Input")
Output = TypeVar("Output")

TOLERANCE = 0.05
"""Distance from the plain result, relative to its length, that rounding in half precision may cause."""


class CheckedFunction(Generic[Input, Output]):
    """The fast function if, in the first call, it agrees with the plain one on a part of the input; else the plain one.

    Args:
        fast: Computes what `plain` does.
        plain: Its reference.
        name: Of what is computed, for the warning.
        few: A small part of an input.
        numbers: The tensors in an output.
    """

    def __init__(
        self,
        fast: Callable[[Input], Output],
        plain: Callable[[Input], Output],
        name: str,
        few: Callable[[Input], Input],
        numbers: Callable[[Output], Iterable[Tensor]],
    ) -> None:
        self._fast, self._plain, self._name, self._few, self._numbers = fast, plain, name, few, numbers
        self._chosen: Callable[[Input], Output] | None = None

    @property
    def is_fast(self) -> bool:
        """Whether the fast function is in use. Until the first call it is not."""
        return self._chosen is self._fast and self._fast != self._plain

    def __call__(self, x: Input) -> Output:
        """Return what `plain` computes, up to rounding."""
        if self._chosen is None:
            self._chosen = self._choose(self._few(x))
        return self._chosen(x)

    @torch.no_grad()
    def _choose(self, few: Input) -> Callable[[Input], Output]:
        try:
            # Both draw the same random numbers, and the run draws what it would have drawn anyway.
            devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
            with torch.random.fork_rng(devices):
                ours_of_few = self._numbers(self._fast(few))
            with torch.random.fork_rng(devices):
                pairs = zip(ours_of_few, self._numbers(self._plain(few)), strict=True)
            distances = [float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30)) for ours, theirs in pairs]
        except Exception as error:  # Compilers and drivers fail in ways of their own.
            reason = first_line(error)
        else:
            if max(distances) <= TOLERANCE:
                return self._fast
            reason = f"its results are {max(distances):.0%} off"
        warnings.warn(
            f"The fast way to compute {self._name} does not work here ({reason}): PyTorch computes them, more slowly.",
            stacklevel=3,
        )
        return self._plain
