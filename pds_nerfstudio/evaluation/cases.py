"""Draw edits of the embedded world, as many as one likes, whose true results are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pds_nerfstudio.toyworld.grammar import HATS, LIMBED, VALUES, Attributes, Style, asked_edit, caption, sample
from pds_nerfstudio.toyworld.renderer import Cameras, orbit

ATTRIBUTE_OF = {
    "arms": "arms",
    "hat added": "hat",
    "hat removed": "hat",
    "balloon": "balloon",
    "color": "color",
    "subject": "subject",
    "ground": "ground",
    "sky": "sky",
}
"""The kinds of edits, and the attribute that each changes."""
STYLE = "style"
"""The kind of edit that makes a drawing of a photo."""
PAIR = "two at once"
"""The kind of edit that changes two attributes of different kinds."""
KINDS = (*ATTRIBUTE_OF, STYLE, PAIR)
"""Every kind of edit."""
OF_PHOTOS = ("ground", "sky", STYLE)
"""The kinds that there are of photos alone."""
_AZIMUTH, _ELEVATION, _ZOOM = 0.0, 8.0, 0.92
"""Where named edits are seen from: as drawings are, from the front and a little above."""


@dataclass(frozen=True)
class EditCase:
    """One edit to make."""

    kind: str
    """Of `KINDS`, or the edit itself as attribute=value."""
    index: int
    """Its number among the cases of its seed."""
    source: Attributes
    """What the picture shows."""
    target: Attributes
    """What it should show."""
    azimuth: float
    """Degrees from the front, where a single picture is taken from."""
    elevation: float
    """Degrees above the horizon."""
    zoom: float
    """See `renderer.orbit`."""

    @property
    def prompts(self) -> tuple[str, str]:
        """Source and target prompt. Where the sky changes they name the day, which captions leave out."""
        source, target = caption(self.source), caption(self.target)
        if self.source.sky != self.target.sky:
            source += " by day" if self.source.sky == "day" else ""
            target += " by day" if self.target.sky == "day" else ""
        return source, target

    def camera(self, size: int) -> Cameras:
        """Return the one camera of a single picture of `size` × `size` pixels."""
        azimuth, elevation, zoom = torch.tensor([self.azimuth, self.elevation, self.zoom])[:, None]
        return orbit(azimuth, elevation, zoom, width=size, height=size)


def draw_cases(kinds: Sequence[str], n: int, seed: int, style: Style = "photo") -> list[EditCase]:
    """Draw `n` photos or drawings and their edits, going through the kinds in turn.

    The first cases of a seed are always the same.

    Raises:
        ValueError: If there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"there is no kind of edit {kind!r}: choose {', '.join(KINDS)}")
        if style == "drawing" and kind in OF_PHOTOS:
            raise ValueError(
                f"drawings have no edits of the kind {kind!r}: give other kinds than {', '.join(OF_PHOTOS)}"
            )
    return [_draw(kinds[i % len(kinds)], i, seed, style) for i in range(n)]


def named_cases(edits: Sequence[str], style: Style = "photo") -> list[EditCase]:
    """Return edits of one thing, a man in a blue shirt, each given as attribute=value.

    Raises:
        UserError: If one is no edit of him.
    """
    man = Attributes(style=style)
    targets = [asked_edit(man, text) for text in edits]
    return [
        EditCase(text, index, man, target, _AZIMUTH, _ELEVATION, _ZOOM)
        for index, (text, target) in enumerate(zip(edits, targets, strict=True))
    ]


def _draw(kind: str, index: int, seed: int, style: Style) -> EditCase:
    rng = random.Random(f"{seed} {index} {kind}")
    while True:
        source = replace(sample(rng, held_out=None), style=style)
        names = rng.sample(list(ATTRIBUTE_OF), 2) if kind == PAIR else [kind]
        if len(set(map(_attribute_of, names))) < len(names):
            continue
        changes: dict[str, Any] = {_attribute_of(name): _new_value(source, name, rng) for name in names}
        if None in changes.values():
            continue
        try:
            target = replace(source, **changes)
        except ValueError:  # a ball has no arms to raise
            continue
        if all(target.shows(name) for name in changes):
            break
    return EditCase(kind, index, source, target, rng.uniform(-60, 60), rng.uniform(4, 28), rng.uniform(0.84, 1))


def _attribute_of(kind: str) -> str:
    return "style" if kind == STYLE else ATTRIBUTE_OF[kind]


def _new_value(source: Attributes, kind: str, rng: random.Random) -> str | None:
    """Return what the attribute becomes; None if there is nothing to change."""
    name = _attribute_of(kind)
    if name in ("arms", "balloon") and source.subject not in LIMBED:
        return None
    if kind == "hat added":
        return rng.choice(HATS[1:]) if source.hat == "none" else None
    if kind == "hat removed":
        return "none" if source.hat != "none" else None
    return rng.choice([value for value in VALUES[name] if value != getattr(source, name)])
