"""The text edit's panel in nerfstudio's viewer.

It only looks and asks: what it shows is the session's state, what is clicked becomes a request. viser keeps one set of
elements for all browsers, so all see the same.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.viewer import Viewer
from nerfstudio.viewer.viewer_elements import ViewerControl
from viser import ClientHandle, GuiButtonGroupHandle, GuiDropdownHandle, GuiEvent, NotificationHandle

from pds_nerfstudio import again
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.page import data_url, jpeg
from pds_nerfstudio.scenes.checkpoints import read_method_name
from pds_nerfstudio.scenes.live.choosing import Choosing
from pds_nerfstudio.scenes.live.comparison import Comparison
from pds_nerfstudio.scenes.live.draft import view_of
from pds_nerfstudio.scenes.live.fields import AS_BEGUN, BY_HAND, PRESETS, add_settings, objectives
from pds_nerfstudio.scenes.live.first_look import look_from
from pds_nerfstudio.scenes.live.session import Action, EditSession, Request
from pds_nerfstudio.scenes.live.showing import Showing
from pds_nerfstudio.scenes.live.words import last_words, marked, plain
from pds_nerfstudio.scenes.output.history import History
from pds_nerfstudio.scenes.output.pictures import plot
from pds_nerfstudio.scenes.progress import progress_text
from pds_nerfstudio.scenes.run import Scene, Settings

_SECONDS_BETWEEN_REFRESHES = 1.0
_SHARE_OF_RENDERS = 0.05
"""Of the steps' time: what renders for all browsers together may add to it while nobody moves."""
_STATES_SHOWN = 6
_MILLISECONDS_OF_A_MESSAGE = 10_000
_BUTTONS: dict[str, Action] = {
    "Edit": "edit",
    "Draft": "draft",
    "Pause": "pause",
    "Resume": "edit",
    "Queue": "queue",
    "Undo": "undo",
    "Redo": "redo",
    "Branch": "branch",
    "Snapshot": "snapshot",
    "Export": "export",
    "Compare": "compare",
}
_FIRST_ROWS = {"paused": ("Edit", "Resume"), "finished": ("Edit",)}
_FIRST_ROW = ("Edit", "Pause")
_ROWS = (("Draft", "Queue"), ("Undo", "Redo"), ("Branch", "Snapshot"), ("Export", "Compare"))
_DOWNLOADS = {"Report": "report.html", ".ply": "splat.ply", "Comparison": "compare.html"}
_ROUNDS = {"from here": "here", "from the source": "source"}
_NO_STATE = "(where it is)"
_NO_WORDS = "(as typed)"
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
        self._notes: list[NotificationHandle] = []

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
        gui, order = self.viser_server.gui, viewer.stats_markdown.order
        with gui.add_folder("Text edit", order=order + 0.4):
            self._status = gui.add_markdown("", image_root=self._folder)
            self._add_prompts()
            if self._scene.takes_requests:
                self._add_requests()
            self._add_downloads()
            if self._scene.takes_requests:
                self._choosing = Choosing(viewer, self._session)
            with gui.add_folder("Settings", expand_by_default=False):
                self._add_settings()
        with gui.add_folder("Progress", order=order + 0.8):
            self._pictures = gui.add_markdown("", image_root=self._folder)
        self._showing = Showing(viewer, self._comparison, self._session, order + 0.6)
        for name, handle in self._inputs.items():
            handle.disabled = not self._scene.takes_requests
            handle.on_update(lambda _, name=name: self._changed(name))
        self._shown = {name: handle.value for name, handle in self._inputs.items()}
        viewer.pause_train.on_click(lambda _: self._session.wake())
        self.viser_server.on_client_connect(self._welcome)

    @property
    def _in_viewer(self) -> bool:
        return hasattr(self, "_showing")

    def _welcome(self, client: ClientHandle) -> None:
        """Show a browser that comes the scene from a training view, and the state as it is."""
        photos = self._scene.datamanager.train_dataset
        if photos is not None:
            look_from(client, photos.cameras[0], self.viewer.config.camera_frustum_scale)
        self.refresh(force=True)

    def _add_prompts(self) -> None:
        gui, settings = self.viser_server.gui, self._session.settings
        self._inputs["src_prompt"] = gui.add_text(
            "Source", settings["src_prompt"], hint="What the scene shows. Counts when Edit is pressed."
        )
        self._inputs["tgt_prompt"] = gui.add_text(
            "Target", settings["tgt_prompt"], hint="What it should show. Counts when Edit is pressed."
        )

    def _add_requests(self) -> None:
        gui = self.viser_server.gui
        self._last_words = gui.add_dropdown(
            "Last words", (_NO_WORDS,), hint="Prompts of before: they are put into the fields above."
        )
        self._last_words.on_update(lambda _: self._chose_words())
        self._bar = gui.add_progress_bar(0.0)
        self._round = gui.add_dropdown(
            "New words", tuple(_ROUNDS), hint="With other words, Edit runs a whole round of steps, from here on."
        )
        self._first_rows = {state: self._add_row(row) for state, row in ({"": _FIRST_ROW} | _FIRST_ROWS).items()}
        for row in _ROWS:
            self._add_row(row)
        with gui.add_folder("Kept", expand_by_default=False):
            self._kept = gui.add_dropdown(
                "Go back to",
                (_NO_STATE,),
                hint="States that were kept: finished edits, branches, and what was undone or left.",
            )
            self._kept.on_update(lambda _: self._chose_state())
            self._kept_pictures = gui.add_markdown("", image_root=self._folder)

    def _add_row(self, buttons: tuple[str, ...]) -> GuiButtonGroupHandle[str]:
        group = self.viser_server.gui.add_button_group("", buttons)
        group.value = ""  # viser reports no click on the button that was clicked last
        group.on_click(self._clicked)
        return group

    def _add_downloads(self) -> None:
        gui = self.viser_server.gui
        rows = ("Report", ".ply") if self._scene.model.kind == "splat" else ("Report",), ("Comparison",)
        for label, row in zip(("Download", ""), rows, strict=True):
            group = gui.add_button_group(label, row, hint="The last that was written.")
            group.value = ""
            group.on_click(self._asked_for_file)

    def _asked_for_file(self, event: Any) -> None:
        button, event.target.value = event.target.value, ""
        if button and event.client is not None:
            self._send(event.client, _DOWNLOADS[button])

    def _send(self, client: ClientHandle, name: str) -> None:
        """Send a browser one of the files of the results."""
        path = self._session.files.get(name, self._folder / name)
        if path.is_file():
            client.send_file_download(f"{path.parent.name}-{name}", path.read_bytes())
            return
        way = "Compare" if name == "compare.html" else "Export"
        client.add_notification(
            "Nothing to download", f"There is no {name} yet: press {way}.", auto_close=_MILLISECONDS_OF_A_MESSAGE
        )

    def _add_settings(self) -> None:
        gui, now = self.viser_server.gui, self._session.settings
        if self._scene.takes_requests:
            self._begun = {name: value for name, value in now.items() if name not in (*_WITH_EDIT, "only")}
            self._preset = gui.add_dropdown(
                "Preset", (BY_HAND, AS_BEGUN, *PRESETS), hint="Settings that go together, set at once."
            )
            self._preset.on_update(lambda _: self._chose_preset())
        self._inputs |= add_settings(gui, now)
        if self._scene.training_run:
            self._inputs["steps_left"] = gui.add_number(
                "Steps left", 0, min=0, step=1, hint="How many to run. Counts when Edit is pressed."
            )

    def refresh(self, force: bool = False) -> None:
        """Show the session's state, if a browser is connected and the last refresh is not too recent."""
        if not self._in_viewer:
            return
        # nerfstudio gives each browser a tenth of the time, however many watch.
        browsers = len(self.viewer.render_statemachines)
        self.viewer.train_util = 1 / (1 + _SHARE_OF_RENDERS / max(1, browsers))
        if not force and not (self.viser_server.get_clients() and self._is_time()):
            return
        with self._refreshing:
            self._refreshed = time.monotonic()
            self._show_settings()
            self._status.content = self._status_text()
            if self._session.live:
                self._show_pause(self._session.status.state)
            if self._scene.takes_requests:
                self._bar.value = 100 * self._session.status.share_done
                self._show_kept()
                self._choosing.refresh()
            self._showing.refresh()
            self._pictures.content = self._picture_text()

    def _show_pause(self, state: str) -> None:
        """Let nerfstudio's buttons and ours agree on whether the run is paused; a finished one can't be."""
        viewer = self.viewer
        viewer.resume_train.visible = state == "paused"
        viewer.pause_train.visible = state not in ("paused", "finished")
        if self._scene.takes_requests:
            for shown_in, row in self._first_rows.items():
                row.visible = shown_in == (state if state in _FIRST_ROWS else "")

    def _show_kept(self) -> None:
        """Offer the states and the prompts of before."""
        names = (_NO_STATE, *(one_line(state.name) for state in self._session.states))
        if self._kept.options != names:
            self._kept.options = names
            self._kept_pictures.content = self._states_text()
        words = (_NO_WORDS, *last_words(self._session.settings, self._session.states))
        if self._last_words.options != words:
            self._last_words.options = words

    def notify(self, title: str, text: str, lasts: bool = False) -> None:
        """Show a message in every browser, in place of the last one.

        Args:
            title: In a few words.
            text: The message.
            lasts: Whether it is shown until the next one, as something that goes on.
        """
        if not self._in_viewer:
            return
        for note in self._notes:
            note.remove()
        close = False if lasts else _MILLISECONDS_OF_A_MESSAGE
        self._notes = [
            client.add_notification(title, one_line(text), loading=lasts, auto_close=close)  # type: ignore[arg-type]
            for client in self.viser_server.get_clients().values()
        ]

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
                    handle.options = objectives(value)
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

    def _clicked(self, event: GuiEvent[Any]) -> None:
        button, event.target.value = event.target.value, ""
        if not button:
            return
        settings: Settings = {}
        if button in ("Edit", "Draft", "Queue"):
            for name in _WITH_EDIT:
                if self._inputs[name].value != self._shown[name]:
                    settings |= self._asked(name)
            if settings.keys() & {"src_prompt", "tgt_prompt"} or _BUTTONS[button] == "queue":
                settings["round"] = _ROUNDS[self._round.value]
        if button == "Draft" and event.client is not None:
            settings = {"view": view_of(self.viewer.get_camera_state(event.client)), **settings}
        self._session.ask(Request(_BUTTONS[button], settings))

    def _chose_words(self) -> None:
        name = _taken(self._last_words, _NO_WORDS)
        if words := last_words(self._session.settings, self._session.states).get(name):
            self._inputs["src_prompt"].value, self._inputs["tgt_prompt"].value = words

    def _chose_preset(self) -> None:
        name = _taken(self._preset, BY_HAND)
        if name != BY_HAND:
            self._session.ask(Request("set", self._begun if name == AS_BEGUN else PRESETS[name]))

    def _chose_state(self) -> None:
        name = _taken(self._kept, _NO_STATE)
        for state in self._session.states:
            if one_line(state.name) == name:
                self._session.ask(Request("back", {"state": state.number}))

    def _status_text(self) -> str:
        session = self._session
        if not session.live:
            folder, checkpoints = self._folder.resolve(), self._folder.resolve() / "nerfstudio_models"
            command = f"ns-train {self._method} --load-dir {checkpoints}"
            if (folder / again.NAME).exists():
                command = again.reopening(folder, checkpoints)
            text = f"A finished edit. To go on: {plain(command)}"
        else:
            text = progress_text(session.status)
        prompts = marked(session.settings["src_prompt"], session.settings["tgt_prompt"])
        message = f"**{plain(session.status.message)}**" if session.status.message else ""
        return "\n\n".join(filter(None, [prompts, text, message]))

    def _states_text(self) -> str:
        """Return a table of the last states, with their pictures and words."""
        rows = [
            f'|<img src="{data_url(state.picture.read_bytes(), "image/jpeg")}" alt="" width="96" '
            f'style={{{{maxWidth: "none"}}}}/>|{plain(state.name)}|'
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
        pictures = [] if image is None else [(title, image)]
        if self._session.draft is not None:
            pictures.insert(0, ("your view, and a draft of its edit in 2D", jpeg(self._session.draft)))
        parts = [f"![{title}]({data_url(image, 'image/jpeg')})\n\n{title}" for title, image in pictures]
        for name, label in (("loss", "loss"), ("gradient_rms", "gradient (root mean square)")):
            if history is not None and history.moments:
                svg = plot(label, {label: history.series(name)}, width=320, height=130)
                parts.append(f"![{label}]({data_url(svg.encode(), 'image/svg+xml')})")
        return "\n\n".join(parts)


def _taken(dropdown: GuiDropdownHandle[str], nothing: str) -> str:
    """Return what was chosen of a dropdown that asks for something, and let it show that nothing is."""
    name = dropdown.value
    if name != nothing:  # viser calls back for this change, too
        dropdown.value = nothing
    return name
