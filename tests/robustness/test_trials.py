"""Runs that are ended at random moments lose nothing; python -m tests.robustness --trials 200 ends many more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches processes as Linux has them")
def test_nothing_is_lost() -> None:
    # In a process of its own, without threads, which can therefore be forked.
    command = [sys.executable, "-m", "tests.robustness", "--trials", "5", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    assert "nothing was lost" in result.stdout
