"""Photographs of the embedded world through any camera that nerfstudio knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from pds_nerfstudio.toyworld.dataset import walk_around
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes
from pds_nerfstudio.toyworld.renderer import trace

THING = Attributes(balloon="held", ground="brick")
WIDTH, HEIGHT = 36, 28
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""Between OpenGL's cameras and OpenCV's."""


@dataclass
class Shots:
    """Photographs, and the cameras that they were taken with, in the world's coordinates."""

    cameras: Cameras
    pictures: list[np.ndarray]
    """In bytes."""
    lens: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    def pose(self, i: int) -> np.ndarray:
        """Camera to world, 4 × 4, as OpenGL has it."""
        return np.vstack([self.cameras.camera_to_worlds[i].double().numpy(), [0, 0, 0, 1]])

    def opencv_pose(self, i: int) -> np.ndarray:
        return self.pose(i) @ FLIP

    def intrinsics(self, i: int) -> dict[str, float]:
        names = {"fl_x": "fx", "fl_y": "fy", "cx": "cx", "cy": "cy"}
        values = {name: float(getattr(self.cameras, own)[i]) for name, own in names.items()}
        return {**values, "w": int(self.cameras.width[i]), "h": int(self.cameras.height[i])}

    def matrix(self, i: int) -> np.ndarray:
        k = self.intrinsics(i)
        return np.array([[k["fl_x"], 0, k["cx"], 0], [0, k["fl_y"], k["cy"], 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def seen(origins: Tensor, directions: Tensor) -> Tensor:
    """The world's colours along rays, in 0..1."""
    shape = origins.shape
    unit = torch.nn.functional.normalize(directions, dim=-1)
    return trace(build([THING]), origins.reshape(1, -1, 3), unit.reshape(1, -1, 3))[0].reshape(shape).clamp(0, 1)


def rays_of(camera: Cameras) -> tuple[Tensor, Tensor]:
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    return rays.origins, rays.directions


@cache
def shoot(
    n: int = 5,
    sizes: tuple[tuple[int, int], ...] = ((WIDTH, HEIGHT),),
    lens: tuple[tuple[str, float], ...] = (),
    camera_type: CameraType = CameraType.PERSPECTIVE,
    focal_length: float | None = None,
) -> Shots:
    """Walk around the thing; sizes take turns."""
    order = [sizes[i % len(sizes)] for i in range(n)]
    walk = walk_around(n, 0, WIDTH, HEIGHT)
    values = [dict(lens).get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2")]
    width, height = (torch.tensor(side)[:, None] for side in zip(*order, strict=True))
    focal = walk.focal[:, None].clone() if focal_length is None else torch.full((n, 1), focal_length)
    fx, fy = focal, focal.clone()
    if camera_type is CameraType.EQUIRECTANGULAR:
        fx, fy = width / 2.0, height.float()
    cameras: Any = Cameras(
        walk.camera_to_world,
        fx,
        fy,
        width / 2.0,
        height / 2.0,
        width=width,
        height=height,
        distortion_params=torch.tensor([values] * n) if lens else None,
        camera_type=camera_type,
    )
    pictures = [(seen(*rays_of(cameras[i : i + 1])) * 255).round().to(torch.uint8).numpy() for i in range(n)]
    return Shots(cameras, pictures, dict(lens))


@cache
def surface(near: int = 1200, far: int = 500) -> tuple[Tensor, Tensor, Tensor]:
    """Points of the thing and of what is around it, their colours in 0..1, and how far apart they are."""
    draws = torch.Generator().manual_seed(0)
    shots = shoot(8)
    points, colors, spacing = [], [], []
    for i in range(len(shots)):
        origins, directions = (x.reshape(1, -1, 3) for x in rays_of(shots.cameras[i : i + 1]))
        color, depth, _ = trace(build([THING]), origins, directions)
        close = (depth[0] < 6).nonzero()[:, 0]
        some = close[torch.randint(0, len(close), (near // len(shots),), generator=draws)]
        points.append(origins[0, some] + depth[0, some, None] * directions[0, some])
        colors.append(color[0, some])
        spacing.append(torch.full((len(some),), 0.08))
    away = torch.nn.functional.normalize(torch.randn(far, 3, generator=draws), dim=-1)
    middle = torch.tensor([0.0, 0.0, 4.0])
    points.append(middle + 14 * away)
    colors.append(seen(middle.expand(far, 3), away))
    spacing.append(torch.full((far,), 1.7))
    return torch.cat(points), torch.cat(colors).clamp(0, 1), torch.cat(spacing)
