"""nerfstudio's trainer, taught what a text edit needs: its own count of steps, and never losing what a user has."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import yaml
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils import writer

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.scenes.checkpoints import Checkpoint, adopt_architecture, find_checkpoint, read_checkpoint
from pds_nerfstudio.scenes.distributed import take_from_first_rank
from pds_nerfstudio.scenes.live.loop import LiveEdit
from pds_nerfstudio.scenes.optimizers import EditOptimizers
from pds_nerfstudio.scenes.output.history import History, Moment
from pds_nerfstudio.scenes.output.report import write_report
from pds_nerfstudio.scenes.output.results import evaluation_decibels
from pds_nerfstudio.scenes.pipeline import EditPipeline, EditPipelineConfig
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.progress import ProgressLine, say_what_next
from pds_nerfstudio.scenes.readback import Readback
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
    show_edit: bool = True
    """When the edit is done: write the edited views as a data set, a before/after sheet, a turntable video and
    report.html."""
    steps_per_picture: int = 50
    """Every so many edit steps, keep a picture of the edit in the run's folder history; 0 keeps none."""
    replay: Path | None = None
    """Repeat what was asked for in the viewer of an earlier run, at the same steps: that run's session.jsonl. Give the
    other options as they were given then."""

    def print_to_terminal(self) -> None:
        """Say in a few lines what is about to be done; the file config.yml has every setting."""
        pipeline = self.pipeline
        say(f"{self.method_name}: '{pipeline.src_prompt}' -> '{pipeline.tgt_prompt}'", "bold")
        say(
            f"scene {pipeline.datamanager.data}, model {pipeline.guidance.model}, "
            f"{pipeline.guidance.objective} with guidance scale {pipeline.guidance.guidance_scale:g}, "
            f"{self.max_num_iterations} edit steps",
            before="  ",
        )
        say(f"all settings: {self.get_base_dir() / 'config.yml'}", before="  ")


class EditTrainer(Trainer):
    """Trains for a number of edit steps, saves safely, and turns a user's mistakes into one line."""

    config: EditTrainerConfig
    pipeline: EditPipeline
    live: LiveEdit
    """What the viewer's panel asks for, between two steps."""
    interrupted = False
    """Whether the run is to end before its steps are done."""
    optimizers: EditOptimizers
    loss = math.nan
    """All losses together, at the last step of which it is known; on a GPU that is one or two steps ago."""
    _last_step: int | None = None
    _scene_shown = False

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """nerfstudio's setup, with a checkpoint's architecture taken over first."""
        with one_line_errors():
            if self.config.max_num_iterations < 1:
                raise UserError(
                    f"--max-num-iterations is {self.config.max_num_iterations}: give at least one edit step."
                )
            self._check_data()
            path = find_checkpoint(self.config.load_dir, self.config.load_step, self.config.load_checkpoint)
            self._checkpoint = None if path is None else read_checkpoint(path)
            if self._checkpoint is not None:
                wanted = "splat" if issubclass(self.config.pipeline.model._target, SplatfactoModel) else "nerf"
                if self._checkpoint.kind != wanted:
                    other = {"splat": "a splat scene: use pds-splat", "nerf": "a NeRF: use pds-nerf"}
                    found = other.get(self._checkpoint.kind, "neither nerfacto's nor splatfacto's")
                    raise UserError(f"{path} can't be edited with {self.config.method_name}, it is {found}.")
                adopt_architecture(self.config.pipeline.model, self._checkpoint)
                if self.local_rank == 0:
                    self.config.save_config()  # ns-viewer and the others build the model from it
            if self.device.startswith("cuda:"):
                torch.cuda.set_device(self.device)  # what splatfacto means by .cuda()
            super().setup(test_mode)
            take_from_first_rank([*self.pipeline.model.parameters(), *self.pipeline.model.buffers()])
            self.pace: deque[float] = deque(maxlen=_STEPS_IN_PACE)
            self._numbers: Readback[tuple[int, float]] = Readback()
            pictures = self.config.steps_per_picture if self.local_rank == 0 else 0
            self.history = self.pipeline.history = History(self.base_dir, pictures)
            self.progress = ProgressLine()
            self.live = LiveEdit(self, self.config.replay)

    def _check_data(self) -> None:
        """Refuse a path that holds no scene; data of other kinds than nerfstudio's own are left to their parsers."""
        datamanager = self.config.pipeline.datamanager
        dataparser = getattr(datamanager, "dataparser", None)
        if not isinstance(dataparser, NerfstudioDataParserConfig):
            return
        data = Path(datamanager.data or self.config.data or dataparser.data)
        if not data.is_file() and not (data / "transforms.json").is_file():
            raise UserError(f"--data {data} holds no transforms.json: make one with ns-process-data, or mend the path.")

    def setup_optimizers(self) -> EditOptimizers:
        """The optimisers, which skip steps that are not finite."""
        return EditOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def _load_checkpoint(self) -> None:
        """Take up weights (and, of an edit, everything else), and plan the steps of this run."""
        checkpoint, steps = self._checkpoint, self.config.max_num_iterations
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
        """Load weights and optimisers; returns the step at which the edit begins."""
        self._start_step = checkpoint.step + 1
        self._take_up(checkpoint)
        if not checkpoint.is_edit:
            say(f"Editing the scene in {checkpoint.path}, with fresh optimisers.")
            return self._start_step
        say(f"Resuming the edit in {checkpoint.path} at step {self._start_step}.")
        return self.pipeline.plan.start

    def _take_up(self, checkpoint: Checkpoint, with_optimizers: bool = True) -> None:
        """Have the weights and, of this method's own checkpoints, everything else that they hold."""
        state = checkpoint.state
        try:
            self.pipeline.load_pipeline(state["pipeline"], checkpoint.step)
        except (RuntimeError, KeyError) as error:
            reason = str(error).strip().split("\n")[-1].strip()
            raise UserError(
                f"The weights in {checkpoint.path} don't fit ({reason}): keep the run's config.yml beside its folder "
                "nerfstudio_models, or give the same --pipeline.model options."
            ) from None
        lacking = [
            name
            for name in self.pipeline.model.state_dict()
            if name not in checkpoint.model_weights and "lpips" not in name
        ]
        if lacking:
            raise UserError(
                f"{checkpoint.path} lacks the weights {', '.join(lacking[:3])}: it is of another method or an older "
                "version; train the scene anew with this nerfstudio."
            )
        self._check_coordinates(checkpoint)
        # Loading a splat has replaced its parameters: optimisers made before would go on with the old ones.
        self.optimizers = self.setup_optimizers()
        if not (checkpoint.is_edit and with_optimizers):
            return
        try:
            self.optimizers.load_optimizers(state["optimizers"])
            self.grad_scaler.load_state_dict(state["scalers"])
        except (ValueError, KeyError, RuntimeError):
            self.optimizers = self.setup_optimizers()  # some of them may have been loaded
            say(f"The optimisers in {checkpoint.path} don't fit this run: starting with fresh ones.", "yellow")

    @property
    def source_folder(self) -> Path:
        """Where the scene lies as it was before the edit, for undoing it and for the next edit to start from."""
        return self.base_dir / "reconstruction"

    def _keep_source(self) -> None:
        """Keep what a resumed edit began with, or the weights of a scene about to be edited."""
        checkpoint = self._checkpoint
        if checkpoint is None or self.local_rank != 0 or self.source_folder.exists():
            return
        if checkpoint.is_edit:
            theirs = checkpoint.path.parent.parent / self.source_folder.name
            if theirs.is_dir():
                shutil.copytree(theirs, self.source_folder)
            return
        self.source_folder.mkdir(parents=True)
        state = {**checkpoint.state, "optimizers": {}, "schedulers": {}}  # the edit begins with fresh ones
        torch.save(state, self.source_folder / f"step-{checkpoint.step:09d}.ckpt")

    def restore_source(self) -> None:
        """Have the scene and the optimisers again as they were before the edit, to the last bit.

        Raises:
            UserError: If the run was resumed from one that did not keep them.
        """
        path = self._source_checkpoint()
        if path is None:
            raise UserError(f"{self.source_folder} is not there: this run does not know the scene before the edit.")
        self._take_up_source(path)
        self.pipeline.forget_edit()

    def _refine_from_source(self) -> None:
        """Redraw all views from the edited scene, and go on with the scene before the edit and fresh optimisers."""
        path = self._source_checkpoint()
        if path is None:
            say(f"{self.source_folder} is not there: refining from the edited scene instead.", "yellow")
            return
        with self.train_lock:
            self.pipeline.redraw_all()
            plan = self.pipeline.plan  # which the checkpoint has a part of
            self._take_up_source(path, with_optimizers=False)
            self.pipeline.plan = plan
            self.pipeline.begin_again()

    def _source_checkpoint(self) -> Path | None:
        return max(self.source_folder.glob("step-*.ckpt"), default=None)

    def _take_up_source(self, path: Path, with_optimizers: bool = True) -> None:
        self._take_up(read_checkpoint(path), with_optimizers)
        self.callbacks = self.pipeline.get_training_callbacks(
            TrainingCallbackAttributes(
                optimizers=self.optimizers, grad_scaler=self.grad_scaler, pipeline=self.pipeline, trainer=self
            )
        )

    def _check_coordinates(self, checkpoint: Checkpoint) -> None:
        """Refuse a scene trained in other coordinates than this run's, in which every camera would look elsewhere."""
        written = checkpoint.path.parent.parent / "dataparser_transforms.json"
        dataset = self.pipeline.datamanager.train_dataset
        assert dataset is not None
        ours = dataset._dataparser_outputs
        try:
            theirs = json.loads(written.read_text())
            transform, scale = torch.tensor(theirs["transform"]), torch.tensor(theirs["scale"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        same_scale = torch.isclose(scale, torch.tensor(ours.dataparser_scale), rtol=1e-3)
        if not same_scale or not torch.allclose(transform, ours.dataparser_transform.to(transform), atol=1e-3):
            raise UserError(
                f"The scene in {checkpoint.path} was trained in other coordinates: give the same data and the same "
                "options of the data parser as its config.yml."
            )

    @property
    def next_step(self) -> int:
        """The step that would be run next."""
        return self._start_step if self._last_step is None else self._last_step + 1

    @property
    def has_steps(self) -> bool:
        """Whether there is a step left to run."""
        return self.next_step < self.pipeline.plan.end

    @property
    def stays_open(self) -> bool:
        """Whether the viewer goes on when all steps are done, and more may be asked for."""
        return self.viewer_state is not None and not self.config.viewer.quit_on_train_completion

    def train(self) -> None:
        """Run the planned steps; Ctrl-C ends the run after its current step, with a checkpoint to resume from.

        nerfstudio's loop is left wherever there is something else to do than to run the next step, and entered again.
        """
        with one_line_errors(), self._stopped_by_ctrl_c(), closing(self.pipeline.panel):
            self._keep_source()
            self._init_viewer_state()
            self.live.serve()
            while self.has_steps and not self.interrupted:
                self._start_step = self.next_step
                self._tell_host_of_plan()
                if self.pipeline.plan.begins_to_refine(self.next_step) and self.pipeline.awaits_redrawing:
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
        """Say how good the scene is that is about to be edited: a failed one would be edited for nothing."""
        decibels = evaluation_decibels(self.pipeline, _JUDGED_VIEWS) if self.local_rank == 0 else []
        self.pipeline.train()
        if not decibels:
            return
        mean = sum(decibels) / len(decibels)
        say(f"Reconstructed: {mean:.1f} dB on {len(decibels)} of the data set's evaluation views.")
        if mean < _POOR_DECIBELS:
            say(
                "That is a poor scene, and an edit keeps what is wrong with it: stop, and give "
                "--pipeline.reconstruct-steps more, or look for what is wrong with the poses.",
                "yellow",
            )

    def train_iteration(self, step: int):  # noqa: ANN201 (nerfstudio's tuple of losses)
        """One step; has nerfstudio's loop end where there is something else to do than the next one."""
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
            or self.pipeline.session.due(self.next_step)
        ):
            self.stop_training = True
            self._note_numbers(wait=True)
        return loss, losses, metrics

    def _note_numbers(self, wait: bool = False) -> None:
        """Keep the numbers of those steps for which they have come back from the device."""
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
        self.pipeline.panel.refresh()
        if self.local_rank == 0:
            self.progress.show(self.pipeline.session.status)
        if self.history.wants_pictures(self.pipeline, step):
            with self.train_lock:
                self.history.add_pictures(self.pipeline, step)

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
        self.live.say(f"Done. The results are in {self.base_dir}")
        if self.local_rank == 0:
            say_what_next(self)

    def _train_complete_viewer(self) -> None:
        """Nothing: this trainer's own loop goes on answering the viewer."""

    def _say_stopped(self) -> None:
        self.progress.end()
        if self._last_step is None:
            say("Stopped before the first step: there is nothing to save.")
            return
        if not self.has_steps:
            return  # it was done, and the viewer was still open
        self.step = self._last_step
        self.live.note_stop()
        self.save_checkpoint(self.step)
        say(
            f"Stopped after step {self.step}. To go on, give the same command again with "
            f"--load-dir {self.checkpoint_dir}"
        )

    def write_results(self, folder: Path) -> None:
        """Leave what a person wants to look at in `folder`, and say so."""
        self.pipeline.eval()
        written = self.pipeline.write_results(folder)
        strip = self.history.write_strip(folder / "strip.jpg")
        report = write_report(folder, self)
        for path in [*written, *([strip] if strip else []), report]:
            say(f"Wrote {path}")

    @contextmanager
    def _stopped_by_ctrl_c(self) -> Iterator[None]:
        """The first Ctrl-C lets the current step finish; a second one ends at once, as Python does by default."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def stop(signum: int, frame: object) -> None:
            signal.signal(signal.SIGINT, before)
            if self.has_steps:
                say("Stopping after this step (Ctrl-C again stops at once, and loses it) ...")
            self.interrupted = True
            self.stop_training = True

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def save_checkpoint(self, step: int) -> None:
        """Write a checkpoint, and only then let it take the last one's place.

        Raises:
            UserError: If it can't be written, say because the disk is full; the last checkpoint is kept.
        """
        with self.train_lock:  # the viewer, in its own thread, may be showing other weights than the scene's
            self._save_to(self.checkpoint_dir / f"step-{step:09d}.ckpt", only=self.config.save_only_latest_checkpoint)

    def write_checkpoint(self, path: Path) -> None:
        """Write a checkpoint of the last step to a file of one's own choice. The caller holds the lock.

        Raises:
            UserError: If it can't be written.
        """
        self._save_to(path, only=False)

    def _save_to(self, path: Path, only: bool) -> None:
        # Not inside the folder, in which nerfstudio's viewer and the others look for nothing but checkpoints.
        step, unfinished = self.next_step - 1, self.base_dir / "unfinished"
        usual, self.checkpoint_dir = self.checkpoint_dir, unfinished
        try:
            super().save_checkpoint(step)
            if self.local_rank != 0:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(unfinished / f"step-{step:09d}.ckpt", path)
        except (OSError, RuntimeError) as error:
            has_earlier = any(usual.glob("step-*.ckpt"))
            way_out = f"resume with --load-dir {usual} from the last good one" if has_earlier else "start again"
            raise UserError(
                f"The checkpoint of step {step} can't be written to {path.parent} ({first_line(error)}): make room on "
                f"the disk, then {way_out}."
            ) from None
        finally:
            self.checkpoint_dir = usual
            if self.local_rank == 0:
                shutil.rmtree(unfinished, ignore_errors=True)
        if only:
            for other in path.parent.glob("step-*.ckpt"):
                if other != path:
                    other.unlink()

    def save_settings(self) -> None:
        """Let config.yml say what the settings are now."""
        config = dataclasses.replace(self.config, max_num_iterations=self.live.round)
        (self.base_dir / "config.yml").write_text(yaml.dump(config), "utf8")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line, in place of a traceback, for a `UserError` or a full disk."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SystemExit(
            f"Error: The disk is full ({error}): make room, then resume from the last checkpoint."
        ) from None
