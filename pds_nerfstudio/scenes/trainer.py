"""nerfstudio's trainer for text edits: it counts the edit's own steps, and never loses a user's work."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.utils import writer
from nerfstudio.viewer.viewer import Viewer

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpointing import CheckpointingTrainer
from pds_nerfstudio.scenes.checkpoints import Checkpoint
from pds_nerfstudio.scenes.data import check_data, data_of, ending_of, lacks_data
from pds_nerfstudio.scenes.distributed import take_from_first_rank
from pds_nerfstudio.scenes.files.orbit import USUAL_ORBIT, OrbitConfig
from pds_nerfstudio.scenes.files.start import StartingSplat
from pds_nerfstudio.scenes.live.loop import LiveEdit
from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import EditSession, read_record
from pds_nerfstudio.scenes.output.history import History, Moment
from pds_nerfstudio.scenes.output.report import write_report
from pds_nerfstudio.scenes.output.results import evaluation_decibels, fixed_view, write_results
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.progress import ProgressLine, say_what_next
from pds_nerfstudio.scenes.readback import Readback
from pds_nerfstudio.scenes.run import GUIDANCE_SETTINGS
from pds_nerfstudio.scenes.signals import nothing_left_if_refused, one_line_errors, stopped_by_ctrl_c
from pds_nerfstudio.scenes.terminal import say

_STEPS_IN_PACE = 20
_JUDGED_VIEWS = 3
_POOR_DECIBELS = 20.0


@dataclass
class EditTrainerConfig(TrainerConfig):
    """A run that edits a scene by text."""

    _target: type = field(default_factory=lambda: EditTrainer)
    pipeline: EditPipelineConfig = field(default_factory=EditPipelineConfig)
    """The scene, its model, the prompts and the guidance."""
    max_num_iterations: int = 3000
    """Edit steps to run. A run that starts from no checkpoint reconstructs the scene first, for
    --pipeline.reconstruct-steps more; a resumed run does what is left of its edit steps."""
    load_dir: Path | None = None
    """Folder nerfstudio_models of the run to start from: a finished nerfacto (for pds-nerf) or splatfacto (for
    pds-splat), or an edit to resume. Without it (and without --load-checkpoint) the scene is reconstructed first."""
    load_checkpoint: Path | None = None
    """A single checkpoint file to start from, instead of --load-dir."""
    load_ply: Path | None = None
    """A splat of another tool to edit, instead of --load-dir: a .ply (3DGS, gsplat, Postshot, Polycam, SuperSplat, also
    compressed) or a .spz. The cameras are those of --data; without it, an orbit around what the splat shows."""
    ply_coordinates: Literal["auto", "world", "scene"] = "auto"
    """Where the splat of --load-ply lies. world: in the coordinates of the data set, COLMAP's for example, where 3DGS
    and most others leave it. scene: in those that nerfstudio trains in, where ns-export leaves it. auto: in which of
    them it looks more like the photos."""
    orbit: OrbitConfig = USUAL_ORBIT
    """The views of a splat from --load-ply without --data."""
    show_edit: bool = True
    """When the edit is done: write the edited views as a data set, a before/after sheet, a turntable video and
    report.html."""
    steps_per_picture: int = 50
    """Edit steps from one picture of the edit in the run's folder history to the next; 0 keeps none."""
    replay: Path | None = None
    """Repeat what was asked for in the viewer of an earlier run, at the same steps: that run's session.jsonl. Give the
    other options as they were given then."""

    def print_to_terminal(self) -> None:
        """Print the main settings in a few lines; config.yml has all."""
        pipeline = self.pipeline
        say(f"{self.method_name}: '{pipeline.src_prompt}' -> '{pipeline.tgt_prompt}'", "bold")
        say(
            f"scene {self.load_ply or data_of(self)}, model {pipeline.guidance.model}, "
            f"{pipeline.guidance.objective} with {_scale(pipeline.guidance.guidance_scale)} guidance scale, "
            f"{self.max_num_iterations} edit steps",
            before="  ",
        )
        say(f"all settings: {self.get_base_dir() / 'config.yml'}", before="  ")

    def facts(self) -> dict[str, str]:
        """Return the settings that a reader wants to know, by names in plain words; config.yml has all."""
        pipeline, guidance = self.pipeline, self.pipeline.guidance
        chosen = {
            "method": self.method_name,
            "data": data_of(self),
            "model": guidance.model,
            **{name: getattr(guidance, name) for name in GUIDANCE_SETTINGS},
            "guidance_scale": _scale(guidance.guidance_scale),
            "num_inference_steps": guidance.num_inference_steps,
            "photometric_loss_mult": pipeline.photometric_loss_mult,
            "lr_mult": pipeline.lr_mult,
            "seed": guidance.seed,
        }
        if self.load_ply is not None:
            chosen["splat"] = self.load_ply
        if parser := ending_of(self):
            chosen["data_parser"] = parser
        return {name.replace("_", " "): str(value) for name, value in chosen.items()}


def _scale(guidance_scale: float) -> str:
    """Return a guidance scale in words."""
    return f"{guidance_scale:g}" if guidance_scale else "the model's own"


class EditTrainer(CheckpointingTrainer):
    """Trains for a number of edit steps, saves safely, and turns a user's mistakes into one line.

    It is the `Run` that the panel, the report and the terminal look at.
    """

    config: EditTrainerConfig
    session: EditSession
    """What is asked for in the viewer's panel."""
    panel: EditPanel
    live: LiveEdit
    """Does what is asked for, between two steps."""
    history: History
    interrupted = False
    loss = math.nan
    """The sum of all losses, at the last step for which it is known; on a GPU that is one or two steps ago."""
    _scene_shown = False
    _splat: StartingSplat | None = None

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Set up as nerfstudio does, with a checkpoint's architecture taken over first."""
        with one_line_errors(), nothing_left_if_refused(self.base_dir, self.config.output_dir.parent):
            if self.config.max_num_iterations < 1:
                raise UserError(
                    f"--max-num-iterations is {self.config.max_num_iterations}: give at least one edit step."
                )
            self._read_start()
            check_data(self.config, self.config.pipeline.model._target.kind)
            if self.device.startswith("cuda:"):
                torch.cuda.set_device(self.device)  # what splatfacto means by .cuda()
            super().setup(test_mode)
            take_from_first_rank([*self.pipeline.model.parameters(), *self.pipeline.model.buffers()])
            self._set_up_watching()

    def _set_up_watching(self) -> None:
        """Make the session, its panel and the history, and show the panel in the viewer."""
        self.pace: deque[float] = deque(maxlen=_STEPS_IN_PACE)
        self._numbers: Readback[tuple[int, float]] = Readback()
        is_first = self.local_rank == 0
        self.history = History(self.base_dir, self.config.steps_per_picture if is_first else 0)
        self.progress = ProgressLine()
        self.session = EditSession(self.pipeline.settings)
        replay = self.config.replay
        self.session.begin(
            self.base_dir / "session.jsonl" if is_first else None, None if replay is None else read_record(replay)
        )
        self.panel = EditPanel(self.pipeline, self.session, self.history)
        if isinstance(self.viewer_state, Viewer):
            self.panel.open_in(self.viewer_state)
        self.live = LiveEdit(self, self.session, self.panel)

    def _read_start(self) -> None:
        """Read what the run is to start from, before nerfstudio's set-up, which builds the model for it."""
        config = self.config
        if config.load_ply is not None:
            others = config.load_dir or config.load_checkpoint
            self._splat = StartingSplat.read(config.load_ply, config.ply_coordinates, others)
            self._splat.give_architecture(config.pipeline.model)
            if lacks_data(config):
                self._splat = self._splat.on_orbit(config, self.device, self.local_rank == 0)
            if self.local_rank == 0:
                config.save_config()
        super()._read_start()

    def _load_checkpoint(self) -> None:
        """Take up weights (and, of an edit, everything else), and plan the steps of this run."""
        if self._splat is not None:
            self._checkpoint, self._splat = self._splat.checkpoint(self.pipeline, self.source_folder), None
        checkpoint, steps = self._checkpoint, self.config.max_num_iterations
        self.round_steps = steps
        if checkpoint is None:
            say(
                f"No checkpoint to start from: reconstructing for {self.config.pipeline.reconstruct_steps} steps, "
                f"then editing for {steps}."
            )
            start = self.config.pipeline.reconstruct_steps
        else:
            start = self._load(checkpoint)
        self.pipeline.plan = EditPlan(start, steps, self.config.pipeline.refine_steps)
        if self._start_step >= self.pipeline.plan.end:
            raise UserError(
                f"The edit in {checkpoint.path if checkpoint else 'this run'} has run its {steps} steps: "
                "raise --max-num-iterations to go on."
            )
        self._tell_host_of_plan()

    def _tell_host_of_plan(self) -> None:
        # nerfstudio 1.1.5 runs this many more steps, its main branch runs up to this step. Both pass plan.end, where
        # this trainer stops them.
        self.config = dataclasses.replace(self.config, max_num_iterations=self.pipeline.plan.end)

    def _load(self, checkpoint: Checkpoint) -> int:
        """Load weights and optimisers; return the step at which the edit begins."""
        self._start_step = checkpoint.step + 1
        self._take_up(checkpoint)
        if not checkpoint.is_edit:
            say(f"Editing the scene in {checkpoint.path}, with fresh optimisers.")
            return self._start_step
        say(f"Resuming the edit in {checkpoint.path} at step {self._start_step}.")
        self._take_up_choice(checkpoint)
        return self.pipeline.plan.start

    def _refine_from_source(self) -> None:
        """Redraw all views from the edited scene, and go on with the scene before the edit and fresh optimisers."""
        path = self._source.path
        if path is None:
            say(f"{self.source_folder} is not there: refining from the edited scene instead.", "yellow")
            return
        with self.train_lock:
            self.pipeline.redraw_all()
            plan = self.pipeline.plan  # which the checkpoint has a part of
            self._take_up_source(path, with_optimizers=False)
            self.pipeline.plan = plan
            self.pipeline.begin_again()

    @property
    def facts(self) -> Mapping[str, str]:
        """The settings that a reader wants to know, by names in plain words."""
        return self.config.facts()

    @property
    def skipped_steps(self) -> int:
        """Number of steps that were left out because a gradient was not finite."""
        return self.optimizers.skipped

    @property
    def stays_open(self) -> bool:
        """Whether the viewer stays open and takes requests after the last step."""
        return self.viewer_state is not None and not self.config.viewer.quit_on_train_completion

    def train(self) -> None:
        """Run the planned steps; Ctrl-C ends the run after its current step, with a checkpoint to resume from.

        nerfstudio's loop is left wherever there is something else to do than to run the next step, and entered again.
        """
        with one_line_errors(), stopped_by_ctrl_c(self._stop_soon), closing(self.panel):
            self._keep_source()
            self._init_viewer_state()
            self.live.serve()
            while self.has_steps and not self.interrupted:
                self._start_step = self.next_step
                self._tell_host_of_plan()
                if self.pipeline.plan.begins_to_refine(self.next_step) and self.pipeline.awaits_redrawing():
                    self._refine_from_source()
                super().train()
                if self.next_step == self.pipeline.plan.start and not self.source_folder.exists():
                    self._save_to(self.source_folder / f"step-{self.next_step - 1:09d}.ckpt", only=True)
                    self._judge_reconstruction()
                if not self.interrupted:
                    self.live.serve()
            if self.interrupted:
                self._say_stopped()

    def _judge_reconstruction(self) -> None:
        """Print how good the reconstruction is: to edit a failed one is a waste of time."""
        decibels = evaluation_decibels(self.pipeline, _JUDGED_VIEWS) if self.local_rank == 0 else []
        self.pipeline.train()
        if not decibels:
            return
        mean = sum(decibels) / len(decibels)
        say(f"Reconstructed: {mean:.1f} dB on {len(decibels)} of the data set's evaluation views.")
        if mean < _POOR_DECIBELS:
            say(
                "That is a poor scene, and an edit keeps its faults: stop, and give a larger "
                "--pipeline.reconstruct-steps, or check the camera poses.",
                "yellow",
            )

    def train_iteration(self, step: int):
        """Run one step; end nerfstudio's loop if something else is to be done before the next one."""
        began = time.monotonic()
        writer.GLOBAL_BUFFER["max_iter"] = self.pipeline.plan.end  # for nerfstudio's estimate of the time left
        loss, losses, metrics = super().train_iteration(step)
        loss, losses = loss.detach(), {name: value.detach() for name, value in losses.items()}  # for those who log them
        metrics = {name: value.detach() if torch.is_tensor(value) else value for name, value in metrics.items()}
        self._last_step = step
        seconds = time.monotonic() - began
        self.pace.append(seconds)
        gradient_rms = torch.as_tensor(metrics.get("gradient_rms", math.nan)).to(loss.device, non_blocking=True)
        self._numbers.put((step, seconds), [loss, gradient_rms])
        self._note_numbers()
        # An interruption before the loop has begun is forgotten by nerfstudio, not by this.
        if (
            self.interrupted
            or not self.has_steps
            or self.next_step == self.pipeline.plan.start
            or self.pipeline.plan.begins_to_refine(self.next_step)
            or self.training_state == "paused"
            or self.session.due(self.next_step)
        ):
            self.stop_training = True
            self._note_numbers(wait=True)
        return loss, losses, metrics

    def _note_numbers(self, wait: bool = False) -> None:
        """Record the numbers of the steps for which the device has sent them."""
        for (step, seconds), (loss, gradient_rms) in self._numbers.take(wait):
            self.loss = loss
            if self.pipeline.plan.edits(step) and self.local_rank == 0:
                self.history.add(Moment(step, loss, gradient_rms, seconds))
        if wait:
            self.optimizers.count(wait=True)

    def _update_viewer_state(self, step: int) -> None:
        # Whenever nerfstudio's loop is left, it logs its time at this step; wandb drops all earlier steps afterwards.
        writer.GLOBAL_BUFFER["max_iter"] = step
        with suppress(KeyError):  # a browser has left while nerfstudio went through them
            super()._update_viewer_state(step)
        self.live.update()
        self.panel.refresh()
        if self.local_rank == 0:
            self.progress.show(self.session.status)
        seen = self.pipeline.last_view
        if seen is not None and self.history.wants_pictures(step - self.pipeline.plan.start):
            with self.train_lock:
                self.history.add_pictures(step, seen.triptych(), fixed_view(self.pipeline))

    def _init_viewer_state(self) -> None:
        if not self._scene_shown:
            self._scene_shown = True
            super()._init_viewer_state()

    def _after_train(self) -> None:
        self._note_numbers(wait=True)
        if self.has_steps:  # nerfstudio's loop was only left
            return
        self.step = self.next_step - 1  # the loop has counted one further to notice that it should end
        self.progress.end()
        if self.config.show_edit and self.local_rank == 0:
            # Written before nerfstudio's own ending. The weights come first.
            self.save_checkpoint(self.step)
            with self.train_lock:
                self.write_results(self.base_dir)
        super()._after_train()
        self.at_rest = True
        self.live.note_finish()
        if self.local_rank == 0:
            say_what_next(self)

    def _train_complete_viewer(self) -> None:
        """Do nothing: this trainer's own loop goes on answering the viewer."""

    def _say_stopped(self) -> None:
        self.progress.end()
        if self._last_step is None:
            say("Stopped before the first step: there is nothing to save.")
            return
        if not self.has_steps or self.at_rest:
            return  # it was done, and the viewer was still open
        self.step = self._last_step
        self.live.note_stop()
        self.save_checkpoint(self.step)
        say(
            f"Stopped after step {self.step}. To go on, give the same command again with "
            f"--load-dir {self.checkpoint_dir}"
            + (f" --data {self.config.data} in place of --load-ply" if self.config.load_ply else "")
        )

    def write_results(self, folder: Path) -> None:
        """Write the results into `folder`, and print their paths."""
        self.pipeline.eval()
        frames = self.config.pipeline.turntable_frames
        written = write_results(self.pipeline, folder, frames, self._source.splat_coordinates)
        strip = self.history.write_strip(folder / "strip.jpg")
        report = write_report(folder, self)
        for path in [*written, *([strip] if strip else []), report]:
            say(f"Wrote {path}")

    def _stop_soon(self) -> None:
        if self.has_steps:
            say("Stopping after this step (Ctrl-C again stops at once, and loses it) ...")
        self.interrupted = True
        self.stop_training = True
