"""Measure times and memory on a CPU or a GPU, for the scripts that measure speed."""

from __future__ import annotations

import itertools
import platform
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

Instant = Any
"""A point in time: seconds, or on a GPU an event among its work."""


def machine(device: torch.device) -> str:
    """Return what the figures were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def synchronize(device: torch.device) -> None:
    """Wait for all work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def instant(device: torch.device) -> Instant:
    """Return now; on a GPU, when the work up to here will be done. Wait for nothing."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def milliseconds(begin: Instant, end: Instant) -> float:
    """Return the time between two instants, once the work before them is done."""
    return 1e3 * (end - begin) if isinstance(begin, float) else begin.elapsed_time(end)


def median_milliseconds(function: Callable[[], object], device: torch.device, repeats: int, warm_up: int) -> float:
    """Return the median time of a call, after some that don't count."""
    for _ in range(warm_up):
        function()
    instants = [instant(device)]
    for _ in range(repeats):
        function()
        instants.append(instant(device))
    synchronize(device)
    return statistics.median(map(milliseconds, instants, instants[1:]))


class Timeline:
    """Named instants in a step, and the median time from one to the next.

    Args:
        device: Whose time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps: list[list[tuple[str, Instant]]] = []

    def begin(self) -> None:
        """Begin a new step."""
        now = instant(self._device)
        if self._steps:
            self._steps[-1].append(("between steps", now))
        self._steps.append([("", now)])

    def mark(self, part: str) -> None:
        """End the part of the step that has this name."""
        self._steps[-1].append((part, instant(self._device)))

    def medians(self, warm_up: int) -> dict[str, float]:
        """Return milliseconds of each part, and of the whole 'step', without the first steps and the last one."""
        synchronize(self._device)
        parts = defaultdict(list)
        for step in self._steps[warm_up:-1]:
            for (_, begin), (part, end) in itertools.pairwise(step):
                parts[part].append(milliseconds(begin, end))
            parts["step"].append(milliseconds(step[0][1], step[-1][1]))
        return {part: statistics.median(values) for part, values in parts.items()}


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak of the memory in use on a GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: torch.device) -> float:
    """Return the most memory in use since the reset; on a CPU, of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations a second in a large product of random matrices, sums and products counted apart."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2e3 * side**3 / median_milliseconds(lambda: a @ b, device, repeats=10, warm_up=3)
