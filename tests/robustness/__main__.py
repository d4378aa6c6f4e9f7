"""End runs in many ways, and print what came of it."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from tests.robustness.trials import WAYS, Trials


@dataclass
class Options:
    """End runs at random moments of everything they do, by kills, signals, full disks and closed pipes."""

    trials: int = len(WAYS)
    """How many runs to end."""
    seed: int = 0
    """Of the moments."""
    keep: Path | None = None
    """Folder in which to leave the runs where something was wrong."""


def main(options: Options) -> None:
    """Run the trials."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(options.keep or Path(folder), options.seed)
        with suppress(KeyboardInterrupt):
            for number in trials.run(options.trials):
                print(f"{number} of {options.trials}, {len(trials.found)} wrong", *trials.found[-1:], file=sys.stderr)
    print(trials.table())
    sys.exit(bool(trials.found))


if __name__ == "__main__":
    main(tyro.cli(Options))
