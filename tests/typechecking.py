"""What checks types and shapes of tensors while the tests run (see `conftest.py`), and how a test does without."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is as good as a float


@contextmanager
def unchecked() -> Iterator[None]:
    """Let wrong types and shapes through: for tests of what the code itself says of them, or of compiled code."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
