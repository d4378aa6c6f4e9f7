"""Cameras for a splat that comes without photos: on an orbit around what it shows, with its own renders as views."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from gsplat import rasterization as gsplat_rasterization
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.checks import at_least
from pds_nerfstudio.scenes.files.harmonics import degree_of
from pds_nerfstudio.scenes.files.splats import Splats
from pds_nerfstudio.splat_rasterizer.rasterizer import rasterization
from pds_nerfstudio.whole_files import whole_folder

Axis = Literal["x", "-x", "y", "-y", "z", "-z"]

_FIELD_OF_VIEW = math.radians(50)
_LOWEST, _HIGHEST = math.radians(10), math.radians(40)
"""Of the cameras, above level."""
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_SHOWN = 0.8
"""The share of the Gaussians, weighted as below, that lies in the ball in view; the rest is background and stray."""


@dataclass(frozen=True)
class OrbitConfig:
    """The views of a splat without data."""

    up: Axis = "-y"
    """Which way is up in the file. -y: as 3DGS has it, if the first photo was held level. z: as nerfstudio has it."""
    views: int = 40
    """Cameras around what the splat shows, looking down at it by 10 to 40 degrees."""
    side: int = 512
    """Width and height of the views in pixels."""

    def check(self) -> None:
        """Refuse values that no view can have.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 3, "views")
        at_least(self, 16, "side")


FOLDER = "orbit"
"""Of a run, for the views of a splat that came without data."""
USUAL_ORBIT = OrbitConfig()
"""A default that is a class's own holds for a config.yml of before there was the option."""


def _axis(name: Axis) -> Float[Tensor, "3"]:
    return F.one_hot(torch.tensor("xyz".index(name[-1])), 3).float() * (-1 if name[0] == "-" else 1)


def shown_ball(splats: Splats) -> tuple[Float[Tensor, "3"], float]:
    """Return centre and radius of the ball that holds most of what the splat shows in detail.

    A Gaussian counts by its opacity over its size: what a capture is about is made of many small ones, its meadow and
    its sky of few large ones. Medians and quantiles don't see strays.
    """
    weights = splats.opacities.sigmoid() * (-splats.scales.mean(-1)).exp()
    center = torch.stack([_quantile(splats.means[:, i], weights, 0.5) for i in range(3)])
    return center, float(_quantile((splats.means - center).norm(dim=-1), weights, _SHOWN))


def _quantile(values: Float[Tensor, " n"], weights: Float[Tensor, " n"], share: float) -> Float[Tensor, ""]:
    """Return the value below which so much of the weight lies."""
    order = values.argsort()
    below = weights[order].double().cumsum(0)
    return values[order[torch.searchsorted(below, share * below[-1]).clamp(max=len(order) - 1)]]


def orbit(center: Float[Tensor, "3"], radius: float, config: OrbitConfig) -> Float[Tensor, "views 4 4"]:
    """Return camera-to-world matrices (right, up, back) that look at a ball, and have it in view as a whole."""
    up = _axis(config.up)
    first = _axis("z" if config.up[-1] != "z" else "x")
    i = torch.arange(config.views)
    azimuth, height = i * _GOLDEN_ANGLE, _LOWEST + i / (config.views - 1) * (_HIGHEST - _LOWEST)
    side = azimuth.cos()[:, None] * first + azimuth.sin()[:, None] * torch.linalg.cross(up, first)
    back = height.cos()[:, None] * side + height.sin()[:, None] * up
    right = F.normalize(torch.linalg.cross(up.expand_as(back), back), dim=-1)
    poses = torch.eye(4).repeat(config.views, 1, 1)
    poses[:, :3, :3] = torch.stack([right, torch.linalg.cross(back, right), back], -1)
    poses[:, :3, 3] = center + back * max(radius, 1e-6) / math.sin(_FIELD_OF_VIEW / 2)
    return poses


def write_orbit(folder: Path, splats: Splats, config: OrbitConfig, device: str) -> Path:
    """Write the splat's renders as a nerfstudio data set, in the splat's own coordinates.

    Args:
        folder: Of the data set.
        splats: To be looked at.
        config: How.
        device: Renders them.

    Returns:
        The folder.
    """
    poses = orbit(*shown_ball(splats), config)
    focal, middle = config.side / 2 / math.tan(_FIELD_OF_VIEW / 2), config.side / 2
    frames = []
    pictures = _pictures(splats, poses, focal, config.side, device)
    shown = track(pictures, "Rendering the splat's views", config.views, console=CONSOLE, transient=True)
    with whole_folder(folder) as unfinished:
        (unfinished / "images").mkdir()
        for i, picture in enumerate(shown):
            name = f"images/frame_{i + 1:05d}.png"
            Image.fromarray((picture * 255).round().byte().cpu().numpy(), "RGBA").save(unfinished / name)
            frames.append({"file_path": name, "transform_matrix": poses[i].tolist()})
        size = {"w": config.side, "h": config.side, "fl_x": focal, "fl_y": focal, "cx": middle, "cy": middle}
        content = {"camera_model": "OPENCV", **size, "frames": frames}
        (unfinished / "transforms.json").write_text(json.dumps(content, indent=2) + "\n")
    return folder


@torch.no_grad()
def _pictures(
    splats: Splats, poses: Float[Tensor, "views 4 4"], focal: float, side: int, device: str
) -> Iterator[Float[Tensor, "side side 4"]]:
    """Yield what each camera sees, in 0..1: colours, and how opaque they are."""
    draw = gsplat_rasterization if device.startswith("cuda") else rasterization
    gaussians = Splats(**{name: values.to(device) for name, values in vars(splats).items()})
    intrinsics = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]], device=device)
    views = torch.linalg.inv(poses @ torch.diag(torch.tensor([1.0, -1, -1, 1])))  # right, down, forward
    for view in views.to(device):
        image, alpha, _ = draw(
            means=gaussians.means,
            quats=gaussians.quats,
            scales=gaussians.scales.exp(),
            opacities=gaussians.opacities.sigmoid(),
            colors=torch.cat([gaussians.base[:, None], gaussians.rest], 1),
            viewmats=view[None],
            Ks=intrinsics[None],
            width=side,
            height=side,
            packed=False,
            sh_degree=degree_of(gaussians.rest.shape[1]),
        )
        colors = image / alpha.clamp(min=1e-6)  # a picture's colours are not dimmed by its opacity
        yield torch.cat([colors, alpha], -1)[0].clamp(0, 1)
