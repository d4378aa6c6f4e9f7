"""The folder "Show" of each browser, by which it looks at what it likes, whatever the others look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nerfstudio.viewer.render_state_machine import RenderAction
from nerfstudio.viewer.viewer import Viewer
from viser import ClientHandle

from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.scenes.live.comparison import MAY_CHANGE, SHOWN, Comparison, Look
from pds_nerfstudio.scenes.live.session import EditSession

_SOURCE = "the source"


@dataclass
class _Switches:
    """The elements of one browser."""

    show: Any
    beside: Any
    split: Any


class Showing:
    """Adds the folder to each browser that comes.

    Args:
        viewer: Whose browsers they are.
        comparison: Renders what they look at.
        session: Holds the kept states.
        order: Of the folder among those of the panel.
    """

    def __init__(self, viewer: Viewer, comparison: Comparison, session: EditSession, order: float) -> None:
        self._viewer, self._comparison, self._session, self._order = viewer, comparison, session, order
        self._of: dict[int, _Switches] = {}
        viewer.viser_server.on_client_connect(self._add)
        viewer.viser_server.on_client_disconnect(self._forget)

    def refresh(self) -> None:
        """Offer the states that are kept by now."""
        names = self._beside_names()
        for switches in list(self._of.values()):
            if switches.beside.options != names:
                switches.beside.options = names

    def _beside_names(self) -> tuple[str, ...]:
        return (_SOURCE, *(one_line(state.name) for state in self._session.states))

    def _add(self, client: ClientHandle) -> None:
        shown = [name for name in SHOWN if name != MAY_CHANGE or self._session.live]
        gui = client.gui
        with gui.add_folder("Show", order=self._order):
            show = gui.add_dropdown(
                "Show",
                shown,
                hint="In this browser only. before: the source, or the state chosen below. change: where the edit "
                "differs from that, white most.",
            )
            beside = gui.add_dropdown(
                "Beside", self._beside_names(), hint="What the edited scene is compared with: a branch or a state."
            )
            split = gui.add_slider(
                "Split at", 0.0, 1.0, 0.01, 0.5, visible=False, hint="Share of the picture that shows before."
            )
        self._of[client.client_id] = _Switches(show, beside, split)
        for element in (show, beside, split):
            element.on_update(lambda _: self._look(client))

    def _look(self, client: ClientHandle) -> None:
        switches = self._of.get(client.client_id)
        if switches is None:
            return
        states = {one_line(state.name): state.checkpoint for state in self._session.states}
        look = Look(SHOWN[switches.show.value], switches.split.value, states.get(switches.beside.value))
        switches.split.visible = look.what == "before_after"
        self._comparison.looks[client.client_id] = look
        machine = self._viewer.render_statemachines.get(client.client_id)
        if machine is not None:
            machine.action(RenderAction("move", self._viewer.get_camera_state(client)))

    def _forget(self, client: ClientHandle) -> None:
        self._of.pop(client.client_id, None)
        self._comparison.looks.pop(client.client_id, None)
