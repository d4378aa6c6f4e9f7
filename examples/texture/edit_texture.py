"""Edit the texture of a mesh by text: a photograph that is printed on a bent sheet, seen by some cameras.

The mesh stays; its texture follows the guidance. `MeshTexture` is the whole of what an editable thing needs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.utils import save_image

from pds_nerfstudio import Guidance
from pds_nerfstudio.editing import Descent, EditLoop, Fit, Guide, redraw
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import picture_guidance
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes, caption
from pds_nerfstudio.toyworld.renderer import orbit, render

MAN, GOAL = Attributes(color="blue"), Attributes(color="red")  # of the shirt
CAMERAS = (-30.0, 0.0, 30.0)
"""Degrees to the right of the sheet."""
WALL = torch.tensor([0.8, 0.88, 0.97])[:, None, None]
Mesh = tuple[Float[Tensor, "vertices 3"], Int[Tensor, "faces 3"], Float[Tensor, "vertices 2"]]
"""Places, triangles, and where in the texture each vertex is."""
Images = Float[Tensor, "views 3 height width"]


def photograph(thing: Attributes) -> Images:
    """Return a picture of something in the toy world, from the front."""
    return render(build([thing]), orbit(torch.tensor([0.0]), torch.tensor([10.0]), zoom=0.82)).rgb


def bent_sheet(columns: int = 12, bend: float = 0.8) -> Mesh:
    """Return a sheet of 1 × 1, bent around an upright axis by so many radians."""
    u, v = torch.meshgrid(torch.linspace(0, 1, columns + 1), torch.tensor([0.0, 1.0]), indexing="xy")
    angle = (u - 0.5) * bend
    places = torch.stack([angle.sin() / bend, 0.5 - v, (angle.cos() - 1) / bend], -1)
    a = torch.arange(columns)
    b, c, d = a + 1, a + columns + 1, a + columns + 2
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    return places.flatten(0, 1), faces, torch.stack([u, v], -1).flatten(0, 1)


def rasterize(mesh: Mesh, azimuth: float, size: int) -> tuple[Float[Tensor, "1 h w 2"], Bool[Tensor, "1 h w"]]:
    """Return where in the texture each pixel of a camera looks, and which pixels see the mesh."""
    (places, faces, coordinates), distance = mesh, 2.5
    a = torch.deg2rad(torch.tensor(azimuth))
    turn = torch.tensor([[a.cos(), 0, a.sin()], [0, 1, 0], [-a.sin(), 0, a.cos()]])
    x, y, z = (places @ turn).unbind(1)
    depth = distance - z
    p, q, r = (torch.stack([x, -y], 1) * 2.3 * distance / depth[:, None])[faces].unbind(1)
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    pixels = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 1, 2)

    def area(i: Tensor, j: Tensor, k: Tensor) -> Tensor:
        (ax, ay), (bx, by) = (j - i).unbind(-1), (k - i).unbind(-1)
        return ax * by - bx * ay

    barycentric = torch.stack([area(q, r, pixels), area(r, p, pixels), area(p, q, pixels)], -1) / area(p, q, r)[:, None]
    weights = barycentric / depth[faces]  # in space, not on the screen
    nearness, face = torch.where((barycentric >= 0).all(-1), weights.sum(-1), 0).max(1)
    weights = weights[torch.arange(len(face)), face]
    seen = ((weights / weights.sum(1, keepdim=True))[..., None] * coordinates[faces[face]]).sum(1)
    return seen.reshape(1, size, size, 2), (nearness > 0).reshape(1, size, size)


class MeshTexture:
    """An `Editable`: the texture of a mesh, all of whose cameras make a view.

    What changes is a sum of coarse and fine grids, for single texels would follow the guidance's noise.
    """

    def __init__(self, image: Images, mesh: Mesh, size: int = 128) -> None:
        self.before = image
        self.grids = [torch.zeros(1, 3, side, side, requires_grad=True) for side in (16, 32, 64)]
        self._seen = [rasterize(mesh, azimuth, 2 * size) for azimuth in CAMERAS]  # two rays a pixel along each axis

    @property
    def texture(self) -> Images:
        """Return the texture as it is now."""
        size = self.before.shape[-2:]
        change = sum(F.interpolate(grid, size, mode="bilinear", align_corners=False) for grid in self.grids)
        return (self.before + change).clamp(0, 1)

    def _show(self, texture: Images) -> Images:
        sample = partial(F.grid_sample, texture, padding_mode="border", align_corners=False)
        return F.avg_pool2d(torch.cat([torch.where(hit, sample(2 * uv - 1), WALL) for uv, hit in self._seen]), 2)

    def next_view(self) -> None:
        """Look from all cameras."""

    def render(self, view: None) -> Images:
        """Return what they see."""
        return self._show(self.texture)

    def source(self, view: None) -> Images:
        """Return what they saw."""
        return self._show(self.before)

    def keys(self, view: None) -> tuple[float, ...]:
        """Name the cameras."""
        return CAMERAS

    def project(self) -> None:
        """Leave the grids as they are: `texture` keeps within its bounds."""


def main(out: Path = Path("outputs/texture"), steps: int = 60, fit_steps: int = 60, seed: int = 0) -> MeshTexture:
    """Give the man on a bent sheet a red shirt. Pictures show what the cameras see and, last, the texture.

    Args:
        out: Folder for before.png and after.png.
        steps: Along the gradient of the guidance.
        fit_steps: Towards what the diffusion model then makes of the renders.
        seed: Another number makes another edit.
    """
    guidance = Guidance.from_config(replace(picture_guidance(), seed=seed), device="cpu")
    guidance.set_prompts(caption(MAN), caption(GOAL))
    thing = MeshTexture(photograph(MAN), bent_sheet())
    guide = Guide(Descent(thing, torch.optim.SGD(thing.grids, lr=1e-3, momentum=0.9), steps), guidance)
    goal = partial(redraw, thing, guidance, RedrawConfig(strength=0.15, denoising_steps=6))
    fit = Fit(Descent(thing, torch.optim.Adam(thing.grids, lr=0.01), fit_steps), goal)
    EditLoop([guide, fit]).run()
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        save_image(torch.cat([thing.source(None), thing.before]), out / "before.png", padding=0)
        save_image(torch.cat([thing.render(None), thing.texture]), out / "after.png", padding=0)
    return thing


if __name__ == "__main__":
    tyro.cli(main)
