"""How long a run will take: each of its phases has a pace of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pds_nerfstudio.scenes.plan import EditPlan, Phase

_USUAL: dict[Phase, float] = {"reconstruct": 0.3, "edit": 1.0, "refine": 1.0}
"""Time of a step in edit steps, where it was not measured: splats of the embedded world on a CPU."""
_REDRAWING = 3.0
"""Time to redraw a view, in edit steps; the same."""
_LAST_STEPS = 20
_STEPS_TO_TRUST = 10
"""From so many steps on, what was measured of a phase counts more than what was guessed."""


@dataclass(frozen=True)
class TimeLeft:
    """An estimate of the time that a run still takes."""

    seconds: float = 0.0
    """0 if nothing was measured yet."""
    guessed: bool = False
    """Whether a phase that is to come was not measured yet."""


NOTHING_MEASURED = TimeLeft()


class Pace:
    """The time that steps take, by phase."""

    def __init__(self) -> None:
        self._seconds: dict[Phase, deque[float]] = {phase: deque(maxlen=_LAST_STEPS) for phase in _USUAL}
        self._phase: Phase = "reconstruct"

    def add(self, phase: Phase, seconds: float) -> None:
        """Note the time of a step."""
        self._phase = phase
        self._seconds[phase].append(seconds)

    @property
    def last(self) -> Sequence[float]:
        """Times of the last steps, all of the present phase."""
        return self._seconds[self._phase]

    def left(self, plan: EditPlan, next_step: int, views: int) -> TimeLeft:
        """Return the time from a step on.

        Args:
            plan: Which steps do what.
            next_step: The first of those that are left.
            views: That are redrawn before the first step that refines.
        """
        if not any(self._seconds.values()):
            return NOTHING_MEASURED
        ends = {"reconstruct": plan.start, "edit": plan.refine_start, "refine": plan.end}
        seconds, guessed, begun = 0.0, False, next_step
        for phase in _USUAL:
            steps, begun = max(0, ends[phase] - begun), max(begun, ends[phase])
            seconds += steps * self._of(phase)
            guessed |= bool(steps) and not self._seconds[phase]
        if next_step <= plan.refine_start < plan.end:
            seconds += views * _REDRAWING * self._of("edit")
        return TimeLeft(seconds, guessed)

    def _of(self, phase: Phase) -> float:
        """Return the time of a step: as measured, and the less was measured, the more as the other phases suggest."""
        own = self._seconds[phase]
        others = {name: some for name, some in self._seconds.items() if some and name != phase}
        if not others:
            return sum(own) / len(own)
        nearest = max(others, key=lambda name: len(others[name]))
        guess = _mean(others[nearest]) * _USUAL[phase] / _USUAL[nearest]
        missing = max(0, _STEPS_TO_TRUST - len(own))
        return (sum(own) + missing * guess) / (len(own) + missing)


def _mean(some: Sequence[float]) -> float:
    return sum(some) / len(some)
