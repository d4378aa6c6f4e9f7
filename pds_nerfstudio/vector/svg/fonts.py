"""The fonts that text is drawn in: those of the machine, and matplotlib's where it has none."""

from functools import lru_cache
from pathlib import Path
from typing import Any

_GENERIC = {
    "serif_family": ("Times New Roman", "Liberation Serif", "Noto Serif", "DejaVu Serif"),
    "sans_serif_family": ("Arial", "Helvetica", "Liberation Sans", "Noto Sans", "DejaVu Sans"),
    "monospace_family": ("Courier New", "Liberation Mono", "Noto Sans Mono", "DejaVu Sans Mono"),
}
"""Families that stand for others, the first of which that there is."""


@lru_cache
def font_options() -> dict[str, Any]:
    """Return what `resvg_py.svg_to_bytes` is told of fonts, so that some font draws any text."""
    import matplotlib
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    options: dict[str, Any] = {
        option: next((family for family in families if family in known), families[-1])
        for option, families in _GENERIC.items()
    }
    options["font_family"] = options["serif_family"]
    options["font_dirs"] = [str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")]
    return options
