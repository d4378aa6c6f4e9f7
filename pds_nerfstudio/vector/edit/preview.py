"""preview.png and preview.html: the drawing before, the draft, and the drawing after, in one look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.contact_sheet import contact_sheet
from pds_nerfstudio.page import Picture
from pds_nerfstudio.preview import write_preview_page
from pds_nerfstudio.whole_files import whole_file

_SIDE = 256
"""Pixels of a picture at least, so that the prompts have room above them."""
Frame = Float[Tensor, "3 height width"]
"""A picture, in 0..1."""


def to_picture(frame: Frame) -> Picture:
    """Return a picture in 0..1 as bytes."""
    return np.ascontiguousarray((frame.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def write_preview(folder: Path, prompts: tuple[str, str], before: Frame, draft: Frame | None, after: Frame) -> None:
    """Write preview.png, with all beside each other, and preview.html, where a handle leads from one to another.

    Args:
        folder: Of the edit's results.
        prompts: What the drawing shows, which may be empty, and what it should show.
        before: The drawing.
        draft: What it was to be fit to, if there is a draft.
        after: The drawing after the edit.
    """
    frames = {"before": before, "draft": draft, "after": after}
    pictures = {name: to_picture(frame) for name, frame in frames.items() if frame is not None}
    title = " → ".join(filter(None, (prompt.strip() for prompt in prompts)))
    row = f"{', '.join(pictures)}: {title}"
    with whole_file(folder / "preview.png") as unfinished:
        contact_sheet({row: list(pictures.values())}, side=max(_SIDE, *before.shape)).save(unfinished)
    note = "The draft is what the paths were fit to." if draft is not None else ""
    write_preview_page(folder, prompts, pictures, "the drawing", note)
