"""Between two steps of a running edit: answer requests, and wait where there is nothing to do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.page import Picture, jpeg
from pds_nerfstudio.scenes.live.draft import draft_of
from pds_nerfstudio.scenes.live.other_scenes import OtherScenes
from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import Action, EditSession, Request, branch_name
from pds_nerfstudio.scenes.output.branches import Column, column_of, write_branches
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.output.results import fixed_view, shown_views
from pds_nerfstudio.scenes.run import Run, Settings, Status
from pds_nerfstudio.scenes.selection.seen import balls_seen
from pds_nerfstudio.scenes.states import KeptStates, State
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.whole_files import write_bytes

_POLL_SECONDS = 0.02
_RESULTS = ("splat.ply", "report.html", "compare.html")
"""Files that a browser may want to have."""
_OFF_RECORD: tuple[Action, ...] = ("queue", "draft")
"""What changes nothing by itself; what was left for later is on record as an edit once it begins."""
_TAKES_TIME: dict[Action, str] = {
    "draft": "Drawing a draft …",
    "export": "Exporting …",
    "branch": "Keeping a branch …",
    "compare": "Rendering all that was kept …",
}
_VIEWS_BETWEEN = 2
"""From one view of the comparison to the next, of those that a report shows."""


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
        self._kept = KeptStates(run.base_dir, run.started_from)
        session.states = self._kept.all
        self._at: tuple[int, State] | None = None
        self._undone: State | None = None
        self._queue: list[Settings] = []
        self._actions: dict[Action, Callable[[Settings], None]] = {
            "set": self._set,
            "draft": self._draft,
            "edit": self._edit,
            "queue": self._ask_later,
            "pause": self._pause,
            "undo": self._undo,
            "redo": self._redo,
            "back": self._back,
            "branch": self._branch,
            "snapshot": self._snapshot,
            "export": self._export,
            "compare": self._compare,
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
            if self._queue and not run.has_steps and not self.session.replaying:
                self.session.ask(Request("edit", {"round": "here", **self._queue.pop(0)}))
            self._answer()
            if run.has_steps and run.training_state != "paused" and not self._attempt(self._go_on):
                run.training_state = "paused"
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
            time_left=run.time_left,
            loss=run.loss,
            message=self._message,
        )

    def say(self, message: str) -> None:
        """Show a message in the panel, below the run's state."""
        self._message = message
        self.update()
        self.panel.refresh(force=True)

    def note_finish(self) -> None:
        """Keep the finished edit: whatever is asked for from now on, its folder stays as it is."""
        self._attempt(self._keep)
        self.session.hold()
        self._note_files(self.run.base_dir)
        self.say(f"Done. The results are in {self.run.base_dir}")
        self.panel.notify("Done", self._message)

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
            self._message = ""
            if asked.action in _TAKES_TIME:
                self.say(_TAKES_TIME[asked.action])
                self.panel.notify(_TAKES_TIME[asked.action], "This takes a moment.", lasts=True)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                if not self._attempt(partial(self._fulfil, asked)):
                    self.panel.take_back(asked.settings)
            self._message = " ".join([self._message, *(str(w.message) for w in caught)]).strip()
            if asked.action in (*_TAKES_TIME, "undo"):
                self.panel.notify(asked.action.capitalize(), self._message)
        if requests:
            self._attempt(self.run.save_settings)
            self.update()
            self.panel.refresh(force=True)

    def _fulfil(self, asked: Request) -> None:
        with self.run.train_lock:
            request = self._with_seen(asked)
            self._actions[request.action](request.settings)
        if request.action not in _OFF_RECORD:
            self.session.write_down(self.run.next_step, request)

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do something, and return whether it could be done; why not becomes a message, and the run goes on."""
        try:
            action()
        except (UserError, OSError) as error:
            self._message = str(error)
            say(str(error), "yellow")
            return False
        return True

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

    def _draft(self, settings: Settings) -> None:
        words = {**self.scene.settings, **settings}
        self.session.draft = draft_of(self.scene, settings["view"], words["src_prompt"], words["tgt_prompt"])
        self._message = "The draft of this view is in the folder Progress: drawn by itself, in 2D."

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
        begin = settings.get("round")
        settings = {name: value for name, value in settings.items() if name != "round"}
        if begin is not None:
            self._keep()
        self._set(settings)
        step = self.run.next_step
        if begin == "source" and self.scene.editing:
            self.run.restore_source()
        # What is not edited yet has its whole round before it, after the steps that reconstruct it.
        another = begin is not None and step > self.scene.plan.start
        if not self.run.has_steps or another or (settings and self.scene.plan.refines(step)):
            self.scene.begin_round(step, settings.get("steps_left", self.run.round_steps))
        self._go_on()
        self.run.training_state = "training"

    def _ask_later(self, settings: Settings) -> None:
        self._queue.append(settings)
        self._message = f"Asked for, to begin when all steps have been run: {len(self._queue)} in the queue."

    def _keep(self, checkpoint: Path | None = None) -> None:
        """Keep the present state in the list of those that one can go back to, unless it is there already.

        Args:
            checkpoint: That holds it, if it is in a file already.
        """
        run, scene = self.run, self.scene
        if not (scene.editing and scene.takes_requests) or (self._at is not None and self._at[0] == run.next_step):
            return
        number, finished = self._kept.next_number, None if run.has_steps else run.base_dir
        path = checkpoint or self._kept.checkpoint(number)
        if finished is not None:
            path = max(run.checkpoint_dir.glob("step-*.ckpt"))
        elif checkpoint is None:
            run.write_checkpoint(path)
        state = State(number, dict(scene.settings), scene.plan, run.next_step, path, Path(), finished)
        self._at = run.next_step, self._kept.add(state, fixed_view(scene))
        self.session.states = self._kept.all

    def _go_on(self) -> None:
        """Leave the folder of a finished edit as it is, and go on in one of its own."""
        if not self.run.at_rest:
            return
        finished = self.run.base_dir
        self.run.move_on(self._new_name())
        self._kept.belong_to(self.run.base_dir)
        self.run.history.begin_in(self.run.base_dir)
        self.session.go_on_in(self.run.base_dir / "session.jsonl")
        self._say(f"The finished edit stays in {finished}; this one goes to {self.run.base_dir}")

    def _new_name(self) -> str:
        home = self._kept.home
        name = branch_name(self.scene.settings["tgt_prompt"], lambda n: (home.parent / f"{home.name}_{n}").exists())
        return f"{home.name}_{name}"

    def _redo(self, _: Settings) -> None:
        if self._undone is None or self.scene.editing:
            raise UserError("Nothing was undone last: take an earlier state from the list of kept ones.")
        self._return_to(self._undone)

    def _back(self, settings: Settings) -> None:
        state = next((one for one in self._kept.all if one.number == settings.get("state")), None)
        if state is None:
            raise UserError(f"There is no kept state {settings.get('state')}: take one of the list.")
        self._keep()
        left = self._at[1] if self._at else None
        self._return_to(state)
        if left not in (None, state):
            self._message += f" What was left is kept as {left.name}."

    def _return_to(self, state: State) -> None:
        run, scene = self.run, self.scene
        scene.change_settings(state.settings)
        run.restore_state(state.checkpoint)
        scene.plan = replace(state.plan, start=state.plan.start + run.next_step - state.next_step)
        if state.finished is not None:
            run.rest_in(state.finished)
            self.session.hold()
        run.take_up_edit()
        self._at, self._undone = (run.next_step, state), None
        self._pause({})
        self.panel.rerender()
        self._message = f"Back at {state.name}."

    def _pause(self, _: Settings) -> None:
        if not self.session.replaying and self.run.has_steps:
            self.run.training_state = "paused"

    def _undo(self, _: Settings) -> None:
        if not self.scene.editing:
            raise UserError("The scene is as it was before the edit: there is nothing to undo.")
        self._keep()
        self._undone = self._at[1] if self._at else None
        self.run.restore_source()
        self._at = None
        self.scene.begin_round(self.run.next_step, self.run.round_steps)
        self._pause(_)
        self.panel.rerender()
        kept = f" The edit is kept as {self._undone.name}: Redo brings it back." if self._undone else ""
        self._message = f"Back at the source.{kept}"

    def _snapshot(self, _: Settings) -> None:
        folder = self.run.base_dir / "snapshots"
        path = _free(folder / f"step-{self._last_step():09d}.ckpt")
        self.run.write_checkpoint(path)
        write_bytes(path.with_suffix(".jpg"), jpeg(fixed_view(self.scene)))
        self._say(f"Snapshot: {path}")

    def _branch(self, _: Settings) -> None:
        self._last_step()
        folder = self.run.write_branch(self._new_name())
        self._keep(max((folder / "nerfstudio_models").glob("step-*.ckpt")))
        if not (folder / "report.html").exists():
            self.session.copy_record(folder / "session.jsonl")
            self.run.write_results(folder)
        write_bytes(folder / "picture.jpg", jpeg(fixed_view(self.scene)))
        self._note_files(folder)
        self._say(f"Kept this result as a run of its own: {folder}")

    def _export(self, _: Settings) -> None:
        self._last_step()
        folder = _free(self.run.base_dir / f"export-{self.run.next_step - 1:09d}")
        folder.mkdir(parents=True)
        self.run.write_results(folder)
        self._note_files(folder)
        self._say(f"Exported to {folder}")

    def _compare(self, _: Settings) -> None:
        """Write a page of the source, the kept states and the present one, side by side."""
        self._keep()
        scene, views = self.scene, shown_views(self.scene.views)[::_VIEWS_BETWEEN]
        if not self._kept.all:
            raise UserError("No state is kept yet: there is nothing to compare.")

        def pictures(checkpoint: Path) -> list[Picture]:
            cameras = [scene.views.full_size_camera(i).to(scene.model.device) for i in views]
            return [to_bytes(others.outputs(checkpoint, camera)["rgb"].clamp(0, 1)) for camera in cameras]

        others, training = OtherScenes(scene.model), scene.training
        scene.eval()
        try:
            source = max(self.run.source_folder.glob("step-*.ckpt"), default=None)
            columns = [] if source is None else [Column("before the edit", pictures(source))]
            columns += [column_of(state, pictures(state.checkpoint)) for state in self._kept.all]
        finally:
            scene.train(training)
        path = self._kept.home / "compare.html"
        names = [Path(scene.views.outputs.image_filenames[i]).stem for i in views]
        write_branches(path, scene.settings["src_prompt"], names, columns)
        self._note_files(path.parent)
        self._say(f"Side by side: {path}")

    def _stop(self, _: Settings) -> None:
        self.run.interrupted = True

    def _note_files(self, folder: Path) -> None:
        """Let browsers download what was written last."""
        self.session.files |= {name: path for name in _RESULTS if (path := folder / name).exists()}

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
