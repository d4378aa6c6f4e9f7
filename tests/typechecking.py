"""What checks types and shapes of tensors while the tests run (see `conftest.py`), and how a test does without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
from beartype import BeartypeConf, beartype

ROOT = Path(__file__).parents[1]
UNCHECKED = ("import triton", "scenes.run import", "import SceneModel")
"""What shows that a module is not checked (see `checked_modules`)."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is as good as a float


def checked_modules() -> list[str]:
    """Return the modules of the package that say shapes, but for three kinds.

    Triton reads the source of its kernels for itself. tyro fills the configurations of commands with placeholders. And
    from Python 3.12 on, a module of PyTorch is not seen to have all that the Protocols of a run ask for.
    """
    texts = {path: path.read_text("utf-8") for path in ROOT.glob("pds_nerfstudio/**/*.py") if path.name != "cli.py"}
    files = (
        path for path, text in texts.items() if "from jaxtyping" in text and not any(part in text for part in UNCHECKED)
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
