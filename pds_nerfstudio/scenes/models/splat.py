"""pds-splat's model: splatfacto that goes on growing and culling Gaussians while it is edited, also without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from gsplat.strategy.ops import remove
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.splatfacto import SplatfactoModelConfig
from nerfstudio.utils.comms import get_rank, get_world_size
from torch import Tensor, nn

from pds_nerfstudio.checks import at_least, finite, share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.latents import resize
from pds_nerfstudio.scenes.anchor import Anchor, Pixels
from pds_nerfstudio.scenes.compat import cpu_splatfacto, offline_lpips
from pds_nerfstudio.scenes.distributed import take_from_first_rank
from pds_nerfstudio.scenes.models.any_device import SplatOnAnyDevice
from pds_nerfstudio.scenes.models.held import HoldingStrategy, release
from pds_nerfstudio.scenes.models.look import look_at_surface, powers_of_depth
from pds_nerfstudio.scenes.models.new_gaussians import FEWEST, planted, strewn
from pds_nerfstudio.scenes.models.painting import paint
from pds_nerfstudio.scenes.models.ply_columns import ply_columns
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.scene_model import SceneKind, Seen
from pds_nerfstudio.scenes.models.seeds import Seeds, find_seeds
from pds_nerfstudio.scenes.views import SourceView, SourceViews

_NEVER = 10**12


@dataclass
class EditSplatModelConfig(SplatfactoModelConfig):
    """splatfacto, editable."""

    _target: type = field(default_factory=lambda: EditSplatModel)
    edit_refine_every: int = 100
    """Edit steps from one split, duplication and removal of Gaussians to the next; 0 keeps their number."""
    edit_densify_grad_thresh: float = 0.0008
    """During the edit, Gaussians whose positional gradient exceeds this are split or duplicated."""
    edit_cull_alpha_thresh: float = 0.005
    """During the edit, Gaussians fainter than this are removed."""
    strewn_gaussians: int = 4000
    """Faint Gaussians strewn in the space that the cameras look at when the edit begins, so that new things can grow
    where there was nothing. What the edit does not need of them fades and is removed."""
    strewn_opacity: float = 0.012
    """Opacity of the strewn Gaussians, above edit_cull_alpha_thresh."""
    planted_gaussians: int = 8000
    """Most small Gaussians that a refinement with --pipeline.refine-from source plants where redrawn views agree on a
    new surface; 0 plants none."""
    edit_opacity_loss_mult: float = 0.01
    """During the edit, pulls every opacity towards 0, as 3DGS-MCMC does (Kheradmand et al., NeurIPS 2024):
    what no view needs fades, such as the inside of something that is to go. Larger values leave less of it behind, and
    blur a little what should stay."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 0, "edit_refine_every", "strewn_gaussians", "planted_gaussians")
        finite(self, "edit_densify_grad_thresh", "edit_opacity_loss_mult")
        share(self, "edit_cull_alpha_thresh")
        share(self, "strewn_opacity", above=True, below=True)


class EditSplatModel(SplatOnAnyDevice):
    """splatfacto with an edit phase."""

    config: EditSplatModelConfig
    kind: ClassVar[SceneKind] = "splat"

    def populate_modules(self) -> None:
        """Make splatfacto's modules, also without a GPU and where LPIPS' weights can't be downloaded."""
        with offline_lpips(), cpu_splatfacto(not torch.cuda.is_available()):
            super().populate_modules()
        # splatfacto's colours are views of a larger tensor, which the fused optimiser of a GPU refuses.
        for parameter in self.gauss_params.values():
            parameter.data = parameter.data.contiguous()
        self.editing = False
        self._strewn = 0  # of the Gaussians, the last
        self._edit_background = self.background_color  # the viewer replaces the latter by a colour of its own
        self.edited_background: Float[Tensor, "3"] | None = None
        """What shows instead where no Gaussian is, once an edit has changed it."""
        self.optimizers: dict[str, Any] = {}  # splatfacto has none before its first step; a resumed run may redraw then

    @property
    def edit_background(self) -> Float[Tensor, "3"]:
        """What transparent source images lie on, and what shows where no Gaussian is."""
        return self._edit_background

    @property
    def points(self) -> Float[Tensor, "points 3"]:
        """The centres of all Gaussians, on the CPU."""
        return self.means.detach().cpu()

    def _get_background_color(self) -> Float[Tensor, "3"]:
        if self.edited_background is not None:
            return self.edited_background.to(self.device)
        # A background that changes at each step, which keeps a reconstruction opaque, would be edited too.
        return self.edit_background.to(self.device) if self.editing else super()._get_background_color()

    def step_post_backward(self, step: int) -> None:
        """Densify and cull; a step whose gradient is not finite is not counted.

        Raises:
            UserError: If that leaves no Gaussian.
        """
        gradient = self.info["means2d"].grad
        if gradient is None:
            return
        # Decided on the device, without waiting for it: a Gaussian of no radius counts as not seen in this step.
        seen = gradient.isfinite().all()
        self.info["radii"] = torch.where(seen, self.info["radii"], 0)
        super().step_post_backward(step)
        if not self.num_points:
            option = "--pipeline.model." + ("edit-cull-alpha-thresh" if self.editing else "cull-alpha-thresh")
            raise UserError(f"After step {step} no Gaussian is left, since all were fainter than {option}: lower that.")
        if step % self.strategy.refine_every == 0:
            self._follow_first_rank()

    def begin_edit(self, first: bool, cameras: Cameras) -> None:
        """Switch to the edit's densification, and strew Gaussians if the edit begins here.

        Args:
            first: Whether this is the edit's very first step (not a resumed run).
            cameras: The training cameras.
        """
        self.editing = True
        self.camera_optimizer.requires_grad_(False)
        made = self.made
        release(self.strategy_state)
        self.strategy = HoldingStrategy(
            prune_opa=self.config.edit_cull_alpha_thresh,
            grow_grad2d=self.config.edit_densify_grad_thresh,
            grow_scale3d=self.config.densify_size_thresh,
            refine_start_iter=0,
            refine_stop_iter=_NEVER if self.config.edit_refine_every else 0,
            refine_every=max(1, self.config.edit_refine_every),
            reset_every=_NEVER,  # an opacity reset would undo the scene
            absgrad=self.config.use_absgrad,
        )
        self.strategy_state = {**self.strategy.initialize_state(scene_scale=1.0), "made": made}
        self._strewn = self.config.strewn_gaussians if first else 0
        if self._strewn:
            like = self.means.detach(), self.features_dc.detach()
            self._add(strewn(self._strewn, cameras, *like, self.config.strewn_opacity))
            self._follow_first_rank()

    @property
    def made(self) -> Bool[Tensor, " gaussians"]:
        """Which Gaussians the edit has made: strewn and planted ones, and what gsplat has let grow from them."""
        made = self.strategy_state.get("made")
        return torch.zeros(self.num_points, dtype=torch.bool, device=self.device) if made is None else made

    @property
    def free(self) -> Bool[Tensor, " gaussians"] | None:
        """Which Gaussians an edit may change; None if it may change all."""
        return self.strategy_state.get("free")

    @property
    def holds(self) -> bool:
        """Whether a part of the scene is held."""
        return self.free is not None

    @property
    def may_change(self) -> Bool[Tensor, " gaussians"] | None:
        """The same as `free`."""
        return self.free

    def light_from(self, which: Bool[Tensor, " gaussians"], camera: Cameras) -> Float[Tensor, "height width"]:
        """Return how much of each pixel's light comes from some Gaussians, in 0..1."""
        return self.picture_of(which.float()[:, None], camera, int(camera.height), int(camera.width))[..., 0]

    def held_state(self) -> dict[str, Any] | None:
        """Return which Gaussians the edit has made, and the background; of what is held, `free` says all."""
        state = {"made": self.made if bool(self.made.any()) else None, "background": self.edited_background}
        return {name: value.cpu() for name, value in state.items() if value is not None} or None

    def load_held_state(self, state: dict[str, Any] | None) -> None:
        """Take up which Gaussians the edit has made, and the background."""
        made, background = (None if state is None else state.get(name) for name in ("made", "background"))
        self.strategy_state["made"] = None if made is None else made.to(self.device)
        self.edited_background = background

    def load_state_dict(self, dict: Mapping[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Load weights as splatfacto does. Of what they are, nothing was made by this edit until its state says so."""
        self.load_held_state(None)
        return super().load_state_dict(dict, **kwargs)

    def hold(self, choose: Callable[[EditSplatModel], Bool[Tensor, " gaussians"]]) -> None:
        """From now on, keep every bit of all Gaussians but those that are chosen. For after `begin_edit`.

        Gaussians that were strewn in vain go.

        Args:
            choose: Returns which of a scene's Gaussians may change.
        """
        free = choose(self).to(self.device)
        if self.free is None and bool(free.all()):
            return
        in_vain = ~free
        in_vain[: len(free) - self._strewn] = False
        self.remove(in_vain)
        self._strewn = 0
        self.strategy.hold(self.gauss_params, self.optimizers, self.strategy_state, free[~in_vain])

    def remove(self, which: Bool[Tensor, " gaussians"]) -> None:
        """Remove some Gaussians; of several GPUs, those of which the first one says it."""
        if bool(which.any()):
            remove(self.gauss_params, self.optimizers, self.strategy_state, which)
        self._follow_first_rank()

    def contributions(
        self, camera: Cameras, weights: Float[Tensor, "height width channels"]
    ) -> Float[Tensor, "gaussians channels"]:
        """Return what each Gaussian adds to a picture, summed over its pixels with some weights.

        A pixel is the sum of what Gaussians add to it times their colours, so this is the gradient on the colours.

        Args:
            camera: One camera.
            weights: For each pixel.
        """
        height, width, channels = weights.shape
        colors = torch.zeros(self.num_points, channels, device=self.device, requires_grad=True)
        with torch.enable_grad():
            picture = self.picture_of(colors, camera, height, width)
            (sums,) = torch.autograd.grad((picture * weights.to(picture)).sum(), colors)
        return sums

    def picture_of(
        self, colors: Float[Tensor, "gaussians channels"], camera: Cameras, height: int, width: int
    ) -> Float[Tensor, "{height} {width} channels"]:
        """Return a picture in which the Gaussians have other colours than their own, before black.

        Args:
            colors: Of the Gaussians.
            camera: One camera.
            height: Of its picture, in pixels.
            width: Of its picture, in pixels.
        """
        with self.on_this_device():
            return paint(self, colors, camera, height, width)

    @torch.no_grad()
    def _add(self, new: Mapping[str, Float[Tensor, "new *features"]]) -> None:
        """Add Gaussians of the same colour from all sides, after those that are there."""
        n, made = len(new["means"]), self.made

        def with_zeros(values: Tensor) -> Tensor:
            return torch.cat([values, values.new_zeros(n, *values.shape[1:])])

        for name, old in list(self.gauss_params.items()):
            values = torch.cat([old, new[name]]) if name in new else with_zeros(old)
            self._replace(name, values, with_zeros)
        self.strategy_state["made"] = torch.cat([made, made.new_ones(n)])

    @torch.no_grad()
    def surfaces(self, views: SourceViews, redrawn: RedrawnViews) -> Seeds:
        """Return points of what redrawn views show that was not there, as deep as the scene is now.

        Args:
            views: The training views.
            redrawn: Those of them that were redrawn.
        """
        numbers = [index for index in range(len(views)) if index in redrawn]
        looks = []
        for index in numbers:
            camera, picture = views[index].camera, redrawn.picture(index)
            powers = powers_of_depth(self.means, camera)
            looks.append(look_at_surface(picture, self.picture_of(powers, camera, *picture.shape[:2]), camera))
        return find_seeds(looks, [redrawn.changed(index) for index in numbers], self.config.planted_gaussians)

    def plant(self, seeds: Seeds) -> None:
        """Add small Gaussians at points, for a fit to what these show."""
        n, free = len(seeds.means), self.free
        if n >= FEWEST:
            self._add(planted(seeds))
            if free is not None:
                free = torch.cat([free, free.new_ones(n)])
                self.strategy.hold(self.gauss_params, self.optimizers, self.strategy_state, free)
        self._follow_first_rank()  # which may have planted some where this one has too few

    def _replace(self, name: str, values: Tensor, resize: Callable[[Tensor], Tensor]) -> None:
        """Replace a group of the Gaussians' parameters; their number may change.

        Args:
            name: Of the group.
            values: The group's new values.
            resize: Makes the optimiser's memories of the old values fit the new ones.
        """
        old, parameter, optimizer = self.gauss_params[name], nn.Parameter(values), self.optimizers[name]
        self.gauss_params[name] = parameter
        state = optimizer.state.pop(old, {})
        optimizer.state[parameter] = {
            key: resize(value) if value.shape == old.shape else value for key, value in state.items()
        }
        optimizer.param_groups[0]["params"] = [parameter]

    @torch.no_grad()
    def _follow_first_rank(self) -> None:
        """Go on with the first rank's Gaussians, where several GPUs edit one scene.

        Each rank has seen views of its own, drawn random numbers of its own, and would split others.
        """
        if get_world_size() == 1:
            return
        count = torch.tensor(self.num_points, device=self.device)
        take_from_first_rank([count])
        n = int(count)
        for name, values in list(self.gauss_params.items()):
            if len(values) != n:
                self._replace(
                    name, values.new_empty(n, *values.shape[1:]), lambda old: old.new_empty(n, *old.shape[1:])
                )
            parameter = self.gauss_params[name]
            state = self.optimizers[name].state[parameter]
            take_from_first_rank([parameter, *(state[key] for key in sorted(state) if state[key].ndim)])
        made, free = (mask if mask is None or len(mask) == n else mask.new_empty(n) for mask in (self.made, self.free))
        take_from_first_rank(mask for mask in (made, free) if mask is not None)
        if get_rank() != 0:
            release(self.strategy_state)
            self.strategy_state = self.strategy.initialize_state(scene_scale=1.0)
        self.strategy_state["made"] = made
        if free is not None:
            self.strategy.hold(self.gauss_params, self.optimizers, self.strategy_state, free)

    def render_edit_view(
        self, camera: Cameras, index: int
    ) -> tuple[Float[Tensor, "height width 3"], dict[str, Float[Tensor, ""]]]:
        """Return a whole view with gradients, and what lets Gaussians go that no view needs.

        Args:
            camera: One camera.
            index: Of the training view.
        """
        mult = self.config.edit_opacity_loss_mult
        losses = {"opacity_loss": mult * self.opacities.sigmoid().mean()} if mult else {}
        return cast(Tensor, self.get_outputs(camera)["rgb"]), losses

    def see(self, view: SourceView) -> Seen:
        """Return a view with gradients, rendered fine and made as small as the guidance looks at it.

        The photograph was made small, too. A rasteriser blurs every Gaussian by a part of a pixel, of which a smaller
        picture has larger ones: rendered small, the scene would differ from its photograph all over, and be edited for
        it.

        Args:
            view: A training view.
        """
        fine, losses = self.render_edit_view(view.fine, view.index)
        rgb = resize(fine.permute(2, 0, 1)[None], (view.image.shape[-2], view.image.shape[-1]))[0].permute(1, 2, 0)
        return Seen(rgb, fine, losses)

    def compare_with_source(
        self, anchor: Anchor, step: int, seen: Sequence[tuple[SourceView, Seen]]
    ) -> tuple[list[Pixels], dict[str, Float[Tensor, ""]]]:
        """Return a part of each view of a step at its full size, with gradients.

        Args:
            anchor: Draws the parts.
            step: Of the run.
            seen: The step's views, of which those need no second render that have the full size.
        """
        pixels = []
        for view, look in seen:
            part = anchor.part(view.index, step)
            if look.fine.shape[:2] == anchor.views.full_size(view.index):
                shown = look.fine[part.rows, part.columns]
            else:
                shown = self.render_part(anchor.views, view.index, part)
            pixels.append(anchor.pixels(view.index, part, shown, 1 / len(seen)))
        return pixels, {}

    def fit_redrawn(self, view: SourceView, redrawn: RedrawnViews, turn: int) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a step that refines: how far a part of a full-size view is from its target.

        Args:
            view: A training view that was redrawn.
            redrawn: All that were.
            turn: How often the turn of that view has come before, which says what part.
        """
        tile = redrawn.tile(view.index, turn)
        rgb = self.draw_part(tile.camera, tile.size, tile.part)
        # The strategy measures positional gradients in halves of a view, and the loss is a mean over its pixels.
        for side in ("width", "height"):
            self.info[side] *= tile.share**0.5
        # Without the loss of `render_edit_view`: what is to be sharp has to become opaque.
        return {"photometric_loss": (tile.shown * (rgb - tile.target).abs()).mean()}

    def splats(self) -> Mapping[str, Float[Tensor, " gaussians"]]:
        """Return what a .ply file holds of each Gaussian, in the order and with the names of Kerbl et al., 2023."""
        return ply_columns(self)
