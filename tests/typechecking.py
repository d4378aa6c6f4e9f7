"""What checks types and shapes of tensors while the tests run (see `conftest.py`), and how a test does without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
from beartype import BeartypeConf, beartype

ROOT = Path(__file__).parents[1]

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is as good as a float


def checked_modules() -> list[str]:
    """Return the modules of the package, but for two kinds.

    Triton reads the source of its kernels for itself, and tyro fills the configurations of commands with placeholders.
    """
    files = (
        path
        for path in ROOT.glob("pds_nerfstudio/**/*.py")
        if path.name not in ("cli.py", "__init__.py") and "import triton" not in path.read_text("utf-8")
    )
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]


@contextmanager
def unchecked() -> Iterator[None]:
    """Let wrong types and shapes through: for tests of what the code itself says of them, or of compiled code."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
