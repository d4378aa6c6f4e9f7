"""Draw a thing of the world as a layered SVG: what the renderer's drawing of it shows from the front, in curves.

Every part is one path under its own name (`left-arm`, `hat` …), so a designer and an edit find the same parts in the
drawings of two things, with the same number of curves. The dark line around the whole is a group of `use` elements
below the parts: a part that moves takes its line along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pds_nerfstudio.toyworld.geometry import RGB, RoundCone, RoundedBox, Solid, solids_of
from pds_nerfstudio.toyworld.grammar import Attributes, caption
from pds_nerfstudio.toyworld.renderer import DRAWING_INK, DRAWING_LINE, DRAWING_OUTLINE, DRAWING_PAPER, Cameras, orbit

SIDE = 512
"""Of the drawing, in its own units."""
PAPER = f"rgb({round(DRAWING_PAPER * 255)},{round(DRAWING_PAPER * 255)},{round(DRAWING_PAPER * 255)})"
"""What the drawing lies on: the file leaves it out, like any icon's."""

_SHADOW = -0.1
"""A solid that reaches deeper into the ground than this has a dark rim below it, as far as this."""


def front_camera(side: int = SIDE) -> Cameras:
    """Return the camera that drawings are made for: in front of the subject, a little above."""
    return orbit(torch.tensor([0.0]), torch.tensor([8.0]), zoom=0.92, width=side, height=side)


@dataclass(frozen=True)
class _Curve:
    """A closed outline in the world: cubics whose ends, where they differ, are joined by straight lines."""

    cubics: tuple[Tensor, ...]
    """Each (4, 3); a corner is a cubic of four equal points."""


def drawing(thing: Attributes) -> str:
    """Return the SVG of a thing.

    Args:
        thing: What to draw; it is drawn as a drawing, whatever its style.

    Returns:
        The file's text, `SIDE` units on each side, transparent where there is nothing. Over `PAPER` it looks as the
        renderer's drawing from `front_camera`.
    """
    camera = front_camera()
    names, outline, parts = [], [], []
    for part, color, curve in _parts(solids_of(thing), camera):
        name = part.replace(" ", "-")
        names.append(name)
        outline.append(f'    <use href="#{name}"/>')
        parts.append(f'    <path id="{name}" fill="{_hex(color)}" d="{_path_data(curve, camera)}"/>')
    width = 2 * DRAWING_LINE * camera.focal.item()
    line = f'stroke="{_hex((DRAWING_OUTLINE,) * 3)}" stroke-width="{width:.2f}" stroke-linejoin="round"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}">',
            f"  <title>{caption(replace(thing, style='drawing'))}</title>",
            f'  <g id="outline" {line}>',
            *outline,
            "  </g>",
            f'  <g id="{thing.subject}-parts">',
            *parts,
            "  </g>",
            "</svg>",
            "",
        ]
    )


def _hex(color: RGB) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in color)


def _parts(solids: list[Solid], camera: Cameras) -> list[tuple[str, RGB, _Curve]]:
    """Return name, colour and outline of what is seen, from the farthest to the nearest."""
    eye = camera.camera_to_world[0, :, 3].double()
    drawn: list[Solid] = []
    parts = []
    for solid in sorted(solids, key=_nearness):
        low, high = _seen(solid, drawn)
        if isinstance(solid, RoundCone):
            if low == 0 and solid.start[2] - solid.start_radius < _SHADOW:
                ground = (DRAWING_OUTLINE,) * 3
                parts.append((f"{solid.name} shadow", ground, _cone_outline(solid, eye, _SHADOW, high)))
            parts.append((solid.name, solid.color, _cone_outline(solid, eye, low, high)))
        else:
            front, top = _box_outlines(solid, eye, low)
            if top is not None:
                red, green, blue = (DRAWING_INK * channel for channel in solid.color)
                parts.append((f"{solid.name} top", (red, green, blue), top))
            parts.append((solid.name, solid.color, front))
        drawn.append(solid)
    return parts


def _nearness(solid: Solid) -> tuple[int, float]:
    """Return the order of drawing: by the point nearest to the viewer; eyes and hats lie on what is behind them."""
    if isinstance(solid, RoundCone):
        front = max(solid.start_radius - solid.start[1], solid.end_radius - solid.end[1])
    else:
        front = solid.half[1] + solid.rounding - solid.center[1]
    last = ("left eye", "right eye", "hat brim", "hat")
    return last.index(solid.name) + 1 if solid.name in last else 0, front


def _upright(solid: Solid) -> bool:
    """Return whether the world's vertical axis is the solid's own."""
    if isinstance(solid, RoundCone):
        return solid.start[:2] == solid.end[:2] == (0, 0)
    return solid.center[:2] == (0, 0)


def _middle(solid: Solid) -> float:
    return (solid.start[2] + solid.end[2]) / 2 if isinstance(solid, RoundCone) else solid.center[2]


def _radius(solid: Solid, height: float) -> float:
    """Return the radius of an upright solid at a height; that of a box is endless, for the cones that stand on it."""
    if isinstance(solid, RoundedBox):
        return math.inf if abs(height - solid.center[2]) < solid.half[2] + solid.rounding else 0.0
    below, above = solid.start[2] - height, height - solid.end[2]
    if below > 0:
        return math.sqrt(max(0.0, solid.start_radius**2 - below**2))
    if above > 0:
        return math.sqrt(max(0.0, solid.end_radius**2 - above**2))
    share = -below / max(solid.end[2] - solid.start[2], 1e-9)
    return solid.start_radius + (solid.end_radius - solid.start_radius) * share


def _seen(solid: Solid, before: Sequence[Solid]) -> tuple[float, float]:
    """Return the heights between which an upright solid is seen: out of the ground, and of others before it.

    Solids of its own colour hide nothing that could be told apart.
    """
    low, high = -math.inf, math.inf
    if _upright(solid) and isinstance(solid, RoundCone) and solid.start[2] < solid.start_radius:
        low = 0.0
    for other in before if _upright(solid) else ():
        if not _upright(other) or (other.color == solid.color and isinstance(solid, RoundCone)):
            continue
        if isinstance(solid, RoundedBox) and isinstance(other, RoundCone):
            continue  # a box is wider than the ball it sits on
        inside, outside = _middle(other), _middle(solid)
        if _radius(solid, inside) > _radius(other, inside) or _radius(solid, outside) < _radius(other, outside):
            continue
        for _ in range(40):
            height = (inside + outside) / 2
            if _radius(solid, height) <= _radius(other, height):
                inside = height
            else:
                outside = height
        if _radius(solid, outside) == 0:
            continue  # they are apart
        if _middle(other) < _middle(solid):
            low = max(low, outside)
        else:
            high = min(high, outside)
    return low, high


def _vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _arc(center: Tensor, x: Tensor, y: Tensor, start: float, end: float) -> Tensor:
    """Return the cubic nearest to center + cos(a)·x + sin(a)·y for a from `start` to `end`, at most a quarter turn."""
    handle = 4 / 3 * math.tan((end - start) / 4)
    a, b = (math.cos(angle) * x + math.sin(angle) * y for angle in (start, end))
    along_a, along_b = (math.cos(angle) * y - math.sin(angle) * x for angle in (start, end))
    return center + torch.stack([a, a + handle * along_a, b - handle * along_b, b])


def _cone_outline(cone: RoundCone, eye: Tensor, low: float, high: float) -> _Curve:
    """Return half the outline of the ball at each end, and straight lines between them.

    Where an end is cut off at a height, the part of its outline beyond is replaced by the front of the cut.
    """
    first, last = (_vector(*cone.start), cone.start_radius), (_vector(*cone.end), cone.end_radius)
    toward = torch.nn.functional.normalize(eye - (first[0] + last[0]) / 2, dim=0)
    axis = last[0] - first[0]
    up = axis - (axis @ toward) * toward
    if up.norm() <= abs(cone.start_radius - cone.end_radius):  # a ball, or a cone seen from its end
        first = last = max(first, last, key=lambda ball: ball[1])
        up = _vector(0, 0, 1)
    below, above = (_ball_outline(*ball, eye, up) for ball in (first, last))
    cubics = [*above[:2], *below[2:]]
    if math.isfinite(low):
        cubics[2:] = _cut(*first, eye, up, low)
    if math.isfinite(high):
        cubics[:2] = [c.flip(0) for c in reversed(_cut(*last, eye, up, high))]
    return _Curve(tuple(cubics))


def _ball_axes(center: Tensor, radius: float, eye: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the circle in which rays from the eye touch a ball: centre, radius to the right, radius upwards."""
    to_eye = eye - center
    distance = to_eye.norm()
    toward = to_eye / distance
    visible = radius * torch.sqrt(1 - (radius / distance) ** 2)
    vertical = torch.nn.functional.normalize(up - (up @ toward) * toward, dim=0)
    return center + toward * radius**2 / distance, visible * torch.linalg.cross(vertical, toward), visible * vertical


def _ball_outline(center: Tensor, radius: float, eye: Tensor, up: Tensor) -> list[Tensor]:
    """Return four quarters, from the right over the top: as seen, counterclockwise."""
    circle = _ball_axes(center, radius, eye, up)
    return [_arc(*circle, k * math.pi / 2, (k + 1) * math.pi / 2) for k in range(4)]


def _cut(center: Tensor, radius: float, eye: Tensor, up: Tensor, height: float) -> list[Tensor]:
    """Return the lower outline of a ball cut off at a height, from left to right: side, front of the cut, side."""
    circle = _ball_axes(center, radius, eye, up)
    depth = (height - center[2].item()) / radius
    angle = math.asin(max(-1.0, min(1.0, depth)))
    left, right = _arc(*circle, math.pi, math.pi - angle), _arc(*circle, angle, 0.0)
    across = radius * math.cos(angle)
    lowest = _vector(center[0].item(), center[1].item() - across, height)
    middle = (left[3] + right[0]) / 2
    front = [_arc(middle, right[0] - middle, middle - lowest, a, a + math.pi / 2) for a in (math.pi, 1.5 * math.pi)]
    return [left, *front, right]


def _box_outlines(box: RoundedBox, eye: Tensor, low: float) -> tuple[_Curve, _Curve | None]:
    """Return the front face, and the top where the eye looks down on it.

    From the front camera an upright box shows no more.
    """
    (x, y, z), r = box.center, box.rounding
    half_x, half_y, half_z = (half + r for half in box.half)
    left, right, top, bottom = x - half_x, x + half_x, z + half_z, max(z - half_z, low)
    front = y - box.half[1]  # of the rounded edges, which are what is seen
    corners = ((right - r, top - r, 0.0), (left + r, top - r, 0.5), (left + r, bottom + r, 1.0))
    turns = (*corners, (right - r, bottom + r, 1.5))
    right_r, up_r = _vector(r, 0, 0), _vector(0, 0, r)
    face = [
        _arc(_vector(cx, front, cz), right_r, up_r, turn * math.pi, (turn + 0.5) * math.pi) for cx, cz, turn in turns
    ]
    if eye[2] <= top:
        return _Curve(tuple(face)), None
    quad = ((left, front), (right, front), (right, y + half_y), (left, y + half_y))
    return _Curve(tuple(face)), _Curve(tuple(_vector(cx, cy, top).expand(4, 3) for cx, cy in quad))


def _project(points: Tensor, camera: Cameras) -> tuple[Tensor, Tensor]:
    """Return where points of the world, (n, 3), are in the picture, (n, 2), and the derivative of that, (n, 2, 3)."""
    pose = camera.camera_to_world[0].double()
    x, y, z = ((points - pose[:, 3]) @ pose[:, :3]).unbind(-1)
    focal, zero = camera.focal.double(), torch.zeros_like(x)
    pixel = torch.stack([camera.width / 2 - focal * x / z, camera.height / 2 + focal * y / z], -1)
    to_pixel = torch.stack([torch.stack([-1 / z, zero, x / z**2], -1), torch.stack([zero, 1 / z, -y / z**2], -1)], -2)
    return pixel, focal * to_pixel @ pose[:, :3].T


def _path_data(curve: _Curve, camera: Cameras) -> str:
    commands: list[str] = []
    here: tuple[float, float] | None = None
    for cubic in curve.cubics:
        ends, slope = _project(cubic[[0, 3]], camera)
        handles = ends + (slope @ (cubic[[1, 2]] - cubic[[0, 3]])[..., None])[..., 0]
        a, b, c, d = (
            (round(px, 2), round(py, 2)) for px, py in (ends[0].tolist(), *handles.tolist(), ends[1].tolist())
        )
        if here != a:
            commands.append(f"{'L' if commands else 'M'}{_pair(a)}")
        if not a == b == c == d:
            commands.append(f"C{_pair(b)} {_pair(c)} {_pair(d)}")
        here = d
    return "".join(commands) + "Z"


def _pair(point: tuple[float, float]) -> str:
    return f"{point[0]:g} {point[1]:g}"
