"""The interface of a scene's model to an edit and to what watches the edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from pds_nerfstudio.scenes.anchor import Anchor, Pixels
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews
from pds_nerfstudio.scenes.models.seeds import Seeds
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.views import SourceView, SourceViews

SceneKind = Literal["splat", "nerf"]
"""What sort of scene there is. The method that edits it is named pds- and this."""


@dataclass(frozen=True)
class Seen:
    """A view of the scene in a step."""

    rgb: Float[Tensor, "height width 3"]
    """At the guidance's size, in 0..1."""
    fine: Float[Tensor, "fine_height fine_width 3"]
    """As it was rendered, of that size or of more pixels."""
    losses: dict[str, Float[Tensor, ""]]
    """What keeps the scene sound."""


@runtime_checkable
class SceneModel(Protocol):
    """A model of nerfstudio's whose scene can be edited.

    The last group are nerfstudio's and PyTorch's own.
    """

    kind: ClassVar[SceneKind]
    """What sort of scene it holds."""

    @property
    def edit_background(self) -> Float[Tensor, "3"]:
        """What transparent source images lie on."""

    @property
    def points(self) -> Float[Tensor, "points 3"]:
        """Some points of the scene, on the CPU."""

    def begin_edit(self, first: bool, cameras: Cameras) -> None:
        """Prepare for edit steps.

        Args:
            first: Whether this is the edit's very first step (not a resumed run).
            cameras: The training cameras.
        """

    @property
    def free(self) -> Bool[Tensor, " gaussians"] | None:
        """Which Gaussians an edit may change; None if it may change all, or there are none."""

    @property
    def holds(self) -> bool:
        """Whether a part of the scene is held."""

    def hold(self, choose: Callable[[Any], Any]) -> None:
        """From now on, keep what is not chosen as it is, also if something else was chosen before.

        When the edit begins, splats do so after `begin_edit`, NeRFs before.

        Args:
            choose: Returns what may change: of a scene made of Gaussians which of them, else a region of space.
        """

    @property
    def may_change(self) -> Bool[Tensor, " gaussians"] | Region | None:
        """What an edit may change: some Gaussians, or a region of space; None if that is all of the scene."""

    def light_from(self, what: Any, camera: Cameras) -> Float[Tensor, "height width"]:
        """Return how much of each pixel's light comes from a part of the scene, in 0..1.

        Args:
            what: As of `may_change`.
            camera: One camera.
        """

    def held_state(self) -> dict[str, Any] | None:
        """Return what a checkpoint has to hold of what is held, or of what is new, beside `free`; None if nothing."""

    def load_held_state(self, state: dict[str, Any] | None) -> None:
        """Take up what a checkpoint held of that, and nothing else."""

    def render_edit_view(
        self, camera: Cameras, index: int
    ) -> tuple[Float[Tensor, "height width 3"], dict[str, Float[Tensor, ""]]]:
        """Return a whole view with gradients, and losses that keep the scene sound.

        Args:
            camera: One camera.
            index: Of the training view.
        """

    def see(self, view: SourceView) -> Seen:
        """Return a view as the guidance looks at it, with gradients.

        Args:
            view: A training view.
        """

    def compare_with_source(
        self, anchor: Anchor, step: int, seen: Sequence[tuple[SourceView, Seen]]
    ) -> tuple[list[Pixels], dict[str, Float[Tensor, ""]]]:
        """Return some pixels of full-size views, with gradients, and losses that keep the scene sound.

        Args:
            anchor: Draws them.
            step: Of the run.
            seen: The step's views, as it sees them.
        """

    def fit_redrawn(self, view: SourceView, redrawn: RedrawnViews, turn: int) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a step that refines.

        Args:
            view: A training view that was redrawn.
            redrawn: All that were.
            turn: How often the turn of that view has come before.
        """

    def surfaces(self, views: SourceViews, redrawn: RedrawnViews) -> Seeds | None:
        """Return points of what redrawn views show that was not there, as deep as the scene is now.

        None, if the scene is not made of points.

        Args:
            views: The training views.
            redrawn: Those of them that were redrawn.
        """

    def plant(self, seeds: Seeds) -> None:
        """Let what is to be fitted grow from these points."""

    def splats(self) -> Mapping[str, Float[Tensor, " gaussians"]] | None:
        """Return what a .ply file holds of each Gaussian, by its name there; None if the scene is not made of them."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Any]:
        """Render the outputs that nerfstudio's viewer shows."""

    def state_dict(self) -> dict[str, Any]:
        """Return its weights, as PyTorch does."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is trained, as PyTorch does."""

    def buffers(self) -> Iterator[Tensor]:
        """Yield what is kept beside it, as PyTorch does."""

    def eval(self) -> Any:
        """Stop training, as PyTorch does."""


@torch.no_grad()
def render(model: SceneModel, camera: Cameras) -> Float[Tensor, "height width 3"]:
    """Return what the model shows one camera, in 0..1."""
    return model.get_outputs_for_camera(camera.to(model.device))["rgb"].clamp(0, 1)
