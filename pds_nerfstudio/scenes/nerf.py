"""pds-nerf's model: nerfacto whose whole image can be rendered with gradients in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.losses import distortion_loss, interlevel_loss
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pds_nerfstudio.scenes.compat import offline_lpips


@dataclass
class EditNerfModelConfig(NerfactoModelConfig):
    """nerfacto, editable."""

    _target: type = field(default_factory=lambda: EditNerfModel)
    edit_rays_per_chunk: int = 16384
    """Rays that an edit step holds gradients for at a time; fewer need less memory and are a little slower."""


class EditNerfModel(NerfactoModel):
    """nerfacto with a differentiable render of whole views."""

    config: EditNerfModelConfig

    def populate_modules(self) -> None:
        """nerfacto's modules, also where LPIPS' weights can't be downloaded."""
        with offline_lpips():
            super().populate_modules()

    @property
    def edit_background(self) -> Float[Tensor, "3"]:
        """What transparent source images lie on."""
        color = self.config.background_color
        return torch.ones(3) if color == "white" else torch.zeros(3)

    def begin_edit(self, first: bool, cameras: Cameras) -> None:
        """Keep poses and per-image appearance as they were learned: an edit changes the scene, not the photographs.

        Args:
            first: Whether this is the edit's very first step (not a resumed run).
            cameras: The training cameras.
        """
        self.camera_optimizer.requires_grad_(False)
        if self.field.embedding_appearance is not None:
            self.field.embedding_appearance.requires_grad_(False)
        # The schedule lets most steps leave the proposal networks without gradients, and counts calls to decide which:
        # rendering in chunks, and each chunk again in the backward pass, would decide differently each time.
        self.proposal_sampler.update_sched = lambda step: -1

    def render_edit_view(
        self, camera: Cameras, index: int
    ) -> tuple[Float[Tensor, "height width 3"], dict[str, Float[Tensor, ""]]]:
        """A whole view with gradients, and the losses that keep the geometry sound.

        Nothing of a chunk but its colours is kept: the backward pass renders each chunk again with the gradient of its
        colours (exactly, the random state included), so memory is bounded by `edit_rays_per_chunk`.

        Args:
            camera: One camera.
            index: Of the training view, for its pose correction and appearance.
        """
        rays = camera.generate_rays(camera_indices=0, keep_shape=True).to(self.device)
        height, width = rays.shape
        rays = rays.flatten()
        rays.camera_indices = torch.full((len(rays), 1), index, device=self.device)
        colors, interlevel, distortion = [], [], []
        for start in range(0, len(rays), self.config.edit_rays_per_chunk):
            chunk = rays[start : start + self.config.edit_rays_per_chunk]
            rgb, *losses = cast(
                tuple[Tensor, Tensor, Tensor], checkpoint(self._render_chunk, chunk, use_reentrant=False)
            )
            share = len(chunk) / len(rays)
            colors.append(rgb)
            interlevel.append(losses[0] * share)
            distortion.append(losses[1] * share)
        return torch.cat(colors).reshape(height, width, 3), {
            "interlevel_loss": self.config.interlevel_loss_mult * torch.stack(interlevel).sum(),
            "distortion_loss": self.config.distortion_loss_mult * torch.stack(distortion).sum(),
        }

    def _render_chunk(self, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
        outputs = self.forward(rays)
        weights, samples = outputs["weights_list"], outputs["ray_samples_list"]
        return cast(Tensor, outputs["rgb"]), interlevel_loss(weights, samples), distortion_loss(weights, samples)
