"""Between two steps: doing what was asked of a running edit, and waiting where there is nothing to do."""

from __future__ import annotations

import dataclasses
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.live.session import Action, Request, Settings, Status, branch_name, read_record
from pds_nerfstudio.scenes.output.history import fixed_view
from pds_nerfstudio.scenes.output.pictures import jpeg
from pds_nerfstudio.scenes.terminal import say

if TYPE_CHECKING:
    from pds_nerfstudio.scenes.trainer import EditTrainer

_POLL_SECONDS = 0.02


class LiveEdit:
    """Answers the requests that a session holds, in the trainer's own thread.

    Args:
        trainer: Set up, its steps planned.
        replay: The record of an earlier run, to be repeated.
    """

    def __init__(self, trainer: EditTrainer, replay: Path | None) -> None:
        self.trainer, self.pipeline = trainer, trainer.pipeline
        self.session = self.pipeline.session
        self.round = self.pipeline.plan.steps
        """Edit steps of a round: what the run was started with."""
        self._message = ""
        self._actions: dict[Action, Callable[[Settings], None]] = {
            "set": self._set,
            "edit": self._edit,
            "pause": self._pause,
            "undo": self._undo,
            "branch": self._branch,
            "snapshot": self._snapshot,
            "export": self._export,
            "stop": self._stop,
        }
        record = trainer.base_dir / "session.jsonl" if trainer.local_rank == 0 else None
        self.session.begin(record, None if replay is None else read_record(replay))
        self.session.wake = self._wake
        if replay is None:
            self.session.write_down(trainer.next_step, Request("set", self._settings()))
        self.update()

    def serve(self) -> None:
        """Do what was asked for, until there is a step to run or the run is over."""
        trainer, at_rest = self.trainer, False
        while True:
            self._answer()
            paused = trainer.training_state == "paused"
            if trainer.interrupted or (trainer.has_steps and not paused):
                return
            if not trainer.has_steps and not trainer.stays_open and not self.session.due(trainer.next_step):
                return
            if not at_rest:  # browsers may still show how things stood some steps ago
                at_rest = True
                self.update()
                self.pipeline.panel.refresh(force=True)
                self.pipeline.panel.redraw()
            time.sleep(_POLL_SECONDS)

    def update(self) -> None:
        """Tell those who look on how the run stands."""
        trainer, plan = self.trainer, self.pipeline.plan
        if not trainer.has_steps:
            state = "finished"
        elif trainer.training_state == "paused":
            state = "paused"
        elif plan.edits(trainer.next_step):
            state = "refining" if plan.refines(trainer.next_step) else "editing"
        else:
            state = "reconstructing"
        self.session.settings = self._settings()
        self.session.status = Status(
            state=state,  # type: ignore[arg-type]
            step=trainer.next_step - 1,
            edit_step=max(0, trainer.next_step - plan.start),
            edit_steps=plan.steps + plan.refine_steps,
            reconstruct_steps=plan.start,
            seconds_per_step=sum(trainer.pace) / max(1, len(trainer.pace)),
            loss=trainer.loss,
            message=self._message,
        )

    def say(self, message: str) -> None:
        """Tell those who look on something beside how the run stands."""
        self._message = message
        self.update()
        self.pipeline.panel.refresh(force=True)

    def note_stop(self) -> None:
        """Have it written down that the run ends here."""
        if not self.session.replaying:
            self.session.write_down(self.trainer.next_step, Request("stop"))

    def _settings(self) -> Settings:
        return {**self.pipeline.settings, "steps_left": max(0, self.pipeline.plan.refine_start - self._first_step_left)}

    @property
    def _first_step_left(self) -> int:
        return max(self.trainer.next_step, self.pipeline.plan.start)

    def _answer(self) -> None:
        requests = self.session.take(self.trainer.next_step)
        for request in requests:
            self._message = ""
            try:
                with self.trainer.train_lock, warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", UserWarning)
                    self._actions[request.action](request.settings)
            except UserError as error:
                self._message = str(error)
                say(str(error), "yellow")
                self.pipeline.panel.take_back(request.settings)
                continue
            finally:
                self._message = " ".join([self._message, *(str(w.message) for w in caught)]).strip()
            self.session.write_down(self.trainer.next_step, request)
        if requests:
            self.trainer.save_settings()
            self.update()
            self.pipeline.panel.refresh(force=True)

    def _wake(self) -> None:
        # While nerfstudio's own loop is paused it asks for nothing but this.
        if self.trainer.training_state == "paused":
            self.trainer.stop_training = True

    def _set(self, settings: Settings) -> None:
        changes = dict(settings)
        steps = changes.pop("steps_left", None)
        if steps == self._settings()["steps_left"]:
            steps = None
        if steps is not None and not (isinstance(steps, int) and steps > 0):
            raise UserError(f"The number of steps left is {steps}: give a whole number from 1 up.")
        self.pipeline.change_settings(changes)
        if steps is not None:
            self.pipeline.plan = self.pipeline.plan.with_steps_left(self.trainer.next_step, steps)

    def _edit(self, settings: Settings) -> None:
        self._set(settings)
        step = self.trainer.next_step
        if not self.trainer.has_steps or (settings and self.pipeline.plan.refines(step)):
            self.pipeline.begin_round(step, self.round)
        self.trainer.training_state = "training"

    def _pause(self, _: Settings) -> None:
        if not self.session.replaying and self.trainer.has_steps:
            self.trainer.training_state = "paused"

    def _undo(self, _: Settings) -> None:
        if not self.pipeline.editing:
            raise UserError("The scene is as it was before the edit: there is nothing to undo.")
        self.trainer.restore_source()
        self.pipeline.begin_round(self.trainer.next_step, self.round)
        self._pause(_)
        self.pipeline.panel.redraw()
        self._message = "Back at the source."

    def _snapshot(self, _: Settings) -> None:
        folder = self.trainer.base_dir / "snapshots"
        path = _free(folder / f"step-{self._last_step():09d}.ckpt")
        self.trainer.write_checkpoint(path)
        path.with_suffix(".jpg").write_bytes(jpeg(fixed_view(self.pipeline)))
        self._say(f"Snapshot: {path}")

    def _branch(self, _: Settings) -> None:
        trainer = self.trainer
        step, here = self._last_step(), trainer.base_dir
        name = branch_name(self.pipeline.config.tgt_prompt, lambda n: (here.parent / f"{here.name}_{n}").exists())
        config = dataclasses.replace(
            trainer.config, timestamp=f"{here.name}_{name}", max_num_iterations=trainer.live.round
        )
        folder = config.get_base_dir()
        trainer.write_checkpoint(config.get_checkpoint_dir() / f"step-{step:09d}.ckpt")
        (folder / "config.yml").write_text(yaml.dump(config), "utf8")
        (folder / "picture.jpg").write_bytes(jpeg(fixed_view(self.pipeline)))
        for part in ("dataparser_transforms.json", "reconstruction"):
            copy = shutil.copytree if (here / part).is_dir() else shutil.copyfile
            if (here / part).exists():
                copy(here / part, folder / part)
        self._say(f"Kept this result as a run of its own: {folder}")

    def _export(self, _: Settings) -> None:
        self._last_step()
        folder = _free(self.trainer.base_dir / f"export-{self.trainer.next_step - 1:09d}")
        folder.mkdir(parents=True)
        self.trainer.write_results(folder)
        self._say(f"Exported to {folder}")

    def _stop(self, _: Settings) -> None:
        self.trainer.interrupted = True

    def _last_step(self) -> int:
        if self.trainer.next_step < 1:
            raise UserError("No step has been run yet: there is nothing to keep.")
        return self.trainer.next_step - 1

    def _say(self, message: str) -> None:
        self._message = message
        say(message)


def _free(path: Path) -> Path:
    """This path, or one like it that does not exist yet."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free
