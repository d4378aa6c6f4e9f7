"""pds-nerf's model: nerfacto whose whole image can be rendered with gradients in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.model_components.losses import lossfun_distortion, lossfun_outer, ray_samples_to_sdist
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.utils.colors import COLORS_DICT
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pds_nerfstudio.checks import at_least, share
from pds_nerfstudio.scenes.anchor import Anchor, Pixels
from pds_nerfstudio.scenes.compat import offline_lpips
from pds_nerfstudio.scenes.distributed import take_from_first_rank
from pds_nerfstudio.scenes.kernels.hash_encoding import TritonUse, has_triton
from pds_nerfstudio.scenes.kernels.nerfacto import parts_for_colors, sampling_for_colors, speed_up_nerfacto
from pds_nerfstudio.scenes.models.fog import fill_with_fog
from pds_nerfstudio.scenes.models.kept_space import KeptSpace
from pds_nerfstudio.scenes.models.ray_colors import RayColors
from pds_nerfstudio.scenes.models.ray_gradients import RayGradients
from pds_nerfstudio.scenes.models.ray_sampling import LastLosses, render_through_sampled_rays
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.scene_model import SceneKind, Seen
from pds_nerfstudio.scenes.models.seeds import Seeds
from pds_nerfstudio.scenes.models.view_rays import ViewRays
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.views import SourceView, SourceViews


@dataclass
class EditNerfModelConfig(NerfactoModelConfig):
    """nerfacto, editable."""

    _target: type = field(default_factory=lambda: EditNerfModel)
    edit_rays_per_chunk: int = 16384
    """Rays that an edit step holds gradients for at a time; fewer need less memory and are a little slower."""
    edit_colors_per_chunk: int = 131072
    """Rays that an edit step renders at a time without gradients where Triton's kernels do it, which hold little in
    memory. Elsewhere it is --pipeline.model.eval-num-rays-per-chunk."""
    edit_rays_per_step: int = 16384
    """Rays of its view that an edit step is back-propagated through, drawn by how much the edit asks of each and
    weighted so that their mean is the whole view's gradient. The view is always rendered whole; fewer rays are faster
    and noisier. 0 takes all."""
    fog_opacity: float = 0.3
    """When the edit begins, faint fog is let into the ball that the cameras look at, so that new things can grow where
    there was nothing: the share of the light that it takes from a ray through the whole ball. What the edit does not
    need of it dissolves. 0 makes none."""
    fog_steps: int = 100
    """Steps that fit the scene to that fog."""
    triton: TritonUse = "auto"
    """Whether hash grids, and whole fields where no gradients are wanted, run in Triton where PyTorch would run them:
    on a GPU without tiny-cuda-nn. auto: if Triton is installed. Results and checkpoints are the same up to rounding."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 1, "edit_rays_per_chunk", "edit_colors_per_chunk")
        at_least(self, 0, "edit_rays_per_step", "fog_steps")
        share(self, "fog_opacity", below=True, of="the light")


class EditNerfModel(NerfactoModel):
    """nerfacto with a differentiable render of whole views."""

    config: EditNerfModelConfig
    kind: ClassVar[SceneKind] = "nerf"

    def populate_modules(self) -> None:
        """Make nerfacto's modules, also where LPIPS' weights can't be downloaded."""
        with offline_lpips():
            super().populate_modules()
        self._view_rays = ViewRays()
        self._last_losses, self._last_losses_of_random = LastLosses(), LastLosses()
        self._ray_gradients = RayGradients(self, self._render_rays, self._decides_rendering)
        self._ray_colors = RayColors(self, self._render_colors, self._decides_colors)
        self._triton = has_triton(self.config.triton)
        self._for_colors = speed_up_nerfacto(self, self._triton)
        self._sample_for_colors = sampling_for_colors(self.proposal_sampler, self._triton)
        self._kept: KeptSpace | None = None

    @property
    def edit_background(self) -> Float[Tensor, "3"]:
        """What transparent source images lie on."""
        color = self.config.background_color
        return torch.ones(3) if color == "white" else torch.zeros(3)

    @property
    def points(self) -> Float[Tensor, "1 3"]:
        """The middle of the scene box, on the CPU."""
        return self.scene_box.get_center()[None]

    def splats(self) -> None:
        """Return nothing: the scene is not made of Gaussians."""

    @property
    def free(self) -> None:
        """Nothing: the scene is not made of Gaussians."""

    @property
    def holds(self) -> bool:
        """Whether a part of the scene is held."""
        return self._kept is not None

    def hold(self, choose: Callable[[Any], Region]) -> None:
        """From now on, keep what is shown of space outside a region as it is now.

        Args:
            choose: Returns the region in which the scene may change.
        """
        region = choose(self)
        earlier = self._release()
        self._keep(KeptSpace(self, region) if earlier is None else earlier.moved(region))

    @property
    def may_change(self) -> Region | None:
        """The region in which the scene may change; None if that is all of space."""
        return None if self._kept is None else self._kept.region

    @torch.no_grad()
    def light_from(self, region: Region, camera: Cameras) -> Float[Tensor, "height width"]:
        """Return how much of each pixel's light comes from a region, in 0..1."""
        rays = camera.generate_rays(camera_indices=0, keep_shape=True).to(self.device)
        size, rays, chunk = rays.shape, rays.flatten(), self._colors_per_chunk
        light = []
        for start in range(0, len(rays), chunk):
            samples, _, weights = self._samples_for_colors(rays[start : start + chunk])
            inside = region.contains(samples.frustums.get_positions())
            light.append((weights[..., 0] * inside).sum(-1))
        return torch.cat(light).view(size)

    def held_state(self) -> dict[str, Any] | None:
        """Return what is held, for a checkpoint; None if nothing is."""
        return None if self._kept is None else self._kept.state_dict()

    def load_held_state(self, state: dict[str, Any] | None) -> None:
        """Hold what a checkpoint held, and nothing else."""
        self._release()
        if state is not None:
            self._keep(KeptSpace.from_state(self, state, self.device))

    def _keep(self, kept: KeptSpace) -> None:
        self._kept = kept
        frozen = [parts_for_colors(parts, self._triton) for parts in kept.frozen]
        self._for_colors = kept.parts_of(self._for_colors, frozen)

    def _release(self) -> KeptSpace | None:
        """Hold nothing any more; return what has been held."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.release()
            self._for_colors = parts_for_colors(self, self._triton)
        return kept

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
        color = COLORS_DICT.get(str(self.config.background_color))
        if color is not None:  # which nerfstudio would send to the device for each ray of each chunk
            self.renderer_rgb.background_color = color.to(self.device)
        if first and self.config.fog_opacity:
            fill_with_fog(self, cameras, self.config.fog_opacity, self.config.fog_steps)
            take_from_first_rank(self.parameters())  # each GPU has drawn points and rays of its own

    def render_edit_view(
        self, camera: Cameras, index: int
    ) -> tuple[Float[Tensor, "height width 3"], dict[str, Float[Tensor, ""]]]:
        """Return a whole view with gradients, and the losses that keep the geometry sound.

        Nothing of a chunk but its colours is kept: the backward pass renders each chunk again with the gradient of its
        colours (exactly, the random state included), so memory is bounded by `edit_rays_per_chunk`. With
        `edit_rays_per_step` it renders so many rays of the view again (see `ray_sampling`).

        Args:
            camera: One camera.
            index: Of the training view, for its pose correction and appearance.
        """
        rays = self._view_rays(camera, index).to(self.device)
        height, width = rays.shape
        rays = rays.flatten()
        rays.camera_indices = torch.full((len(rays), 1), index, device=self.device)
        n = self.config.edit_rays_per_step
        if 0 < n < len(rays):
            colors, interlevel, distortion = self._render_again(rays, n, self._last_losses)
        else:
            colors, interlevel, distortion = self._render_in_chunks(rays)
        return colors.reshape(height, width, 3), self._regularizers(interlevel, distortion)

    def see(self, view: SourceView) -> Seen:
        """Return a view with gradients, at the guidance's size: a ray has the same colour at any size.

        Args:
            view: A training view.
        """
        rgb, losses = self.render_edit_view(view.camera, view.index)
        return Seen(rgb, rgb, losses)

    def compare_with_source(
        self, anchor: Anchor, step: int, seen: Sequence[tuple[SourceView, Seen]]
    ) -> tuple[list[Pixels], dict[str, Float[Tensor, ""]]]:
        """Return random rays of all full-size views, as many as reconstruct it, and what keeps the geometry sound.

        The weights of a field are shared by all that it shows: what is not looked at does not stay.

        Args:
            anchor: Draws the rays.
            step: Of the run.
            seen: The step's views, which are not needed.
        """
        rays, source, pixels = anchor.views.random_rays(step)
        shown, interlevel, distortion = self._render_random(rays)
        return [anchor.rays(pixels, source, shown)], self._regularizers(interlevel, distortion)

    def fit_redrawn(self, view: SourceView, redrawn: RedrawnViews, turn: int) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a step that refines: how far rays are from the redrawn views.

        As many as `edit_rays_per_step`. Rays of one view alone could be satisfied by haze in front of its camera.

        Args:
            view: A training view that was redrawn; all of its rays would be a step's, if the number is 0.
            redrawn: All that were.
            turn: Not used: rays are drawn anew in each step.
        """
        rays, wanted, shown = redrawn.sample(self.config.edit_rays_per_step or view.image[0, 0].numel())
        colors, interlevel, distortion = self._render_random(rays)
        distance = (shown * (colors - wanted).abs()).mean()
        return {"photometric_loss": distance, **self._regularizers(interlevel, distortion)}

    def surfaces(self, views: SourceViews, redrawn: RedrawnViews) -> Seeds | None:
        """Return None: a field has no points."""
        return None

    def plant(self, seeds: Seeds) -> None:
        """Do nothing: a field has no points."""

    def _regularizers(
        self, interlevel: Float[Tensor, ""], distortion: Float[Tensor, ""]
    ) -> dict[str, Float[Tensor, ""]]:
        return {
            "interlevel_loss": self.config.interlevel_loss_mult * interlevel,
            "distortion_loss": self.config.distortion_loss_mult * distortion,
        }

    def _render_random(self, rays: RayBundle) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, ""], Float[Tensor, ""]]:
        """Return colours of rays of many views with gradients, and the means of both regularisers."""
        if self._for_colors.are_fast:
            return self._render_again(rays, len(rays), self._last_losses_of_random)
        return self._render_in_chunks(rays)

    def _render_again(
        self, rays: RayBundle, n: int, last: LastLosses
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, ""], Float[Tensor, ""]]:
        """Return colours that the backward pass renders again for n of the rays, and the means of both regularisers."""
        chunks = self.config.edit_rays_per_chunk, self._colors_per_chunk
        wanted = [parameter for parameter in self.parameters() if parameter.requires_grad]
        render = self._ray_gradients, self._ray_colors
        return render_through_sampled_rays(*render, rays, n, *chunks, wanted, last)

    def _decides_rendering(self) -> tuple[Any, ...]:
        """Return what decides how rays are rendered, beside the weights."""
        return self.training, float(self.proposal_sampler._anneal), id(self._kept)

    def _decides_colors(self) -> tuple[Any, ...] | None:
        """Return the same of colours alone; None where nerfstudio renders them, which waits for the device."""
        return self._decides_rendering() if self._for_colors.are_fast else None

    def _render_in_chunks(
        self, rays: RayBundle
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, ""], Float[Tensor, ""]]:
        """Return colours of rays with gradients, and the means of both regularisers.

        The graph of one chunk is held at a time.
        """
        per_chunk = self.config.edit_rays_per_chunk
        chunks = [
            cast(
                tuple[Tensor, Tensor, Tensor],
                checkpoint(self._render_rays, rays[start : start + per_chunk], use_reentrant=False),
            )
            for start in range(0, len(rays), per_chunk)
        ]
        colors, interlevel, distortion = (torch.cat(part) for part in zip(*chunks, strict=True))
        return colors, interlevel.mean(), distortion.mean()

    @property
    def _colors_per_chunk(self) -> int:
        # Chunks cost some three hundred launches each: with few rays in each, a GPU waits for Python.
        return self.config.edit_colors_per_chunk if self._for_colors.are_fast else self.config.eval_num_rays_per_chunk

    def _render_rays(
        self, rays: RayBundle
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
        """Return colours, and each ray's share in nerfacto's two regularisers.

        Their values are the means over the rays.
        """
        # A copy, since nerfacto changes its argument and these rays may be rendered again.
        outputs: dict[str, Any] = self.forward(replace(rays))
        weights, samples = outputs["weights_list"], outputs["ray_samples_list"]
        losses = ray_interlevel_losses(weights, samples), ray_distortion_losses(weights, samples)
        return outputs["rgb"], *losses

    @torch.no_grad()
    def _render_colors(self, rays: RayBundle) -> Float[Tensor, "rays 3"]:
        """Return the colours of `_render_rays` alone: of what nerfacto computes beside them, depths cost most."""
        _, colors, weights = self._samples_for_colors(rays)
        return cast(Tensor, self.renderer_rgb(rgb=colors, weights=weights))

    def _samples_for_colors(
        self, rays: RayBundle
    ) -> tuple[RaySamples, Float[Tensor, "rays samples 3"], Float[Tensor, "rays samples 1"]]:
        """Return samples along rays, their colours and their weights."""
        rays = replace(rays)
        if self.collider is not None:
            rays = self.collider(rays)
        if self.training:
            self.camera_optimizer.apply_to_raybundle(rays)
        samples = self._sample_for_colors(rays, self._for_colors.density_fns)
        outputs = self._for_colors.field(samples)
        return samples, outputs[FieldHeadNames.RGB], samples.get_weights(outputs[FieldHeadNames.DENSITY])


def ray_interlevel_losses(weights: list[Tensor], samples: list[RaySamples]) -> Float[Tensor, "rays"]:
    """Return what keeps the proposals' histograms above the field's, for each ray (mip-NeRF 360, equation 13).

    Args:
        weights: Of the samples of each proposal network and, last, of the field; rays × samples × 1 each.
        samples: Those samples.
    """
    edges, heights = ray_samples_to_sdist(samples[-1]).detach(), weights[-1][..., 0].detach()
    levels = zip(samples[:-1], weights[:-1], strict=True)
    terms = [lossfun_outer(edges, heights, ray_samples_to_sdist(s), w[..., 0]).mean(-1) for s, w in levels]
    return torch.stack(terms).sum(0)


def ray_distortion_losses(weights: list[Tensor], samples: list[RaySamples]) -> Float[Tensor, "rays"]:
    """Return what pulls the density along each ray together (mip-NeRF 360, equation 15).

    Args:
        weights: As for `ray_interlevel_losses`.
        samples: As for `ray_interlevel_losses`.
    """
    return lossfun_distortion(ray_samples_to_sdist(samples[-1]), weights[-1][..., 0])
