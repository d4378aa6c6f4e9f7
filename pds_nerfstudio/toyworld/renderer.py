"""Sphere-trace a batch of things along any rays (Hart, "Sphere tracing", 1996): exact, view-consistent pictures.

The renderer takes rays, so any camera model will do; `Cameras` is the world's own pinhole camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.toyworld.geometry import BOUNDS_CENTER, BOUNDS_RADIUS, Solids

_MARCH_STEPS = 40
_SHADOW_STEPS = 14
_HIT = 0.01
_ARRIVED = 1e-4
_FAR = 60.0
_SUN = (0.32, -0.30, 0.90)

DRAWING_PAPER, DRAWING_OUTLINE = 0.98, 0.10
"""Grey of a drawing's paper, and of the line around its subject."""
DRAWING_LINE = 0.006
"""Width of that line, as an angle."""
DRAWING_INK = 0.25
"""How much of its colour a surface keeps where rays graze it."""


@dataclass
class Cameras:
    """A batch of pinhole cameras."""

    camera_to_world: Float[Tensor, "batch 3 4"]
    """Rotation and position in OpenGL's convention: x right, y up, looking along −z."""
    focal: Float[Tensor, " batch"]
    """In pixels."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def of(self, i: int) -> Cameras:
        """Return one of them."""
        return Cameras(self.camera_to_world[i : i + 1], self.focal[i : i + 1], self.width, self.height)

    def rays(self) -> tuple[Float[Tensor, "batch pixels 3"], Float[Tensor, "batch pixels 3"]]:
        """Return origins and unit directions through all pixel centres, row by row."""
        device = self.camera_to_world.device
        y, x = torch.meshgrid(
            torch.arange(self.height, device=device) + 0.5, torch.arange(self.width, device=device) + 0.5, indexing="ij"
        )
        x, y = x.reshape(1, -1) - self.width / 2, self.height / 2 - y.reshape(1, -1)
        focal = self.focal[:, None]
        local = torch.stack([x / focal, y / focal, -torch.ones_like(x / focal)], -1)
        directions = F.normalize(local @ self.camera_to_world[:, :, :3].transpose(1, 2), dim=-1)
        return self.camera_to_world[:, None, :, 3].expand_as(directions), directions


def orbit(
    azimuth: Float[Tensor, " batch"],
    elevation: Float[Tensor, " batch"],
    zoom: Float[Tensor, " batch"] | float = 1.0,
    field_of_view: float = 40.0,
    width: int = 128,
    height: int = 128,
) -> Cameras:
    """Return cameras that look at the subject from around it and have all of it in the frame.

    Args:
        azimuth: Degrees; 0 sees the subject from the front, 90 from its left side.
        elevation: Degrees above the horizon.
        zoom: 1 lets the ball that holds every subject touch the frame; less is further away.
        field_of_view: Degrees, of the frame's shorter side.
        width: In pixels.
        height: In pixels.
    """
    a, e = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    half = math.radians(field_of_view) / 2
    backward = torch.stack([a.sin() * e.cos(), -a.cos() * e.cos(), e.sin()], -1)
    center = torch.tensor(BOUNDS_CENTER, device=azimuth.device)
    distance = BOUNDS_RADIUS / math.sin(half) / torch.as_tensor(zoom, device=azimuth.device).expand_as(azimuth)
    up = torch.tensor([0.0, 0.0, 1.0], device=azimuth.device).expand_as(backward)
    right = F.normalize(torch.linalg.cross(up, backward), dim=-1)
    true_up = torch.linalg.cross(backward, right)
    position = center + distance[:, None] * backward
    focal = torch.full_like(azimuth, min(width, height) / 2 / math.tan(half))
    return Cameras(torch.stack([right, true_up, backward, position], -1), focal, width, height)


@dataclass
class Rendering:
    """What a batch of cameras sees."""

    rgb: Float[Tensor, "batch 3 height width"]
    """In 0..1."""
    depth: Float[Tensor, "batch height width"]
    """Metres along each ray to the subject or the ground; infinite in the sky (and behind a drawing)."""
    subject: Bool[Tensor, "batch height width"]
    """Where the subject is."""


DistanceField = Callable[
    [Float[Tensor, "batch rays 3"], Float[Tensor, "batch n_cones 11"], Float[Tensor, "batch n_boxes 10"]],
    tuple[Float[Tensor, "batch rays"], Float[Tensor, "batch rays 3"]],
]


def distance(
    p: Float[Tensor, "batch rays 3"],
    cones: Float[Tensor, "batch n_cones 11"],
    boxes: Float[Tensor, "batch n_boxes 10"],
) -> Float[Tensor, "batch rays"]:
    """Return the signed distance from points to the nearest solid (a lower bound of it inside a round cone's taper)."""
    nearest = torch.full_like(p[..., 0], 1e3)
    for i in range(cones.shape[1]):
        nearest = torch.minimum(nearest, _cone_distance(p, cones[:, i, None]))
    for i in range(boxes.shape[1]):
        nearest = torch.minimum(nearest, _box_distance(p, boxes[:, i, None]))
    return nearest


def distance_and_color(
    p: Float[Tensor, "batch rays 3"],
    cones: Float[Tensor, "batch n_cones 11"],
    boxes: Float[Tensor, "batch n_boxes 10"],
) -> tuple[Float[Tensor, "batch rays"], Float[Tensor, "batch rays 3"]]:
    """Return the signed distance to the nearest solid, and that solid's colour."""
    nearest, color = torch.full_like(p[..., 0], 1e3), torch.zeros_like(p)
    for solids, field, first in ((cones, _cone_distance, 8), (boxes, _box_distance, 7)):
        for i in range(solids.shape[1]):
            solid = solids[:, i, None]
            d = field(p, solid)
            closer = d < nearest
            nearest = torch.where(closer, d, nearest)
            color = torch.where(closer[..., None], solid[..., first : first + 3], color)
    return nearest, color


def _cone_distance(p: Tensor, cone: Tensor) -> Tensor:
    start, axis = cone[..., 0:3], cone[..., 3:6] - cone[..., 0:3]
    length_squared = (axis * axis).sum(-1) + 1e-6
    along = (((p - start) * axis).sum(-1) / length_squared).clamp(0, 1)
    taper = cone[..., 7] - cone[..., 6]
    to_axis = (p - start - along[..., None] * axis).norm(dim=-1)
    # A slope's distance is shorter than the gap measured across the axis: uncorrected, rays step through it.
    return (to_axis - cone[..., 6] - taper * along) / (1 + taper * taper / length_squared).sqrt()


def _box_distance(p: Tensor, box: Tensor) -> Tensor:
    outside = (p - box[..., 0:3]).abs() - box[..., 3:6]
    return outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0) - box[..., 6]


def trace(
    solids: Solids,
    origins: Float[Tensor, "batch rays 3"],
    directions: Float[Tensor, "batch rays 3"],
    fields: tuple[Callable[..., Tensor], DistanceField] = (distance, distance_and_color),
) -> tuple[Float[Tensor, "batch rays 3"], Float[Tensor, "batch rays"], Bool[Tensor, "batch rays"]]:
    """Return colour, depth and subject mask along rays.

    Args:
        solids: The things.
        origins: Metres, outside the ball that holds the subject.
        directions: Of unit length.
        fields: The two distance fields; training passes compiled ones.
    """
    field, colored_field = fields
    cones, boxes = solids.cones, solids.boxes
    sun = F.normalize(torch.tensor(_SUN, device=origins.device), dim=0)

    # The march starts and ends at the ball that holds every subject: rays that miss it never move.
    to_center = torch.tensor(BOUNDS_CENTER, device=origins.device) - origins
    middle = (to_center * directions).sum(-1)
    half_chord = (BOUNDS_RADIUS**2 - (to_center.square().sum(-1) - middle.square())).clamp(min=0).sqrt()
    start, end = (middle - half_chord).clamp(min=0), middle + half_chord
    t, grazing = _march(field, cones, boxes, origins, directions, start, end)
    p = origins + t[..., None] * directions
    d, color = colored_field(p, cones, boxes)
    hit = (d < _HIT) & (t < end)

    down = directions[..., 2]
    to_ground = torch.where(down < -1e-3, -origins[..., 2] / down.clamp(max=-1e-3), torch.full_like(t, 1e3))
    to_ground = torch.where(to_ground > 0, to_ground, torch.full_like(t, 1e3))
    ground = (to_ground < _FAR) & (~hit | (to_ground < t))
    hit = hit & ~ground
    normal = _only_where(hit, lambda q: _normals(q, field, cones, boxes), p, torch.zeros(3, device=p.device))
    on_ground = origins + to_ground.clamp(max=_FAR)[..., None] * directions
    surface = _Surface(directions, hit, ground, to_ground, on_ground, color, normal)

    lit_point = torch.where(hit[..., None], p + 0.02 * normal, on_ground)
    from_center = lit_point - torch.tensor(BOUNDS_CENTER, device=origins.device)
    off_axis = from_center.square().sum(-1) - (from_center * sun).sum(-1).square()
    sunlit = _only_where(
        (hit | ground) & (off_axis < BOUNDS_RADIUS**2),
        lambda q: _sunlit(q, sun, field, cones, boxes),
        lit_point,
        torch.ones((), device=p.device),
    )
    is_drawing = solids.is_drawing[:, None] > 0.5
    rgb = torch.where(is_drawing[..., None], _drawing(surface, grazing), _photo(surface, solids, sun, sunlit))
    depth = torch.where(hit, t, torch.where(ground & ~is_drawing, to_ground, torch.full_like(t, torch.inf)))
    return rgb.clamp(0, 1), depth, hit


@dataclass
class _Surface:
    """What rays have met."""

    directions: Tensor
    """Of the rays."""
    hit: Tensor
    """Where they met the subject."""
    ground: Tensor
    """Where they met the ground."""
    to_ground: Tensor
    """Metres along them to the ground."""
    on_ground: Tensor
    """Where they would meet it."""
    color: Tensor
    """Of the subject."""
    normal: Tensor
    """Of the subject; 0 elsewhere."""


def _normals(p: Tensor, field: Callable[..., Tensor], cones: Tensor, boxes: Tensor) -> Tensor:
    """Return the direction in which the distance grows."""
    offsets = torch.eye(3, device=p.device) * 1e-3
    gradient = [field(p + offset, cones, boxes) - field(p - offset, cones, boxes) for offset in offsets]
    return F.normalize(torch.stack(gradient, -1), dim=-1, eps=1e-6)


def _photo(surface: _Surface, solids: Solids, sun: Tensor, sunlit: Tensor) -> Tensor:
    """Return a photo's colours: Lambert's law under a sun and a sky, a soft shadow, fog towards the horizon."""
    brightness = solids.brightness[:, None, None]
    lambert = (surface.normal * sun).sum(-1).clamp(min=0)
    shade = 0.52 + 0.12 * surface.normal[..., 2] + 0.5 * lambert * (0.3 + 0.7 * sunlit)
    lit_subject = surface.color * shade[..., None] * (0.3 + 0.7 * brightness)
    x, y = surface.on_ground[..., 0], surface.on_ground[..., 1]
    nearness = torch.exp(-surface.to_ground.clamp(max=_FAR) / 7)
    checks = torch.tanh(4 * torch.sin(3.1 * x) * torch.sin(3.1 * y))
    pattern = torch.where(
        solids.ground_is_brick[:, None] > 0.5, 0.14 * checks, 0.06 * torch.sin(5 * x + y) * torch.sin(4 * y - x)
    )
    lit_ground = (
        solids.ground_color[:, None] * ((1 + pattern * nearness) * (0.62 + 0.40 * sunlit))[..., None] * brightness
    )
    climb = (2.2 * surface.directions[..., 2]).clamp(0, 1)[..., None]
    sky = solids.sky_top[:, None] * climb + solids.sky_horizon[:, None] * (1 - climb)
    fog = torch.exp(-surface.to_ground.clamp(max=_FAR) / 22)[..., None]
    backdrop = torch.where(surface.ground[..., None], lit_ground * fog + sky * (1 - fog), sky)
    return torch.where(surface.hit[..., None], lit_subject, backdrop)


def _drawing(surface: _Surface, grazing: Tensor) -> Tensor:
    """Return a drawing's colours: flat on white, with a dark line where a ray grazes the subject."""
    rim = (surface.normal * -surface.directions).sum(-1) < 0.20
    ink = torch.where(rim[..., None], surface.color * DRAWING_INK, surface.color)
    line = (grazing < DRAWING_LINE)[..., None]
    paper = torch.where(line, torch.full_like(ink, DRAWING_OUTLINE), torch.full_like(ink, DRAWING_PAPER))
    return torch.where(surface.hit[..., None], ink, paper)


def _march(
    field: Callable[..., Tensor],
    cones: Tensor,
    boxes: Tensor,
    origins: Tensor,
    directions: Tensor,
    t: Tensor,
    end: Tensor,
) -> tuple[Tensor, Tensor]:
    """Walk from `t` until a solid or `end`; return where each ray stopped and the least angle it passed a solid by.

    A single thing drops the rays that have arrived, which is quickest without a compiler; a batch of things keeps the
    one shape that a compiled field wants.
    """
    grazing = torch.full_like(t, 9.0)
    if len(t) > 1:
        for _ in range(_MARCH_STEPS):
            d = field(origins + t[..., None] * directions, cones, boxes)
            grazing = torch.minimum(grazing, d / t.clamp(min=0.1))
            t = torch.where(d < _ARRIVED, t, torch.minimum(t + d, end))
        return t, grazing
    t = t.clone()
    live = torch.arange(t.shape[1], device=t.device)
    for _ in range(_MARCH_STEPS):
        at = t[:, live]
        d = field(origins[:, live] + at[..., None] * directions[:, live], cones, boxes)
        grazing[:, live] = torch.minimum(grazing[:, live], d / at.clamp(min=0.1))
        t[:, live] = torch.where(d < _ARRIVED, at, torch.minimum(at + d, end[:, live]))
        live = live[((d >= _ARRIVED) & (at < end[:, live]))[0]]  # a ray at its end has yet to see what it grazes there
    return t, grazing


def _only_where(mask: Tensor, function: Callable[[Tensor], Tensor], p: Tensor, otherwise: Tensor) -> Tensor:
    """Return `function(p)` where `mask`, `otherwise` elsewhere; a single thing computes it at those points alone."""
    if len(mask) > 1:
        value = function(p)
        return torch.where(mask.reshape(*mask.shape, *[1] * otherwise.ndim), value, otherwise)
    out = otherwise.expand(*mask.shape, *otherwise.shape).clone()
    chosen = mask[0].nonzero()[:, 0]
    if len(chosen):
        out[:, chosen] = function(p[:, chosen])
    return out


def _sunlit(p: Tensor, sun: Tensor, field: Callable[..., Tensor], cones: Tensor, boxes: Tensor) -> Tensor:
    """Return how much sun reaches `p`, 0..1, with soft edges.

    It is taken from the least angle by which the way to the sun clears a solid.
    """
    lit, t = torch.ones_like(p[..., 0]), torch.full_like(p[..., 0], 0.05)
    for _ in range(_SHADOW_STEPS):
        d = field(p + t[..., None] * sun, cones, boxes)
        lit = torch.minimum(lit, (8 * d / t).clamp(0, 1))
        t = t + d.clamp(0.03, 0.4)
    return lit


def render(
    solids: Solids,
    cameras: Cameras,
    supersample: int = 2,
    fields: tuple[Callable[..., Tensor], DistanceField] = (distance, distance_and_color),
) -> Rendering:
    """Return what the cameras see.

    Args:
        solids: One thing a camera, or a single thing that all cameras look at.
        cameras: The views.
        supersample: Rays a pixel, along each axis.
        fields: See `trace`.
    """
    n, s = len(cameras), supersample
    fine = replace(cameras, focal=cameras.focal * s, width=cameras.width * s, height=cameras.height * s)
    origins, directions = fine.rays()
    if len(solids) == 1:
        views = [trace(solids, origins[i : i + 1], directions[i : i + 1], fields) for i in range(n)]
        rgb, depth, subject = (torch.cat(parts) for parts in zip(*views, strict=True))
    else:
        rgb, depth, subject = trace(solids, origins, directions, fields)
    rgb = rgb.transpose(1, 2).reshape(n, 3, fine.height, fine.width)
    return Rendering(
        rgb=F.avg_pool2d(rgb, s),
        depth=depth.reshape(n, fine.height, fine.width)[:, s // 2 :: s, s // 2 :: s],
        subject=subject.reshape(n, cameras.height, s, cameras.width, s).any(dim=4).any(dim=2),
    )
