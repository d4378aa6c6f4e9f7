"""A drawing while it is decided what in it changes: what is moved, hidden and new, and how near that is to a draft."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.likeness import unlike
from pds_nerfstudio.vector.edit.scene_tree import without
from pds_nerfstudio.vector.raster.scene import SceneParameters
from pds_nerfstudio.vector.svg.insertion import Inserted, NewGroup, NewPath, Places, insert_paths
from pds_nerfstudio.vector.svg.xml_source import Element

NODE = 8e-5
"""What a node costs, as a share of the picture that it has to put right."""
CHANGE = 2 * NODE
"""What it costs to change a path at all."""


@dataclass(frozen=True)
class Placed:
    """A new path and its place."""

    path: NewPath
    """The path."""
    below: Element | None
    """What is drawn next, of the document as it was; None on top of all."""


@dataclass
class Sketch:
    """A drawing in the making. Its numbers are those of the document as it was, with other values."""

    editor: VectorEditor
    """Has the document, and draws."""
    draft: Float[Tensor, "3 h w"]
    """What should be seen."""
    paper: Float[Tensor, "3 h w"]
    """What lies below the drawing."""
    counts: Bool[Tensor, "h w"]
    """The pixels that are compared: those that show nothing which must stay."""
    parameters: SceneParameters
    """The numbers of the old paths."""
    hidden: frozenset[int] = frozenset()
    """Old paths that are not drawn."""
    new: list[Placed] = field(default_factory=list)
    """The new paths, lowest first at each place."""

    known: Places = field(default_factory=dict)
    """What is known of places for new paths."""

    def insert(self, new: Sequence[Placed]) -> Inserted | None:
        """Return the document with new paths; see `insert_paths`."""
        places: dict[Element | None, list[NewPath]] = {}
        for placed in new:
            places.setdefault(placed.below, []).append(placed.path)
        order = sorted(places, key=lambda e: float("inf") if e is None else e.start)
        return insert_paths(self.editor.before, [NewGroup(tuple(places[e]), e) for e in order], self.known)

    def merged(self, inserted: Inserted) -> SceneParameters:
        """Return the numbers of a document with new paths, the old paths' as they are by now."""
        merged = {}
        for name, values in vars(inserted.document.parameters).items():
            before, now = inserted.rows[name]
            own = getattr(self.parameters, name)
            merged[name] = values.to(own).clone()
            merged[name][now] = own[before]
        return SceneParameters(**merged)

    @torch.no_grad()
    def picture(self, new: Sequence[Placed] | None = None) -> Float[Tensor, "3 h w"] | None:
        """Return what is seen.

        Args:
            new: The new paths; those of the sketch by default.

        Returns:
            None where new paths cannot be shown at one of their places.
        """
        new = self.new if new is None else new
        editor, scene, parameters, hidden = self.editor, self.editor.before.scene, self.parameters, self.hidden
        if new:
            inserted = self.insert(new)
            if inserted is None:
                return None
            scene, parameters = inserted.document.scene, self.merged(inserted)
            hidden = frozenset(inserted.paths[path] for path in hidden)
        renderer = editor.backend(without(scene, hidden))
        return renderer.render(parameters, editor.canvas, editor.canvas, editor.view, self.paper)

    def error(self, picture: Float[Tensor, "3 h w"]) -> float:
        """Return the share of a picture that does not look like the draft."""
        return float((unlike(picture, self.draft) * self.counts).mean())

    def with_(self, **changes: object) -> "Sketch":
        """Return another sketch of the same drawing."""
        return replace(self, **changes)  # type: ignore[arg-type]
