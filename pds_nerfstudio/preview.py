"""preview.html: an edit of one picture on a page, where a handle leads from what there was to what there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pds_nerfstudio.again import command_in
from pds_nerfstudio.page import Picture, command_section, heading, page, slider
from pds_nerfstudio.verdict import Change
from pds_nerfstudio.whole_files import write_text


def write_preview_page(
    folder: Path, prompts: tuple[str, str], pictures: Mapping[str, Picture], what: str, note: str = ""
) -> Path:
    """Write preview.html; return its path.

    Args:
        folder: Of the edit's results.
        prompts: What the picture shows, which may be empty, and what it should show.
        pictures: Of one size, by what they are; each is compared with the last, the edit. The first is the source.
        what: They show, as text, for those who can't see them.
        note: On the pictures, as text.
    """
    *others, last = pictures
    compared = [
        f"<figure>{slider(pictures[name], pictures[last], what, labels=(name, last))}</figure>" for name in others
    ]
    verdict = Change.between([pictures[others[0]]], [pictures[last]]).words
    handles = "Drag a handle, or use the arrow keys." if len(others) > 1 else "Drag the handle, or use the arrow keys."
    large = " large" if len(compared) == 1 else ""
    parts = [
        heading(*prompts, verdict),
        f'<section><p>{" ".join(filter(None, (handles, note)))}</p><div class="grid{large}">{"".join(compared)}</div>'
        "</section>",
        command_section(command_in(folder)),
    ]
    title = " → ".join(filter(None, (prompt.strip() for prompt in prompts)))
    write_text(folder / "preview.html", page(title, parts))
    return folder / "preview.html"
