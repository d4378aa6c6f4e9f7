"""What several tests of the vector package need."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import resvg_py
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.fonts import font_options

Check = Callable[[Callable[[Tensor], Tensor], Tensor], float]
"""Relative error of a gradient."""
Oracle = Callable[..., Tensor]
"""Renders the bytes of an SVG with resvg."""
Render = Callable[..., Tensor]
"""Renders a document."""
SceneCheck = Callable[..., dict[str, float]]
"""Relative error of the gradient by each tensor of a scene."""


class Towards(Guidance):
    """A guidance whose edit is known: the picture of another drawing. Its latents are the pictures themselves."""

    def __init__(self, svg: bytes, canvas: int = 64) -> None:
        self.goal = VectorEditor(Document(svg), canvas).render().detach()
        self.seen: list[tuple[Any, ...]] = []
        self.calls: list[str] = []
        self.finite = True
        self.config = GuidanceConfig()
        self.denoiser: Any = SimpleNamespace(
            device=torch.device("cpu"),
            result_dtype=torch.float32,
            resolution=canvas,
            size_multiple=8,
            encode_image=torch.clone,
            decode_latents=torch.clone,
        )

    def __call__(self, image: Tensor, source_image: Tensor, progress: float, keys: Any = None) -> Any:
        self.calls.append("image")
        self.seen.append((image.detach(), source_image, progress, keys))
        loss = (image - self.goal).square().sum()
        return SimpleNamespace(loss=loss, finite=torch.tensor(self.finite), metrics={"distance": loss.detach()})

    def latent_loss(self, target: Tensor, source: Tensor, progress: float, keys: Any = None) -> Any:
        self.calls.append("latent")
        loss = (target - self.goal).square().sum()
        return SimpleNamespace(loss=loss, finite=torch.tensor(self.finite), metrics={"distance": loss.detach()})

    def redraw_latents(self, target: Tensor, source: Tensor, config: Any, allowed: Tensor | None = None) -> Tensor:
        self.calls.append("refine")
        return target

    def redraw(
        self, image: Tensor, source_image: Tensor, config: Any, keys: Any = None, unedited: Any = None
    ) -> Tensor:
        self.calls.append("redraw")
        return self.goal.expand_as(image)


def _gradients(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of a scalar function, and central differences in its place, in float64."""
    at = at.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(function(at), at)
    numeric = torch.zeros_like(exact)
    step = 1e-5
    with torch.no_grad():
        for i in range(at.numel()):
            shift = torch.zeros_like(exact)
            shift.view(-1)[i] = step
            numeric.view(-1)[i] = (function(at + shift) - function(at - shift)) / (2 * step)
    assert numeric.norm() > 0
    return exact, numeric


def _gradient_error(function: Callable[[Tensor], Tensor], at: Tensor) -> float:
    """Return the relative difference between the gradient of a scalar function and central differences."""
    exact, numeric = _gradients(function, at)
    return float((exact - numeric).norm() / numeric.norm())


@pytest.fixture
def gradient_error() -> Check:
    """Return what finds the relative error of a gradient against finite differences."""
    return _gradient_error


@pytest.fixture
def scene_gradient_errors() -> SceneCheck:
    """Return what finds the error of the gradient by each tensor of a scene, for a random loss on a 32 × 32 canvas.

    The error is that of the worst row (point, colour, stop, gradient …), relative to that row, so that none hides
    behind a larger one. Rows that matter less than a thousandth of the largest are compared with that thousandth.
    """

    def errors(scene: Scene, parameters: SceneParameters, view: tuple = (1, 0, 0, 1, 0, 0)) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(3, 32, 32, generator=generator, dtype=torch.float64)
        background = torch.rand(3, 32, 32, generator=generator, dtype=torch.float64)
        rasterizer = Rasterizer(scene, tolerance=1e-3)
        double = parameters.map(lambda t: t.double())
        found = {}
        for name, value in vars(double).items():
            if value.numel() == 0:
                continue

            def loss(changed: Tensor, name: str = name) -> Tensor:
                numbers = SceneParameters(**{**vars(double), name: changed})
                return (rasterizer.render(numbers, 32, 32, view, background) * weight).sum()

            exact, numeric = (gradient.reshape(len(value), -1) for gradient in _gradients(loss, value))
            size = numeric.norm(dim=1)
            found[name] = float(((exact - numeric).norm(dim=1) / size.clamp(min=1e-3 * size.max())).max())
        return found

    return errors


def _render(document: Document, size: int = 128) -> Tensor:
    """Return a document over white, [3, size, size]."""
    view = document.view(size, size)
    return Rasterizer(document.scene).render(document.parameters, size, size, view, torch.ones(3, size, size))


@pytest.fixture
def render() -> Render:
    """Return what renders a document over white on a square canvas."""
    return _render


@pytest.fixture
def oracle() -> Oracle:
    """Return what renders the bytes of a square SVG over white with resvg, optionally supersampled."""

    def rendered(data: bytes, size: int = 128, supersampling: int = 1) -> Tensor:
        side = size * supersampling
        png = bytes(resvg_py.svg_to_bytes(svg_string=data.decode(), width=side, height=side, dpi=96, **font_options()))
        rgba = torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGBA"))).permute(2, 0, 1) / 255
        image = rgba[:3] * rgba[3] + 1 - rgba[3]
        return torch.nn.functional.avg_pool2d(image[None], supersampling)[0]

    return rendered
