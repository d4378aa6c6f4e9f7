"""Build solids from attributes: round cones and rounded boxes with a colour, packed into tensors for the renderer.

Units are metres; the world is z-up, a subject stands on the ground z = 0 at the origin and faces −y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.toyworld.grammar import GROUNDS, Attributes

RGB = tuple[float, float, float]
Point = tuple[float, float, float]

BOUNDS_CENTER: Point = (0.0, 0.0, 1.24)
BOUNDS_RADIUS = 1.48
"""Every subject, whatever it wears and holds, lies in this ball; cameras that see the ball see all of it."""

PALETTE: dict[str, RGB] = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.97, 0.50, 0.08),
    "yellow": (0.97, 0.87, 0.12),
    "green": (0.12, 0.60, 0.20),
    "blue": (0.10, 0.28, 0.85),
    "purple": (0.48, 0.16, 0.68),
    "pink": (0.97, 0.50, 0.72),
    "white": (0.95, 0.95, 0.96),
    "black": (0.06, 0.06, 0.08),
    "gray": (0.45, 0.45, 0.47),
    "brown": (0.42, 0.24, 0.11),
}
_GROUND_COLORS: dict[str, RGB] = {
    "grass": (0.30, 0.55, 0.20),
    "sand": (0.85, 0.75, 0.50),
    "snow": (0.90, 0.92, 0.96),
    "brick": (0.60, 0.30, 0.22),
}
_SKY: dict[str, tuple[RGB, RGB, float]] = {
    "day": ((0.55, 0.75, 0.95), (0.85, 0.92, 1.00), 1.0),
    "sunset": ((0.45, 0.35, 0.60), (1.00, 0.60, 0.35), 0.85),
    "night": ((0.03, 0.04, 0.12), (0.10, 0.12, 0.25), 0.55),
}
"""Zenith colour, horizon colour, brightness of the light."""
_SKIN: RGB = (0.92, 0.72, 0.58)
_DARK: RGB = (0.05, 0.05, 0.05)
_STEEL: RGB = (0.42, 0.44, 0.47)
_SNOW: RGB = (0.94, 0.95, 0.97)
_SIDES = ((-1, "left"), (1, "right"))


@dataclass
class Solids:
    """A batch of subjects and surroundings, padded with solids far below the ground."""

    cones: Float[Tensor, "batch n_cones 11"]
    """Round cones: both end points, both radii, colour."""
    boxes: Float[Tensor, "batch n_boxes 10"]
    """Rounded boxes: centre, half extents, rounding radius, colour."""
    ground_color: Float[Tensor, "batch 3"]
    """RGB in 0..1."""
    ground_is_brick: Float[Tensor, " batch"]
    """1 where the ground has a checkered pattern, 0 where it is smooth."""
    sky_top: Float[Tensor, "batch 3"]
    """Colour at the zenith."""
    sky_horizon: Float[Tensor, "batch 3"]
    """Colour at the horizon."""
    brightness: Float[Tensor, " batch"]
    """Of the light, 0..1."""
    is_drawing: Float[Tensor, " batch"]
    """1 for a flat drawing, 0 for a photo."""

    def __len__(self) -> int:
        return len(self.cones)


@dataclass(frozen=True)
class RoundCone:
    """The points within a radius of a line, where the radius changes evenly along it; a ball if the ends agree."""

    name: str
    """The part's name; left and right are those of a viewer who looks at the subject's face."""
    start: Point
    """One end of the line."""
    end: Point
    """Its other end."""
    start_radius: float
    """At the one end."""
    end_radius: float
    """At the other end."""
    color: RGB
    """Of its surface."""


@dataclass(frozen=True)
class RoundedBox:
    """An upright box and all that is within a distance of it."""

    name: str
    """Of the part it is."""
    center: Point
    """Its middle."""
    half: Point
    """Half the extents of the box without its rounding."""
    rounding: float
    """The distance."""
    color: RGB
    """Of its surface."""


Solid = RoundCone | RoundedBox


class _Builder:
    """A subject being put together; positions are given as (right, up, forward), and right is where a viewer has it."""

    def __init__(self) -> None:
        self.solids: list[Solid] = []

    @staticmethod
    def _world(p: Point) -> Point:
        return p[0], -p[2], p[1]

    def cone(self, name: str, start: Point, end: Point, start_radius: float, end_radius: float, color: RGB) -> None:
        self.solids.append(RoundCone(name, self._world(start), self._world(end), start_radius, end_radius, color))

    def ball(self, name: str, center: Point, radius: float, color: RGB) -> None:
        self.cone(name, center, center, radius, radius, color)

    def box(self, name: str, center: Point, half: Point, rounding: float, color: RGB) -> None:
        half_world = half[0], half[2], half[1]
        self.solids.append(RoundedBox(name, self._world(center), half_world, rounding, color))

    def eyes(self, spread: float, height: float, forward: float, radius: float, color: RGB = _DARK) -> None:
        for side, which in _SIDES:
            self.ball(f"{which} eye", (side * spread, height, forward), radius, color)


def _man(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    trousers = (0.16, 0.17, 0.28)
    hand: Point = (0.52, 1.84, 0.02) if raised else (0.46, 0.78, 0.08)
    for side, which in _SIDES:
        b.cone(f"{which} leg", (side * 0.15, 0.1, 0), (side * 0.13, 0.8, 0), 0.11, 0.13, trousers)
        end = (side * hand[0], hand[1], hand[2])
        b.cone(f"{which} arm", (side * 0.29, 1.33, 0), end, 0.10, 0.075, color)
        b.ball(f"{which} hand", end, 0.105, _SKIN)
    b.cone("torso", (0, 0.85, 0), (0, 1.25, 0), 0.25, 0.27, color)
    b.ball("head", (0, 1.66, 0), 0.24, _SKIN)
    b.eyes(0.085, 1.70, 0.205, 0.04)
    return 1.86, hand


def _robot(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    hand: Point = (0.56, 1.84, 0.02) if raised else (0.50, 0.70, 0.08)
    b.box("torso", (0, 1.02, 0), (0.30, 0.34, 0.20), 0.03, color)
    b.box("head", (0, 1.62, 0), (0.23, 0.18, 0.18), 0.03, (0.70, 0.72, 0.75))
    for side, which in _SIDES:
        b.cone(f"{which} leg", (side * 0.15, 0.08, 0), (side * 0.15, 0.70, 0), 0.10, 0.10, _STEEL)
        end = (side * hand[0], hand[1], hand[2])
        b.cone(f"{which} arm", (side * 0.34, 1.28, 0), end, 0.07, 0.07, _STEEL)
        b.ball(f"{which} hand", end, 0.11, color)
    b.eyes(0.10, 1.66, 0.19, 0.05, (0.1, 0.9, 0.9))
    return 1.80, hand


def _snowman(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    hand: Point = (0.66, 1.72, 0.02) if raised else (0.72, 0.76, 0.05)
    for name, height, radius in (("base", 0.42, 0.45), ("torso", 1.05, 0.34), ("head", 1.58, 0.25)):
        b.ball(name, (0, height, 0), radius, _SNOW)
    b.cone("nose", (0, 1.57, 0.22), (0, 1.55, 0.50), 0.06, 0.015, PALETTE["orange"])
    b.cone("scarf", (0, 1.30, 0), (0, 1.36, 0), 0.285, 0.27, color)
    b.cone("scarf tail", (0.12, 1.28, 0.27), (0.17, 0.98, 0.34), 0.065, 0.075, color)
    for side, which in _SIDES:
        b.cone(
            f"{which} arm", (side * 0.28, 1.12, 0), (side * hand[0], hand[1], hand[2]), 0.045, 0.035, PALETTE["brown"]
        )
    b.eyes(0.09, 1.66, 0.20, 0.04)
    return 1.80, hand


def _bear(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    hand: Point = (0.55, 1.74, 0.05) if raised else (0.50, 0.72, 0.15)
    b.cone("torso", (0, 0.60, 0), (0, 1.00, 0), 0.40, 0.34, color)
    b.ball("head", (0, 1.52, 0), 0.30, color)
    b.cone("snout", (0, 1.45, 0.25), (0, 1.43, 0.32), 0.12, 0.09, (0.85, 0.75, 0.60))
    b.ball("nose", (0, 1.48, 0.42), 0.04, _DARK)
    for side, which in _SIDES:
        b.cone(f"{which} leg", (side * 0.22, 0.16, 0.02), (side * 0.20, 0.40, 0), 0.15, 0.16, color)
        b.cone(f"{which} arm", (side * 0.32, 1.15, 0), (side * hand[0], hand[1], hand[2]), 0.13, 0.11, color)
        b.ball(f"{which} ear", (side * 0.22, 1.78, -0.02), 0.10, color)
    b.eyes(0.11, 1.60, 0.27, 0.04)
    return 1.78, hand


def _ball(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    b.ball("ball", (0, 0.70, 0), 0.70, color)
    return 1.36, (0, 0, 0)


def _cube(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    b.box("cube", (0, 0.60, 0), (0.55, 0.55, 0.55), 0.05, color)
    return 1.20, (0, 0, 0)


def _cone(b: _Builder, raised: bool, color: RGB) -> tuple[float, Point]:
    b.cone("cone", (0, 0.16, 0), (0, 1.32, 0), 0.58, 0.05, color)
    return 1.34, (0, 0, 0)


_SUBJECTS = {
    "man": _man,
    "robot": _robot,
    "snowman": _snowman,
    "bear": _bear,
    "ball": _ball,
    "cube": _cube,
    "cone": _cone,
}


def solids_of(thing: Attributes) -> list[Solid]:
    """Return what a thing is made of: its parts, each with a name of its own."""
    b = _Builder()
    top, hand = _SUBJECTS[thing.subject](b, thing.arms == "raised", PALETTE[thing.color])
    hat_color = PALETTE[thing.hat_color]
    if thing.hat == "party":
        b.cone("hat", (0, top + 0.08, 0), (0, top + 0.50, 0), 0.20, 0.02, hat_color)
    elif thing.hat == "top":
        b.box("hat brim", (0, top + 0.01, 0), (0.31, 0.025, 0.31), 0.015, hat_color)
        b.box("hat", (0, top + 0.21, 0), (0.18, 0.18, 0.18), 0.02, hat_color)
    if thing.balloon == "held":
        center = (hand[0] + 0.08, hand[1] + 0.48, hand[2])
        b.cone("string", hand, center, 0.014, 0.014, (0.2, 0.2, 0.2))
        b.ball("balloon", center, 0.22, PALETTE[thing.balloon_color])
    return b.solids


def _cone_row(cone: RoundCone) -> list[float]:
    return [*cone.start, *cone.end, cone.start_radius, cone.end_radius, *cone.color]


def _box_row(box: RoundedBox) -> list[float]:
    return [*box.center, *box.half, box.rounding, *box.color]


def build(things: Sequence[Attributes], device: torch.device | str = "cpu", pad: bool = False) -> Solids:
    """Pack things into tensors.

    Args:
        things: What the batch shows.
        device: Where the tensors go.
        pad: True gives every batch the world's largest number of solids, so that a compiled renderer sees one shape;
            False no more than this batch needs.
    """
    made_of = [solids_of(thing) for thing in things]
    cones = [[_cone_row(s) for s in solids if isinstance(s, RoundCone)] for solids in made_of]
    boxes = [[_box_row(s) for s in solids if isinstance(s, RoundedBox)] for solids in made_of]
    n_cones = 15 if pad else max(1, *(len(rows) for rows in cones))
    n_boxes = 4 if pad else max(1, *(len(rows) for rows in boxes))
    far_cone = [0.0, 0.0, -50.0, 0.0, 0.0, -50.0, 0.01, 0.01, 0.0, 0.0, 0.0]
    far_box = [0.0, 0.0, -50.0, 0.01, 0.01, 0.01, 0.01, 0.0, 0.0, 0.0]

    def tensor(rows: Sequence[object]) -> Tensor:
        return torch.tensor(rows, dtype=torch.float32, device=device)

    return Solids(
        cones=tensor([rows + [far_cone] * (n_cones - len(rows)) for rows in cones]),
        boxes=tensor([rows + [far_box] * (n_boxes - len(rows)) for rows in boxes]),
        ground_color=tensor([_GROUND_COLORS[thing.ground] for thing in things]),
        ground_is_brick=tensor([float(thing.ground == GROUNDS[3]) for thing in things]),
        sky_top=tensor([_SKY[thing.sky][0] for thing in things]),
        sky_horizon=tensor([_SKY[thing.sky][1] for thing in things]),
        brightness=tensor([_SKY[thing.sky][2] for thing in things]),
        is_drawing=tensor([float(thing.style == "drawing") for thing in things]),
    )
