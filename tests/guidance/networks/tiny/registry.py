"""The kinds of models that there are builders for."""

from collections.abc import Callable
from pathlib import Path

Builder = Callable[[Path], None]
"""Saves a model in a folder, which it makes."""

KINDS: dict[str, Builder] = {}
"""Builders by the names of kinds, in the order of their definition."""


def kind(builder: Builder) -> Builder:
    """Register a builder under its function's name."""
    KINDS[builder.__name__] = builder
    return builder
