"""The folder of the panel in which what may change is chosen by hand: by clicks in the picture, and by the crop box.

It only looks and asks, as the panel does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from nerfstudio.viewer.utils import CameraState
from nerfstudio.viewer.viewer import Viewer
from viser import GuiButtonGroupHandle, ScenePointerEvent

from pds_nerfstudio.scenes.live.session import EditSession, Request
from pds_nerfstudio.scenes.run import Settings

_MOST_BALLS = 64
"""That a rectangle is filled with, about; of a large one they are larger than the brush."""
_LAST, _BOX, _ALL = "Take back last", "Take crop box", "Let all change"
_NOTHING: Settings = {"obb_scale": [0.0] * 3, "balls": [], "masks": None, "words": ""}
Point = tuple[float, float]


class Choosing:
    """The folder "Only this".

    Args:
        viewer: In whose panel it is made.
        session: Which is asked.
    """

    def __init__(self, viewer: Viewer, session: EditSession) -> None:
        self._viewer, self._session = viewer, session
        gui = viewer.viser_server.gui
        with gui.add_folder("Only this", expand_by_default=False):
            self._chosen = gui.add_markdown("")
            picks = gui.add_checkbox(
                "Pick",
                False,
                hint="A click in the picture picks a piece, a drag a rectangle. The view stays where it is.",
            )
            self._brush = gui.add_slider(
                "Brush", 0.01, 0.3, 0.01, 0.05, hint="Radius of a piece, as a share of the picture's height where it is"
            )
            for button in (_LAST, _BOX, _ALL):
                group = gui.add_button_group("", (button,))
                group.value = ""  # viser reports no click on the button that was clicked last
                group.on_click(lambda event: self._clicked(event.target))
        picks.on_update(lambda _: self._listen(picks.value))
        self.refresh()

    def refresh(self) -> None:
        """Show what may change."""
        self._chosen.content = in_words(self._session.settings["only"])

    def _listen(self, on: bool) -> None:
        scene = self._viewer.viser_server.scene
        if on:  # a click is a rectangle without sides
            scene.on_pointer_event("rect-select")(self._pointed)
        else:
            scene.remove_pointer_callback()

    def _pointed(self, event: ScenePointerEvent) -> None:
        camera = self._viewer.get_camera_state(event.client)
        rays, brush = rays_through(camera, event.screen_pos[0], event.screen_pos[-1], self._brush.value)
        self._session.ask(Request("pick", {"rays": rays, "brush": brush}))

    def _clicked(self, group: GuiButtonGroupHandle[str]) -> None:
        button, group.value = group.value, ""
        if button:
            self._session.ask(Request("set", {"only": self._asked(button)}))

    def _asked(self, button: str) -> Settings:
        if button == _LAST:
            return {"balls": self._session.settings["only"]["balls"][:-4]}
        if button == _ALL:
            return _NOTHING
        crop = self._viewer.control_panel
        values = {"obb_center": crop._crop_center, "obb_rotation": crop._crop_rot, "obb_scale": crop._crop_scale}
        return {name: [float(x) for x in element.value] for name, element in values.items()}


def rays_through(camera: CameraState, corner: Point, opposite: Point, brush: float) -> tuple[list[list[float]], float]:
    """Return rays through a rectangle of a picture, and a brush with which balls around what they meet fill it.

    Args:
        camera: Whose picture it is.
        corner: Of the rectangle: its share of the picture's width from the left, and of its height from the top.
        opposite: The corner across from it; the same for a single ray.
        brush: Radius of a ball, as a share of the picture's height where it lies.

    Returns:
        Of each ray its origin and its direction, in the scene's coordinates, and the radius of a ball at a distance of
        one.
    """
    (left, right), (top, bottom) = (
        sorted(min(max(x, 0.0), 1.0) for x in pair) for pair in zip(corner, opposite, strict=True)
    )
    width, height = (right - left) * camera.aspect, bottom - top
    radius = max(brush, math.sqrt(width * height / _MOST_BALLS))
    columns, rows = (max(1, math.ceil(side / radius)) for side in (width, height))
    across = left + (right - left) * (np.arange(columns) + 0.5) / columns
    down = top + (bottom - top) * (np.arange(rows) + 0.5) / rows
    size = 2 * math.tan(camera.fov / 2)  # of the picture's height, at a distance of one
    pose = camera.c2w.double().numpy()
    u, v = (grid.flatten() for grid in np.meshgrid(across, down))
    looking = np.stack([(u - 0.5) * size * camera.aspect, (0.5 - v) * size, -np.ones_like(u)])
    directions = (pose[:, :3] @ (looking / np.linalg.norm(looking, axis=0))).T
    return [[*pose[:, 3].tolist(), *direction.tolist()] for direction in directions], radius * size


def in_words(only: dict[str, Any]) -> str:
    """Return what may change, in words.

    Args:
        only: As of `SelectionConfig.plain`.
    """
    n = len(only["balls"]) // 4
    parts = {
        f"{n} picked piece{'s' * (n != 1)}": n,
        "a box": any(only["obb_scale"]),
        "masks": only["masks"],
        "words": only["words"],
    }
    said = [name for name, there in parts.items() if there]
    return f"What may change: {' and '.join(said)}." if said else "All may change."
