"""What of a drawing may change: paths that show something else in the draft, and nothing that the user holds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.likeness import color_distance
from pds_nerfstudio.vector.edit.scene_tree import paint_rows
from pds_nerfstudio.vector.edit.selection import selected_paths
from pds_nerfstudio.vector.edit.visibility import owners
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.svg.document import Document

_DIFFERENT = 5.0
"""Colour difference from which a pixel of the draft shows something else."""
_SHARE = 0.02
"""Share of what is seen of a path, from which it shows something else."""
_FINE = 512
"""Pixels on a side, at least, on which it is looked up which path is seen where."""
_FREE = 0.08
"""Size of a path from which it goes all of the way in a step, as a share of the canvas; smaller ones go less far."""
_SLOWEST = 0.15


@dataclass(frozen=True)
class Owned:
    """Which path is seen where in the source, on a fine grid."""

    owner: Int[Tensor, "side side"]
    """Numbers of paths, or `NOTHING`."""
    area: dict[int, float]
    """Share of the canvas that is seen of each path."""

    @staticmethod
    def of(editor: VectorEditor) -> "Owned":
        """Return what is seen in the document as it was."""
        times = max(-(-_FINE // editor.canvas), 1)
        side = times * editor.canvas
        view = affine.compose(affine.scaling(times, times), editor.view)
        owner = owners(editor.before.scene, editor.source, view, side, editor.backend)
        numbers, counts = owner.unique(return_counts=True)
        area = {n: c / side**2 for n, c in zip(numbers.tolist(), counts.tolist(), strict=True) if n >= 0}
        return Owned(owner, area)

    def share(self, where: Bool[Tensor, "h w"]) -> dict[int, float]:
        """Return for each path how much of what is seen of it lies in a mask of the canvas."""
        fine = self.finer(where)
        inside = {n: int((self.owner[fine] == n).sum()) for n in self.owner[fine].unique().tolist()}
        return {n: inside.get(n, 0) / (area * self.owner.numel()) for n, area in self.area.items()}

    def finer(self, mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "side side"]:
        """Return a mask of the canvas on the fine grid."""
        times = self.owner.shape[-1] // mask.shape[-1]
        return mask.repeat_interleave(times, 0).repeat_interleave(times, 1)

    def mask(self, paths: Collection[int], canvas: int) -> Bool[Tensor, "canvas canvas"]:
        """Return the pixels of the canvas that mostly show one of some paths."""
        times = self.owner.shape[-1] // canvas
        shown = torch.isin(self.owner, torch.tensor(sorted(paths), device=self.owner.device))
        return torch.nn.functional.avg_pool2d(shown[None].float(), times)[0] > 0.5


def changed(source: Float[Tensor, "3 h w"], draft: Float[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """Return where a draft shows something else than the source, without what is thinner than two pixels."""
    mask = (color_distance(source, draft) > _DIFFERENT).cpu().numpy()
    kept = ndimage.binary_opening(mask, np.ones((2, 2), bool))
    return torch.from_numpy(kept).to(source.device)


def paths_to_change(owned: Owned, where: Bool[Tensor, "h w"], locked: Collection[int]) -> set[int]:
    """Return the paths that show something else where the draft is changed, and may."""
    return {path for path, share in owned.share(where).items() if share > _SHARE} - set(locked)


def region_mask(
    document: Document, region: tuple[float, float, float, float] | None, editor: VectorEditor
) -> Bool[Tensor, "canvas canvas"]:
    """Return the pixels of the canvas in a region of the drawing: all of them without one.

    Args:
        document: The drawing.
        region: x, y, width and height, in the units of the outermost element's `viewBox`.
        editor: Has the canvas.
    """
    side = editor.canvas
    if region is None:
        return torch.ones(side, side, dtype=torch.bool, device=editor.device)
    x, y, width, height = region
    view = affine.compose(editor.view, document.user_units)
    (left, top), (right, bottom) = affine.apply(view, x, y), affine.apply(view, x + width, y + height)
    at = torch.arange(side, device=editor.device) + 0.5
    return ((at >= top) & (at <= bottom))[:, None] & ((at >= left) & (at <= right))[None]


def locked_paths(editor: VectorEditor, only: str, lock: str, inside: Bool[Tensor, "h w"], owned: Owned) -> set[int]:
    """Return the paths that must stay: those that the options name or leave out, and those outside of the region.

    Raises:
        UserError: If a selector picks nothing.
    """
    paths = {path.path for path in editor.before.paths}
    locked = selected_paths(editor.before, lock, "lock")
    if only.strip():
        locked |= paths - selected_paths(editor.before, only, "only")
    if not bool(inside.all()):
        share = owned.share(inside)
        locked |= {path for path in paths if share.get(path, 0.0) < 0.5}
    return locked


def pace(owned: Owned, path: int) -> float:
    """Return how far a path goes in a step: small ones less far, or they are torn."""
    return min(max(owned.area.get(path, 0.0) ** 0.5 / _FREE, _SLOWEST), 1.0)


def freedom(
    document: Document, shapes: Mapping[int, float], paints: Mapping[int, float]
) -> dict[str, Float[Tensor, " n"]]:
    """Return for each row of a document's numbers how far it goes in a step.

    Args:
        document: The document.
        shapes: For paths whose points and line widths may change, how far they go; the others stay.
        paints: The same for paints. A row that another path is painted with, too, stays with that one.
    """
    rows = {name: torch.zeros(len(values)) for name, values in vars(document.parameters).items()}
    for path in document.paths:
        rows["points"][path.first : path.first + len(path.source.outline.points)] = shapes.get(path.path, 0.0)
    painted = paint_rows(document.scene)
    for pick, names in ((paints, ("colors", "opacities", "gradients", "offsets")), (shapes, ("widths",))):
        for name in names:
            pace_of: dict[int, float] = {}
            for path, own in painted.items():
                for row in getattr(own, name):
                    pace_of[row] = min(pace_of.get(row, 1.0), pick.get(path, 0.0))
            for row, value in pace_of.items():
                rows[name][row] = value
    return rows
