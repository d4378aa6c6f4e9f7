"""Pages that need nothing but a browser, no network and no other file: their style, and pictures to compare in them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pds_nerfstudio import __version__
from pds_nerfstudio.one_line import one_line

Picture = UInt8[np.ndarray, "height width 3"]
OfAnySize = UInt8[np.ndarray, "_ _ 3"]
"""One of several pictures whose sizes need not agree."""

VIEW_SIDE = 960
"""Pixels of the longer side of a picture that is to be looked at."""
_LONGEST_TEXT = 400
_COARSER = 0.9


def jpeg(picture: Picture, quality: int = 85) -> bytes:
    """Return a picture as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
    return file.getvalue()


@dataclass(frozen=True)
class Fineness:
    """How much of a picture a page keeps."""

    side: int
    """Pixels of the longer side at most."""
    quality: int = 88
    """Of the JPEG."""

    def jpeg(self, picture: Picture) -> bytes:
        """Return a picture at this size and quality as a JPEG file."""
        image = Image.fromarray(picture)
        image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        return jpeg(np.asarray(image), self.quality)

    @classmethod
    def that_fits(cls, pictures: Sequence[OfAnySize], side: int, most_bytes: int) -> Fineness:
        """Return the finest at which all pictures together take at most `most_bytes`.

        Args:
            pictures: Of any sizes.
            side: To begin with.
            most_bytes: Of their files, with some 1000 bytes for each picture at least.
        """
        fineness = cls(side)
        while sum(len(fineness.jpeg(picture)) for picture in pictures) > most_bytes and fineness.side > 8:
            fineness = cls(int(fineness.side * _COARSER), max(60, fineness.quality - 3))
        return fineness


_FINEST = Fineness(VIEW_SIDE)


def data_url(content: bytes, media_type: str) -> str:
    """Return a file's content as a URL, to be written into a page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def page(title: str, parts: Sequence[str]) -> str:
    """Return an HTML document in this package's style; `slider` works in it.

    Args:
        title: As text.
        parts: Of its body, as HTML; empty ones are left out.
    """
    template = resources.files("pds_nerfstudio").joinpath("page.html").read_text(encoding="utf-8")
    # One pass, so that the text of a part is never taken for a place to fill.
    return Template(template).substitute(title=as_text(title), body="\n".join(filter(None, parts)))


def image_url(picture: Picture, fineness: Fineness = _FINEST) -> str:
    """Return a picture, made smaller if it is large, as a URL to be written into a page."""
    return data_url(fineness.jpeg(picture), "image/jpeg")


def heading(source: str, target: str, verdict: str = "") -> str:
    """Return the head of an edit's page, as HTML.

    Args:
        source: The source prompt, which may be empty.
        target: The target prompt.
        verdict: On the edit, in words.
    """
    source, target = as_text(source), as_text(target)
    before = f"<span>{source}</span> <b>→</b> " if source.strip() else ""
    said = f'<p class="verdict">{as_text(verdict)}</p>' if verdict else ""
    return f"<header><p>Edited by text</p><h1>{before}{target}</h1>{said}</header>"


def command_section(lines: Sequence[str]) -> str:
    """Return a section with the command that made an edit, and this package's version, as HTML.

    Args:
        lines: Of the command; without any, there is no such section.
    """
    if not lines:
        return ""
    shown = "\n".join(html.escape(f"{' ' * (len(line) - len(line.lstrip()))}{one_line(line)}") for line in lines)
    return (
        f"<section><h2>Made by</h2><p>pds_nerfstudio {__version__}. again.sh, beside this page, does it again.</p>"
        f"<pre><code>{shown}</code></pre></section>"
    )


def slider(
    before: Picture,
    after: Picture,
    name: str,
    fineness: Fineness = _FINEST,
    labels: tuple[str, str] = ("before", "after"),
) -> str:
    """Return two pictures of one size over each other, with a handle between them, as HTML.

    Args:
        before: On the left.
        after: On the right.
        name: What they show, as text, for those who can't see them.
        fineness: How much of them the page keeps.
        labels: What each of them is.
    """
    height, width = before.shape[:2]
    layers = [
        f'<div class="{place}"><img src="{image_url(picture, fineness)}" width="{width}" height="{height}" '
        f'alt="{as_text(name)}, {label}"><span>{label.capitalize()}</span></div>'
        for place, label, picture in (("after", labels[1], after), ("before", labels[0], before))
    ]
    return (
        f'<div class="pair">{"".join(layers)}<input type="range" min="0" max="100" value="50" step="0.5" '
        f'aria-label="{labels[0].capitalize()} and {labels[1]}, {as_text(name)}"><i aria-hidden="true"></i></div>'
    )


def as_text(text: str) -> str:
    """Return text as HTML that shows it, also in an attribute."""
    return html.escape(one_line(text, _LONGEST_TEXT))
