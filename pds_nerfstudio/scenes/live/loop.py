"""Between two steps of a running edit: answer requests, and wait where there is nothing to do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.page import jpeg
from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import Action, EditSession, Request, branch_name
from pds_nerfstudio.scenes.output.results import fixed_view
from pds_nerfstudio.scenes.run import Run, Settings, Status
from pds_nerfstudio.scenes.selection.seen import balls_seen
from pds_nerfstudio.scenes.terminal import say

_POLL_SECONDS = 0.02


class LiveEdit:
    """Answers the requests that a session holds, in the trainer's own thread.

    Args:
        run: Set up, its steps planned.
        session: Which has begun.
        panel: Shows the session in the viewer.
    """

    def __init__(self, run: Run, session: EditSession, panel: EditPanel) -> None:
        self.run, self.scene, self.session, self.panel = run, run.pipeline, session, panel
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
        session.wake = self._wake
        if not session.replaying:
            session.write_down(run.next_step, Request("set", self._settings()))
        self.update()

    def serve(self) -> None:
        """Answer requests until there is a step to run or the run is over."""
        run, at_rest = self.run, False
        while True:
            self._answer()
            paused = run.training_state == "paused"
            if run.interrupted or (run.has_steps and not paused):
                return
            if not run.has_steps and not run.stays_open and not self.session.due(run.next_step):
                return
            if not at_rest:  # browsers may still show the state of some steps ago
                at_rest = True
                self.update()
                self.panel.refresh(force=True)
                self.panel.rerender()
            time.sleep(_POLL_SECONDS)

    def update(self) -> None:
        """Bring the state that the panel shows up to date."""
        run, plan = self.run, self.scene.plan
        if not run.has_steps:
            state = "finished"
        elif run.training_state == "paused":
            state = "paused"
        elif plan.edits(run.next_step):
            state = "refining" if plan.refines(run.next_step) else "editing"
        else:
            state = "reconstructing"
        self.session.settings = self._settings()
        self.session.status = Status(
            state=state,  # type: ignore[arg-type]
            step=run.next_step - 1,
            edit_step=max(0, run.next_step - plan.start),
            edit_steps=plan.steps + plan.refine_steps,
            reconstruct_steps=plan.start,
            seconds_per_step=sum(run.pace) / max(1, len(run.pace)),
            loss=run.loss,
            message=self._message,
        )

    def say(self, message: str) -> None:
        """Show a message in the panel, below the run's state."""
        self._message = message
        self.update()
        self.panel.refresh(force=True)

    def note_stop(self) -> None:
        """Record that the run ends here."""
        if not self.session.replaying:
            self.session.write_down(self.run.next_step, Request("stop"))

    def _settings(self) -> Settings:
        return {**self.scene.settings, "steps_left": max(0, self.scene.plan.refine_start - self._first_step_left)}

    @property
    def _first_step_left(self) -> int:
        return max(self.run.next_step, self.scene.plan.start)

    def _answer(self) -> None:
        requests = self.session.take(self.run.next_step)
        for asked in requests:
            request = asked
            self._message = ""
            try:
                with self.run.train_lock, warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", UserWarning)
                    request = self._with_seen(request)
                    self._actions[request.action](request.settings)
            except UserError as error:
                self._message = str(error)
                say(str(error), "yellow")
                self.panel.take_back(request.settings)
                continue
            finally:
                self._message = " ".join([self._message, *(str(w.message) for w in caught)]).strip()
            self.session.write_down(self.run.next_step, request)
        if requests:
            self.run.save_settings()
            self.update()
            self.panel.refresh(force=True)

    def _wake(self) -> None:
        # While nerfstudio's own loop is paused, this flag is all that it checks.
        if self.run.training_state == "paused":
            self.run.stop_training = True

    def _set(self, settings: Settings) -> None:
        changes = dict(settings)
        steps = changes.pop("steps_left", None)
        if steps == self._settings()["steps_left"]:
            steps = None
        if steps is not None and not (isinstance(steps, int) and steps > 0):
            raise UserError(f"The number of steps left is {steps}: give a whole number from 1 up.")
        self.scene.change_settings(changes)
        if "only" in changes:
            self.panel.rerender()
        if steps is not None:
            self.scene.plan = self.scene.plan.with_steps_left(self.run.next_step, steps)

    def _with_seen(self, request: Request) -> Request:
        """Return a pick as the change of settings that it becomes: a replay then need not see the same."""
        if request.action != "pick":
            return request
        was_training = self.scene.training
        self.scene.eval()
        try:
            balls = balls_seen(self.scene.model, **request.settings)
        finally:
            self.scene.train(was_training)
        if not balls:
            raise UserError("There is nothing where you clicked: click where the scene is to be seen.")
        return Request("set", {"only": {"balls": [*self.scene.settings["only"]["balls"], *balls]}})

    def _edit(self, settings: Settings) -> None:
        self._set(settings)
        step = self.run.next_step
        if not self.run.has_steps or (settings and self.scene.plan.refines(step)):
            self.scene.begin_round(step, self.run.round_steps)
        self.run.training_state = "training"

    def _pause(self, _: Settings) -> None:
        if not self.session.replaying and self.run.has_steps:
            self.run.training_state = "paused"

    def _undo(self, _: Settings) -> None:
        if not self.scene.editing:
            raise UserError("The scene is as it was before the edit: there is nothing to undo.")
        self.run.restore_source()
        self.scene.begin_round(self.run.next_step, self.run.round_steps)
        self._pause(_)
        self.panel.rerender()
        self._message = "Back at the source."

    def _snapshot(self, _: Settings) -> None:
        folder = self.run.base_dir / "snapshots"
        path = _free(folder / f"step-{self._last_step():09d}.ckpt")
        self.run.write_checkpoint(path)
        path.with_suffix(".jpg").write_bytes(jpeg(fixed_view(self.scene)))
        self._say(f"Snapshot: {path}")

    def _branch(self, _: Settings) -> None:
        self._last_step()
        here = self.run.base_dir
        prompt = self.scene.settings["tgt_prompt"]
        name = branch_name(prompt, lambda n: (here.parent / f"{here.name}_{n}").exists())
        folder = self.run.write_branch(f"{here.name}_{name}")
        (folder / "picture.jpg").write_bytes(jpeg(fixed_view(self.scene)))
        self._say(f"Kept this result as a run of its own: {folder}")

    def _export(self, _: Settings) -> None:
        self._last_step()
        folder = _free(self.run.base_dir / f"export-{self.run.next_step - 1:09d}")
        folder.mkdir(parents=True)
        self.run.write_results(folder)
        self._say(f"Exported to {folder}")

    def _stop(self, _: Settings) -> None:
        self.run.interrupted = True

    def _last_step(self) -> int:
        if self.run.next_step < 1:
            raise UserError("No step has been run yet: there is nothing to keep.")
        return self.run.next_step - 1

    def _say(self, message: str) -> None:
        self._message = message
        say(message)


def _free(path: Path) -> Path:
    """Return this path, or one like it that does not exist yet."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free
