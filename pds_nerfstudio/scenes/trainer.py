"""nerfstudio's trainer for text edits: it counts the edit's own steps, and never loses a user's work."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.utils import writer
from nerfstudio.utils.comms import get_world_size
from nerfstudio.viewer.viewer import Viewer

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpointing import CheckpointingTrainer
from pds_nerfstudio.scenes.checkpoints import Checkpoint
from pds_nerfstudio.scenes.data import check_data, lacks_data
from pds_nerfstudio.scenes.distributed import on_any_rank, take_from_first_rank
from pds_nerfstudio.scenes.files.start import StartingSplat
from pds_nerfstudio.scenes.live.loop import LiveEdit
from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import EditSession, read_record
from pds_nerfstudio.scenes.output.before import SceneBefore
from pds_nerfstudio.scenes.output.history import History, Moment
from pds_nerfstudio.scenes.output.report import write_report
from pds_nerfstudio.scenes.output.results import fixed_view, judge_reconstruction, write_results
from pds_nerfstudio.scenes.pace import Pace, TimeLeft
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.progress import ProgressLine, in_words, say_what_next
from pds_nerfstudio.scenes.readback import Readback
from pds_nerfstudio.scenes.run_config import EditRunConfig
from pds_nerfstudio.scenes.signals import (
    exit_status,
    nothing_left_if_refused,
    one_line_errors,
    stopped_by_signals,
    stopped_while_loading,
    tell,
)
from pds_nerfstudio.scenes.terminal import lasting_output, say

_STEPS_BEFORE_TIME_IS_SAID = 5


@dataclass
class EditTrainerConfig(EditRunConfig):
    """A run that edits a scene by text."""

    _target: type = field(default_factory=lambda: EditTrainer)


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
    _stopped_by: int | None = None
    loss = math.nan
    """The sum of all losses, at the last step for which it is known; on a GPU that is one or two steps ago."""
    _scene_shown = False
    _splat: StartingSplat | None = None

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Set up as nerfstudio does, with a checkpoint's architecture taken over first."""
        refused = nothing_left_if_refused(self.base_dir, self.config.output_dir.parent)
        with lasting_output(), one_line_errors(), stopped_while_loading(), refused:
            self.config.check()
            self._read_start()
            check_data(self.config, self.config.pipeline.model._target.kind)
            if self.device.startswith("cuda:"):
                torch.cuda.set_device(self.device)  # what splatfacto means by .cuda()
            super().setup(test_mode)
            take_from_first_rank([*self.pipeline.model.parameters(), *self.pipeline.model.buffers()])
            self._set_up_watching()

    def _set_up_watching(self) -> None:
        """Make the session, its panel and the history, and show the panel in the viewer."""
        self._paces, self._time_said = Pace(), False
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
        is_done = self._start_step >= self.pipeline.plan.end
        if is_done and not self._lacks_results(checkpoint) and not self.stays_open:
            raise UserError(
                f"The edit in {checkpoint.path if checkpoint else 'this run'} has run its {steps} steps: "
                "raise --max-num-iterations to go on. To open and steer it, give --vis viewer."
            )
        self._tell_host_of_plan()

    def _lacks_results(self, checkpoint: Checkpoint | None) -> bool:
        """Return whether the run of a checkpoint has yet to write its results, of which the report is the last."""
        return (
            self.config.show_edit
            and checkpoint is not None
            and checkpoint.is_edit
            and not (checkpoint.path.parent.parent / "report.html").exists()
        )

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

    def _redraw_all(self) -> None:
        """Redraw all views; to refine, go on with the scene before the edit and fresh optimisers then."""
        path, refines = self._source.path, self.pipeline.plan.begins_to_refine(self.next_step)
        if refines and path is None:
            say(f"{self.source_folder} is not there: refining from the edited scene instead.", "yellow")
            return
        with self.train_lock:
            self._be_as_after_last_step()
            self.pipeline.redraw_all(self.next_step)
            if not refines:
                return
            assert path is not None
            plan = self.pipeline.plan  # which the checkpoint has a part of
            self._take_up_source(path, with_optimizers=False)
            self.optimizers.whole = False  # until the next step is done
            self.pipeline.plan = plan
            self.pipeline.begin_again()

    def _be_as_after_last_step(self) -> None:
        """Prepare a resumed run, which has run no step yet, as its last step before was prepared."""
        last = self.next_step - 1
        if not self.pipeline.editing and last > self.pipeline.plan.start:
            for callback in self.callbacks:
                callback.run_callback_at_location(last, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)

    @property
    def facts(self) -> Mapping[str, str]:
        """The settings that a reader wants to know, by names in plain words."""
        return self.config.facts()

    @property
    def pace(self) -> Sequence[float]:
        """Seconds that each of the last steps took."""
        return self._paces.last

    @property
    def time_left(self) -> TimeLeft:
        """Estimate of the time that its steps still take."""
        return self._paces.left(self.pipeline.plan, self.next_step, len(self.pipeline.views))

    @property
    def skipped_steps(self) -> int:
        """Number of steps that were left out because a gradient was not finite."""
        return self.optimizers.skipped

    @property
    def stays_open(self) -> bool:
        """Whether the viewer stays open and takes requests after the last step."""
        return self.viewer_state is not None and not self.config.viewer.quit_on_train_completion

    def train(self) -> None:
        """Run the planned steps; a signal or an error ends the run with a checkpoint to resume from.

        After Ctrl-C and the signals of queues the current step is finished first.
        """
        with lasting_output(), one_line_errors(), stopped_by_signals(self._stop_soon), closing(self.panel):
            with self._nothing_lost():
                self._run()
        if self._stopped_by not in (None, signal.SIGINT) and get_world_size() == 1:
            raise SystemExit(exit_status(self._stopped_by))

    def _run(self) -> None:
        # nerfstudio's loop is left wherever there is something else to do than to run the next step, and entered again.
        self._keep_source()
        self._init_viewer_state()
        if not self.has_steps:
            self._write_missing_results()
        self.live.serve()
        while self.has_steps and not self.interrupted:
            self._start_step = self.next_step
            self._tell_host_of_plan()
            if self.pipeline.awaits_redrawing(self.next_step):
                self._redraw_all()
            super().train()
            if self.next_step == self.pipeline.plan.start and not self.source_folder.exists():
                self._save_to(self.source_folder / f"step-{self.next_step - 1:09d}.ckpt", only=True)
                if self.local_rank == 0:
                    judge_reconstruction(self.pipeline)
                self.pipeline.train()
            if not self.interrupted:
                self.live.serve()
        if self.interrupted:
            self._say_stopped()

    def _write_missing_results(self) -> None:
        """Write the results of an edit whose steps were all run before."""
        say("All steps of this edit have been run: its results are written now.")
        self.pipeline.views.outputs.save_dataparser_transform(self.base_dir / "dataparser_transforms.json")
        self._be_as_after_last_step()
        self._after_train()

    def train_iteration(self, step: int):
        """Run one step; end nerfstudio's loop if something else is to be done before the next one."""
        began = time.monotonic()
        writer.GLOBAL_BUFFER["max_iter"] = self.pipeline.plan.end  # for nerfstudio's estimate of the time left
        loss, losses, metrics = super().train_iteration(step)
        loss, losses = loss.detach(), {name: value.detach() for name, value in losses.items()}  # for those who log them
        metrics = {name: value.detach() if torch.is_tensor(value) else value for name, value in metrics.items()}
        self._last_step = step
        seconds = time.monotonic() - began
        self._paces.add(self.pipeline.plan.phase(step), seconds)
        gradient_rms = torch.as_tensor(metrics.get("gradient_rms", math.nan)).to(loss.device, non_blocking=True)
        self._numbers.put((step, seconds), [loss, gradient_rms])
        if self._stopped_by is not None or get_world_size() > 1:
            self.interrupted |= on_any_rank(self._stopped_by is not None, loss.device)
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
        self.optimizers.whole = True
        self._note_numbers(wait=self.stop_training)
        # Whenever nerfstudio's loop is left, it logs its time at this step; wandb drops all earlier steps afterwards.
        writer.GLOBAL_BUFFER["max_iter"] = step
        with suppress(KeyError):  # a browser has left while nerfstudio went through them
            super()._update_viewer_state(step)
        self.live.update()
        self.panel.refresh()
        if self.local_rank == 0:
            if not self._time_said and len(self.pace) >= _STEPS_BEFORE_TIME_IS_SAID and self.has_steps:
                self._time_said = True
                say(f"That will take {in_words(self.time_left)}.")
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
        self.optimizers.check_outcome(self.pipeline.plan.steps)
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
        if not self.has_steps or self.at_rest:
            return  # it was done, and the viewer was still open
        if self._last_step is None:
            say("Stopped before the first step: there is nothing to save.")
            return
        self.step = self._last_step
        self.live.note_stop()
        self.save_checkpoint(self.step)
        say(f"Stopped after step {self.step}. To go on, {self._way_on}")

    def write_results(self, folder: Path) -> None:
        """Write the results into `folder`, and print their paths."""
        self.pipeline.eval()
        frames = self.config.pipeline.turntable_frames
        before = SceneBefore.of(self.pipeline.model, self.source_folder)
        written = write_results(self.pipeline, folder, frames, self._source.splat_coordinates, before)
        strip = self.history.write_strip(folder / "strip.jpg")
        report = write_report(folder, self)
        for path in [*written, *([strip] if strip else []), report]:
            say(f"Wrote {path}")

    def _stop_soon(self, signum: int) -> None:
        if self.has_steps and self._stopped_by is None and self.local_rank == 0:
            at_once = "Ctrl-C again" if signum == signal.SIGINT else "SIGKILL"
            tell(f"Stopping after this step ({at_once} stops at once, and loses it) ...")
        self._stopped_by = signum
        if get_world_size() == 1 or not self.has_steps:  # else all ranks stop after the same step
            self.interrupted = self.stop_training = True
