"""Where a render becomes a loss: nerfstudio's pipeline, with the guidance's gradient in its loss dict."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.comms import get_rank, get_world_size
from torch import Tensor
from torch.cuda.amp.grad_scaler import GradScaler

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.scenes.anchor import Anchor
from pds_nerfstudio.scenes.chance import Chance
from pds_nerfstudio.scenes.compat import read_points_without_open3d
from pds_nerfstudio.scenes.distilling import distil
from pds_nerfstudio.scenes.holding import Holding, Holds
from pds_nerfstudio.scenes.models.floaters import clear_floaters
from pds_nerfstudio.scenes.models.scene_model import SceneModel
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.optimizers import EditOptimizers
from pds_nerfstudio.scenes.output.pictures import EditedView
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.present import names_of
from pds_nerfstudio.scenes.ranges import check_edit, check_prompt
from pds_nerfstudio.scenes.rates import Rates
from pds_nerfstudio.scenes.refining import Refining
from pds_nerfstudio.scenes.run import GUIDANCE_SETTINGS, Settings
from pds_nerfstudio.scenes.selection.config import EVERYTHING, SelectionConfig
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.settings import check_scene_settings, settings_of, take_scene_settings
from pds_nerfstudio.scenes.signal import measure_floors
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.scenes.together import TOGETHER, Strategy, TogetherConfig, together_end
from pds_nerfstudio.scenes.views import SourceView, SourceViews, view_at

read_points_without_open3d()  # here, because no scene is edited without this module, in whichever process

Losses = tuple[Any, dict[str, Any], dict[str, Any]]
"""What nerfstudio's trainer is given of a step: outputs, losses, metrics."""


@dataclass
class EditPipelineConfig(VanillaPipelineConfig):
    """A text edit of a scene."""

    _target: type = field(default_factory=lambda: EditPipeline)
    src_prompt: str = ""
    """What the scene shows, for example "a photo of a man in a blue shirt on the grass". It may be left out for models
    that look at the source picture and take an instruction as the target prompt."""
    tgt_prompt: str = ""
    """What it should show. It works best if only the edit differs from the source prompt."""
    reconstruct_steps: int = 5000
    """If the run starts from no checkpoint: steps that reconstruct the scene before the edit begins."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    """The diffusion model and how it edits."""
    strategy: Strategy = "distil"
    """How edit steps edit. distil: by the gradient of the guidance. together: all views are redrawn from their sources,
    again and again and with less and less noise, while the scene, through which they agree, is fitted to them; a few
    hundred steps are enough. both: first so, for a draft, and then by distillation."""
    together: TogetherConfig = TOGETHER
    """How views are edited together."""
    views_per_step: int = 1
    """Views that an edit step looks at, in one call of the diffusion model where they are of one size. More views make
    a step less noisy, but take longer in proportion: worth it where a single view leaves a GPU idle."""
    guidance_loss_mult: float = 1.0
    """Multiplies the guidance's loss (a mean over the numbers of a latent)."""
    photometric_loss_mult: float = 0.0
    """Holds what the edit is not about to the source images at their full size, by the distance from them outside the
    guidance's mask (with --pipeline.guidance.localize 0 there is no mask and it acts everywhere). A splat's step
    compares its view (one larger than 1080p in parts), by an L1 loss; a NeRF's as many random rays of all views as a
    step that reconstructs, by squares, as that does."""
    lr_mult: float = 1.0
    """Multiplies the learning rates of all parameter groups when the edit begins."""
    lr_warmup_steps: int = 0
    """Edit steps over which the learning rates rise to their full size, linearly. Adam's steps ignore the size of the
    gradients until it has seen some: full rates at once would move every number by a whole rate, whether the edit needs
    it or not."""
    lr_final_mult: float = 0.1
    """Share of the learning rates that is left at the edit's last step; they fall exponentially. Small values let the
    noise of single steps average out."""
    refine_steps: int = 0
    """Steps that refine the finished edit: its renders are redrawn by the diffusion model, view after view, and the
    scene is fitted to them. A splat's step fits it to one redrawn view, a NeRF's to rays of all that were redrawn."""
    refine_from: Literal["edit", "source"] = "edit"
    """What refining begins with. edit: the edited scene. source: the scene as it was before the edit, which is then
    fitted to views that have been redrawn from the edited one; it does not keep the haze that an edit leaves, and needs
    hundreds of --pipeline.refine-steps. A splat then grows from points that the redrawn views agree on."""
    refinement: RedrawConfig = field(default_factory=RedrawConfig)
    """How renders are redrawn while refining."""
    refine_rounds: int = 2
    """While refining, a view is redrawn from its current render once in so many times that its turn comes: 1 redraws it
    each time."""
    redraw_final_mult: float = 1.0
    """Share of --pipeline.refinement.strength that is left when refining ends; it falls exponentially, and so does the
    number of --pipeline.refinement.denoising-steps. Views that are redrawn with less and less agree better in the end,
    less is invented late, and they cost less: so they can be redrawn more often (--pipeline.refine-rounds)."""
    refine_lr_mult: float = 0.6
    """Share of the edit's learning rates that refining begins with; it falls to the edit's final share."""
    smallest_gradient: float = 0.0
    """What the scene takes for a signal: numbers for whose sake a latent would be pulled by less than this, in units of
    its standard deviation, take shorter steps than the rest, down to none. 0 steps all at full rate, as Adam does,
    which where nothing is asked for is noise."""
    only: SelectionConfig = EVERYTHING
    """What may change. All else is held: of splats Gaussians, to the bit; of NeRFs what is shown of space
    outside the box and outside what all masks show inside."""
    hold_below: float = 0.2
    """Of a splat, with --pipeline.guidance.localize: Gaussians that the prompts ask no change of are held to the bit.
    Those are the ones of whose light less than this share lies where the model tells the prompts apart, which it is
    asked for in up to 48 views before the edit. 0 holds none of them."""
    turntable_frames: int = 90
    """Frames of the video that shows the finished edit from all around; 0 makes none."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        check_edit(self)


class EditPipeline(VanillaPipeline):
    """Reconstructs with nerfstudio's own loss, then edits with the guidance's.

    The guidance and the diffusion model in it exist only while training: viewing, rendering, evaluating and exporting
    a result load none of it, and no checkpoint holds any of it.
    """

    config: EditPipelineConfig

    def __init__(
        self,
        config: EditPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: GradScaler | None = None,
    ) -> None:
        self.training_run = test_mode == "val"
        # As if there were one GPU: gradients are averaged by this package's optimisers (see `distributed`).
        super().__init__(config, device, test_mode, 1, local_rank, grad_scaler)
        self.world_size = world_size
        self._chance = Chance(self.model, self.datamanager, config.guidance.seed)
        self.plan = EditPlan(start=config.reconstruct_steps, steps=0)
        """Set by the trainer before the first step."""
        self.last_view: EditedView | None = None
        """What the last edit step has seen."""
        self._editing = False
        self._everything = False  # whether the edit changes most of what a splat shows
        self._folder: Path | None = None  # of the run
        self.guidance: Guidance | None = None
        if self.training_run:
            self.guidance = Guidance.from_config(config.guidance, torch.device(device), get_rank())
            if not self.guidance.denoiser.looks_at_source:
                check_prompt("src-prompt", config.src_prompt, "shows")
            self.guidance.set_prompts(config.src_prompt, config.tgt_prompt)
            config.guidance = self.guidance.config  # which has the model's own guidance scale, if none was given
            side = config.guidance.resolution or self.guidance.denoiser.resolution
            self.views = SourceViews(self.datamanager, side, self.model.edit_background, device)
            self._anchor = Anchor(self.views, f"{config.guidance.seed}/{get_rank()}", device)
            self._refining = Refining(
                self.model,
                self.views,
                self.guidance,
                config.refinement,
                config.redraw_final_mult,
                from_source=config.refine_from == "source",
            )
            self._together = config.together.fitting(self.model, self.views, self.guidance)
            holds = Holds(config.only, config.hold_below, config.views_per_step * config.guidance.samples)
            self._holding = Holding(self.model, self.views, self.guidance, holds)

    @property
    def model(self) -> SceneModel:  # type: ignore[override]
        """The scene's model, one of nerfstudio's that can be edited."""
        return cast(SceneModel, super().model)

    @property
    def settings(self) -> Settings:
        """Settings that may change while the edit runs, as they are now; without the number of steps."""
        return settings_of(self.config)

    def change_settings(self, changes: Settings) -> None:
        """Change settings from the next step on: all of them or, if one is invalid, none.

        Raises:
            UserError: If one is invalid.
        """
        assert self.guidance is not None
        source, target = ({**self.settings, **changes}[name].strip() for name in ("src_prompt", "tgt_prompt"))
        for name, prompt in (("source", source), ("target", target)):
            may_be_empty = name == "source" and self.guidance.denoiser.looks_at_source
            if not prompt and not may_be_empty:
                raise UserError(f"The {name} prompt is empty: say in a few words what the scene shows or should show.")
        guidance = {name: value for name, value in changes.items() if name in GUIDANCE_SETTINGS}
        replace(self.guidance.config, **guidance).check()
        check_scene_settings(changes)
        only = self.config.only.changed(changes.get("only", {}))
        self._holding.choose(only, self._editing, self._folder)
        self.guidance.reconfigure(**guidance)
        self.config.guidance, self.config.only = self.guidance.config, only
        if (source, target) != (self.config.src_prompt, self.config.tgt_prompt):
            self._anchor.forget()
        self.guidance.set_prompts(source, target)
        self.config.src_prompt, self.config.tgt_prompt = source, target
        take_scene_settings(self.config, changes)

    @property
    def may_change(self) -> Bool[Tensor, " gaussians"] | Region | None:
        """Which Gaussians, or which region of space, may change; None if all may."""
        return self._holding.may_change(self._editing) if self.training_run else None

    @property
    def takes_requests(self) -> bool:
        """Whether the run takes requests from the viewer's panel. Of several GPUs only the first would get them."""
        return self.training_run and self.world_size == 1

    @property
    def editing(self) -> bool:
        """Whether the edit has begun."""
        return self._editing

    def forget_edit(self) -> None:
        """Let the next edit step be a first one again, after the source's weights have been restored."""
        assert self.guidance is not None
        self.last_view = None
        self.begin_again()
        self.guidance.forget_sources()
        self._anchor.forget()

    def awaits_redrawing(self, step: int) -> bool:
        """Return whether all views are to be redrawn before a step, and have yet to be."""
        fitting = self._fitting(step)
        return fitting is not None and step in (self.plan.start, self.plan.refine_start) and fitting.awaits_redrawing

    def redraw_all(self, step: int) -> None:
        """Redraw all views (of several GPUs, this one's) from the scene as it is, for a step and those after it."""
        fitting = self._fitting(step)
        assert fitting is not None
        self.train()
        self._chance.take_up(grown=False)
        fitting.redraw_all()
        self.last_view = fitting.last_view

    def _fitting(self, step: int) -> Refining | None:
        """Return what an edit step fits the scene to: views being refined, or edited together; None if it distils."""
        if self.plan.refines(step):
            return self._refining
        return self._together if step < self._together_end else None

    @property
    def _together_end(self) -> int:
        return together_end(self.config.strategy, self.config.together, self.plan, self._everything)

    def begin_again(self) -> None:
        """Prepare the model anew for the rest of the edit, after weights have been loaded."""
        self._editing = False
        self._chance.load_state_dict({})

    def begin_round(self, step: int, steps: int) -> None:
        """Begin a new edit at `step`, of `steps` steps, with the refinement after it."""
        self.plan = replace(self.plan, start=step, steps=steps)
        for fitting in (self._together, self._refining):
            fitting.forget()

    def get_train_loss_dict(self, step: int) -> Losses:
        """Return the losses of a reconstruction step or of an edit step."""
        if not self.plan.edits(step):
            return super().get_train_loss_dict(step)
        fitting = self._fitting(step)
        return self._edit_loss_dict(step) if fitting is None else self._fit_loss_dict(fitting, step)

    def _edit_loss_dict(self, step: int) -> Losses:
        assert self.guidance is not None
        self._refining.forget()  # what an earlier round has redrawn
        n, turn = self.config.views_per_step, step - self.plan.start
        views = [self._view_at(k) for k in range(n * turn, n * (turn + 1))]
        mults = self.config.guidance_loss_mult, self.config.photometric_loss_mult
        step_of = distil(self.model, self.guidance, self._anchor, views, step, self.plan.progress(step), *mults)
        self.last_view = step_of.last
        return {"rgb": step_of.rgb}, step_of.losses, step_of.metrics

    def _fit_loss_dict(self, fitting: Refining, step: int) -> Losses:
        if fitting is self._refining:
            first, end, rounds = self.plan.refine_start, self.plan.end, self.config.refine_rounds
        else:
            first, end = self.plan.start, self._together_end
            rounds = self.config.together.rounds(end - first, len(self.views))
        k = step - first
        losses = fitting.losses(k, self._view_at(k), k / (end - first), rounds)
        self.last_view = fitting.last_view or self.last_view
        if step == end - 1:
            fitting.forget()  # so that later checkpoints don't hold them
        return {}, losses, {}

    def _view_at(self, k: int) -> SourceView:
        rank = get_rank()
        return self.views[view_at(k, len(self.views), self.config.guidance.seed + rank, rank, get_world_size())]

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Return nerfstudio's callbacks, then those that begin the edit, steer its rates and tidy up after it."""
        callbacks = super().get_training_callbacks(training_callback_attributes)
        optimizers, trainer = training_callback_attributes.optimizers, training_callback_attributes.trainer
        assert optimizers is not None
        self._folder = None if trainer is None else trainer.base_dir
        begin, end = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        before, after = TrainingCallback([begin], self._before_step, args=[optimizers]), self._after_step
        return [*callbacks, before, TrainingCallback([end], after), self._chance.callback()]

    def _before_step(self, optimizers: Optimizers, step: int) -> None:
        first = step == self.plan.start
        if first or not self.plan.edits(step):
            self._chance.begin_step(step, grown=not first)
        if not self.plan.edits(step):
            return
        steps = cast(EditOptimizers, optimizers)
        steps.whole &= self._editing and not self.plan.begins_to_refine(step)
        if not self._editing:
            self._editing = True
            if first:
                steps.come_to_rest()
            if first and self.config.smallest_gradient:
                assert self.guidance is not None
                least = self.config.smallest_gradient, self.config.guidance_loss_mult
                measure_floors(steps, self.model, self.guidance, self.views, *least)
            if self.model.kind == "nerf":  # fog is let into what may change, and strewn Gaussians may be chosen
                self._holding.begin(first, self._folder)
            self.model.begin_edit(first=first and self._holding.asks, cameras=self.views.cameras)
            if self.model.kind == "splat":
                self._holding.begin(first, self._folder)
        self._chance.begin_step(step, grown=True)
        self._holding.follow_words(self._folder)
        if first:
            self._everything = self._together.begin() and self.model.kind == "splat"
        if self.plan.begins_to_refine(step):
            self._refining.begin()
        config, again = self.config, self.config.refine_from == "source"
        rates = Rates(config.lr_warmup_steps, config.lr_final_mult, config.refine_lr_mult, again)
        steps.set_rates(config.lr_mult * rates.share(self.plan, step))

    def _after_step(self, step: int) -> None:
        """Remove floaters after the last step of each way to edit and of refining: before it is saved."""
        ends = {self.plan.refine_start, self.plan.end, self._together_end} - {self.plan.start}
        if step + 1 in ends and isinstance(self.model, EditSplatModel):
            n = clear_floaters(self.model, self.views.view_cameras)
            if n and get_rank() == 0:
                say(f"Removed {n} of the edit's Gaussians: faint ones, and what fewer than two views see.")
        if self.plan.start < step + 1 == self._together_end < self.plan.refine_start and get_rank() == 0:
            say("That was the draft of the scene: distillation goes on from there.")

    def get_extra_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beside weights and optimisers; while it refines, also the redrawn views."""
        state: dict[str, Any] = {"edit_start": self.plan.start}
        if self.guidance is not None:
            state |= {**self._chance.state_dict(), **self._holding.choice(self._editing)}
        if self.guidance is not None and self._editing:
            state |= {"guidance": self.guidance.state_dict(), "views": names_of(self.views.outputs)}
            learned: dict[str, Any] = {"anchor": self._anchor.state_dict(), "everything": self._everything}
            learned |= {"redrawn": self._refining.state_dict(), "together": self._together.state_dict()}
            state |= {name: some for name, some in learned.items() if some}
            if (held := self.model.held_state()) is not None:
                state["held"] = held
            state |= self._holding.state_dict()
        return state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up a run of this method where it was."""
        self.plan = replace(self.plan, start=state["edit_start"])
        self.model.load_held_state(state.get("held"))
        if self.guidance is None:
            return
        self._chance.load_state_dict(state)
        self._holding.load_state_dict(state)
        if "guidance" in state:
            guidance = state["guidance"]
            self._anchor.load_state_dict(state.get("anchor", {}))
            self._everything = "everything" in state
            if get_rank() != 0:  # the random state is the first rank's: noise that all share would be drawn for nothing
                guidance = {name: value for name, value in guidance.items() if name != "generator"}
            else:
                self._refining.load_state_dict(state.get("redrawn", {}))
                self._together.load_state_dict(state.get("together", {}))
            self.guidance.load_state_dict(guidance)

    def take_up_choice(self, state: dict[str, Any]) -> None:
        """Let change what the user chose in the run that goes on; see `Holding.take_up_choice`."""
        self.config.only = self._holding.take_up_choice(state)
