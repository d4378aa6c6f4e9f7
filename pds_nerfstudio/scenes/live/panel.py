"""The text edit's panel in nerfstudio's viewer.

It only looks and asks: what it shows is the session's state, what is clicked becomes a request. viser keeps one set of
elements for all browsers, so all see the same.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any, get_args

from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.viewer import Viewer
from nerfstudio.viewer.viewer_elements import ViewerControl
from viser import GuiButtonGroupHandle

from pds_nerfstudio.guidance.config import TimestepSchedule
from pds_nerfstudio.guidance.objectives import OBJECTIVES
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.page import data_url, jpeg
from pds_nerfstudio.scenes.checkpoints import read_method_name
from pds_nerfstudio.scenes.live.choosing import Choosing
from pds_nerfstudio.scenes.live.comparison import MAY_CHANGE, SHOWN, Comparison
from pds_nerfstudio.scenes.live.session import Action, EditSession, Request
from pds_nerfstudio.scenes.output.history import History
from pds_nerfstudio.scenes.output.pictures import plot
from pds_nerfstudio.scenes.progress import progress_text
from pds_nerfstudio.scenes.run import Scene, Settings

_SECONDS_BETWEEN_REFRESHES = 1.0
_STATES_SHOWN = 6
_MILLISECONDS_OF_A_MESSAGE = 10_000
_BUTTONS: dict[str, Action] = {
    "Edit": "edit",
    "Pause": "pause",
    "Ask for later": "queue",
    "Undo to source": "undo",
    "Redo": "redo",
    "Branch": "branch",
    "Snapshot": "snapshot",
    "Export": "export",
}
_ROWS = (("Edit", "Pause"), ("Ask for later",), ("Undo to source", "Redo"), ("Branch", "Snapshot"), ("Export",))
_ROUNDS = {"from here": "here", "from the source": "source"}
_NO_STATE = "(where it is)"
_WITH_EDIT = ("src_prompt", "tgt_prompt", "steps_left")
"""Fields that take effect when Edit is pressed, because they are typed; the others take effect at once."""


class EditPanel(ViewerControl):
    """The panel. Its methods do nothing until it is opened in a viewer.

    Args:
        scene: Whose edit is shown.
        session: Holds its state and takes the requests.
        history: Its numbers so far; None where a finished run is looked at, whose folder holds them.
    """

    def __init__(self, scene: Scene, session: EditSession, history: History | None = None) -> None:
        self._scene, self._session, self._history = scene, session, history
        self._inputs: dict[str, Any] = {}
        self._shown: Settings = {}
        self._refreshed = 0.0
        self._refreshing = threading.Lock()

    def open_in(self, viewer: Viewer) -> None:
        """Add the panel to a viewer, above nerfstudio's own tabs."""
        self._setup(viewer)
        self._folder: Path = viewer.log_filename.parent
        self._method = read_method_name(self._folder / "config.yml") or f"pds-{self._scene.model.kind}"
        self._comparison = Comparison(
            self._scene.model,
            viewer.control_panel,
            self._folder / "reconstruction",
            (lambda: self._scene.may_change) if self._scene.training_run else None,
        )
        gui = self.viser_server.gui
        with gui.add_folder("Text edit", order=viewer.stats_markdown.order + 0.5):
            self._status = gui.add_markdown("", image_root=self._folder)
            self._add_prompts()
            if self._scene.takes_requests:
                self._bar = gui.add_progress_bar(0.0)
                self._round = gui.add_dropdown(
                    "New words",
                    tuple(_ROUNDS),
                    hint="With other words, Edit runs a whole round of steps, from here on.",
                )
                for row in _ROWS:
                    group = gui.add_button_group("", row)
                    group.value = ""  # viser reports no click on the button that was clicked last
                    group.on_click(lambda event: self._clicked(event.target))
            self._add_switch()
            if self._scene.takes_requests:
                with gui.add_folder("Kept", expand_by_default=False):
                    self._kept = gui.add_dropdown(
                        "Go back to",
                        (_NO_STATE,),
                        hint="States that were kept: finished edits, and what was undone or left.",
                    )
                    self._kept.on_update(lambda _: self._chose_state())
                    self._kept_pictures = gui.add_markdown("", image_root=self._folder)
                self._choosing = Choosing(viewer, self._session)
            with gui.add_folder("Settings", expand_by_default=False):
                self._add_settings()
            with gui.add_folder("Progress"):
                self._pictures = gui.add_markdown("", image_root=self._folder)
        for name, handle in self._inputs.items():
            handle.disabled = not self._scene.takes_requests
            handle.on_update(lambda _, name=name: self._changed(name))
        self._shown = {name: handle.value for name, handle in self._inputs.items()}
        viewer.pause_train.on_click(lambda _: self._session.wake())
        self.viser_server.on_client_connect(lambda _: self.refresh(force=True))

    @property
    def _in_viewer(self) -> bool:
        return hasattr(self, "_status")

    def _add_prompts(self) -> None:
        gui, settings = self.viser_server.gui, self._session.settings
        self._inputs["src_prompt"] = gui.add_text(
            "Source", settings["src_prompt"], hint="What the scene shows. Counts when Edit is pressed."
        )
        self._inputs["tgt_prompt"] = gui.add_text(
            "Target", settings["tgt_prompt"], hint="What it should show. Counts when Edit is pressed."
        )

    def _add_switch(self) -> None:
        gui = self.viser_server.gui
        shown = [name for name in SHOWN if name != MAY_CHANGE or self._scene.training_run]
        show = gui.add_dropdown("Show", shown, hint="change: where the edit changed the scene, white most")
        split = gui.add_slider("Split at", 0.0, 1.0, 0.01, 0.5, visible=False)

        @show.on_update
        def _(_: object) -> None:
            split.visible = show.value == "before | after"
            self._comparison.show(show.value)

        @split.on_update
        def _(_: object) -> None:
            self._comparison.split = split.value
            self.rerender()

    def _add_settings(self) -> None:
        gui, now, inputs = self.viser_server.gui, self._session.settings, self._inputs
        inputs["objective"] = gui.add_dropdown(
            "Objective", _objectives(now["objective"]), now["objective"], hint="How the words become a gradient."
        )
        inputs["guidance_scale"] = gui.add_number(
            "Guidance scale", float(now["guidance_scale"]), min=0.0, step=0.1, hint="How strongly the words count."
        )
        inputs["identity_weight"] = gui.add_number(
            "Identity weight", float(now["identity_weight"]), min=0.0, step=0.05, hint="How strongly the source holds."
        )
        inputs["text_weight"] = gui.add_number("Text weight", float(now["text_weight"]), min=0.0, step=0.05)
        inputs["localize"] = gui.add_slider(
            "Localize", 0.0, 1.0, 0.05, float(now["localize"]), hint="How much of what the words don't name stays."
        )
        inputs["t_range"] = gui.add_multi_slider("t range", 0.0, 1.0, 0.01, (float(now["t_min"]), float(now["t_max"])))
        inputs["t_schedule"] = gui.add_dropdown("t schedule", get_args(TimestepSchedule), now["t_schedule"])
        if self._scene.training_run:
            inputs["steps_left"] = gui.add_number(
                "Steps left", 0, min=0, step=1, hint="How many to run. Counts when Edit is pressed."
            )

    def refresh(self, force: bool = False) -> None:
        """Show the session's state, if a browser is connected and the last refresh is not too recent."""
        if not self._in_viewer:
            return
        if not force and not (self.viser_server.get_clients() and self._is_time()):
            return
        with self._refreshing:
            self._refreshed = time.monotonic()
            self._show_settings()
            if self._session.live:  # nerfstudio's own buttons for the same
                paused = self._session.status.state == "paused"
                self.viewer.pause_train.visible, self.viewer.resume_train.visible = not paused, paused
            self._status.content = self._status_text()
            if self._scene.takes_requests:
                self._bar.value = 100 * self._session.status.share_done
                names = (_NO_STATE, *(one_line(state.name) for state in self._session.states))
                if self._kept.options != names:
                    self._kept.options = names
                    self._kept_pictures.content = self._states_text()
                self._choosing.refresh()
            self._pictures.content = self._picture_text()

    def notify(self, title: str, text: str) -> None:
        """Show a message for some seconds, in every browser."""
        if self._in_viewer:
            for client in self.viser_server.get_clients().values():
                client.add_notification(title, one_line(text), auto_close=_MILLISECONDS_OF_A_MESSAGE)

    def take_back(self, settings: Settings) -> None:
        """Let the next refresh show the current values in place of refused ones, except prompts and steps."""
        for name, handle in self._inputs.items():
            refused = {"t_min", "t_max"} if name == "t_range" else {name}
            if name not in _WITH_EDIT and refused & settings.keys():
                self._shown[name] = handle.value

    def rerender(self) -> None:
        """Render the scene anew in every browser. nerfstudio does so only now and then, and only while it trains."""
        if not self._in_viewer:
            return
        self.viewer.update_step(self._session.status.step)
        for machine in list(self.viewer.render_statemachines.values()):
            machine.action(RenderAction("move", self.viewer.get_camera_state(machine.client)))

    def close(self) -> None:
        """Wait for renders to end, and begin no others: a process that ends during a render crashes."""
        if not self._in_viewer:
            return
        threads = threading.enumerate()  # nerfstudio forgets those whose browser has left
        machines = [one for one in threads if isinstance(one, RenderStateMachine) and one.viewer is self.viewer]
        for machine in machines:
            machine.running, machine.interrupt_render_flag = False, True
        for machine in machines:
            machine.join()

    def _is_time(self) -> bool:
        return time.monotonic() - self._refreshed > _SECONDS_BETWEEN_REFRESHES

    def _show_settings(self) -> None:
        settings = self._values(self._session.settings)
        for name, handle in self._inputs.items():
            value = settings.get(name, handle.value)
            untouched = handle.value == self._shown[name]  # a value that is being typed stays
            if untouched and handle.value != value:
                self._shown[name] = value
                if name == "objective" and value not in handle.options:
                    handle.options = _objectives(value)
                handle.value = value
            elif handle.value == value:
                self._shown[name] = value

    @staticmethod
    def _values(settings: Settings) -> Settings:
        """Return settings as the panel's elements hold them."""
        values = {name: float(value) if isinstance(value, float) else value for name, value in settings.items()}
        if "t_min" in values:
            values["t_range"] = (values.pop("t_min"), values.pop("t_max"))
        return values

    def _asked(self, name: str) -> Settings:
        """Return the settings in which an element differs from the session."""
        value = self._inputs[name].value
        asked = dict(zip(("t_min", "t_max"), value, strict=True)) if name == "t_range" else {name: value}
        return {name: value for name, value in asked.items() if self._session.settings.get(name) != value}

    def _changed(self, name: str) -> None:
        if name in _WITH_EDIT or not self._session.live:
            return
        if asked := self._asked(name):
            self._session.ask(Request("set", asked))

    def _clicked(self, group: GuiButtonGroupHandle[str]) -> None:
        button = group.value
        if not button:
            return
        group.value = ""
        settings: Settings = {}
        if _BUTTONS[button] in ("edit", "queue"):
            for name in _WITH_EDIT:
                if self._inputs[name].value != self._shown[name]:
                    settings |= self._asked(name)
            if settings.keys() & {"src_prompt", "tgt_prompt"} or _BUTTONS[button] == "queue":
                settings["round"] = _ROUNDS[self._round.value]
        self._session.ask(Request(_BUTTONS[button], settings))

    def _chose_state(self) -> None:
        name, self._kept.value = self._kept.value, _NO_STATE
        for state in self._session.states:
            if one_line(state.name) == name:
                self._session.ask(Request("back", {"state": state.number}))

    def _status_text(self) -> str:
        session = self._session
        if not session.live:
            command = f"ns-train {self._method} --load-dir {self._folder}/nerfstudio_models"
            text = f"A finished edit. To go on: {_plain(command)}"
        else:
            text = progress_text(session.status)
        prompts = f"*{_plain(session.settings['src_prompt'])}* → *{_plain(session.settings['tgt_prompt'])}*"
        message = f"**{_plain(session.status.message)}**" if session.status.message else ""
        return "\n\n".join(filter(None, [prompts, text, message]))

    def _states_text(self) -> str:
        """Return a table of the last states, with their pictures and words."""
        rows = [
            f"|![]({data_url(state.picture.read_bytes(), 'image/jpeg')})|{_plain(state.name)}|"
            for state in self._session.states[: -_STATES_SHOWN - 1 : -1]
            if state.picture.is_file()
        ]
        return "\n".join(["|||", "|-|-|", *rows]) if rows else ""

    def _picture_text(self) -> str:
        if self._session.live:
            history, view = self._history, self._scene.last_view
            image = None if view is None else jpeg(view.triptych())
            title = "source, now, where the gradient acts"
        else:
            history, strip = History.read(self._folder), self._folder / "strip.jpg"
            image, title = (strip.read_bytes() if strip.exists() else None), "the edit over its steps"
        parts = [] if image is None else [f"![{title}]({data_url(image, 'image/jpeg')})\n\n{title}"]
        for name, label in (("loss", "loss"), ("gradient_rms", "gradient (root mean square)")):
            if history is not None and history.moments:
                svg = plot(label, {label: history.series(name)}, width=320, height=130)
                parts.append(f"![{label}]({data_url(svg.encode(), 'image/svg+xml')})")
        return "\n\n".join(parts)


def _objectives(present: str) -> tuple[str, ...]:
    """Return the objectives to choose from: all by name, and the present one, which may have options of its own."""
    return tuple(dict.fromkeys([*OBJECTIVES, present]))


def _plain(text: str) -> str:
    """Return text that viser's markdown shows literally.

    That markdown is MDX: it runs code in braces, and whole lines of JavaScript; addresses become links, however they
        are escaped. Only a string in braces is merely shown.
    """
    escaped = re.sub(r"[^\w ]|_", lambda match: f"\\u{{{ord(match[0]):x}}}", one_line(text))
    return f'{{"{escaped}"}}'
