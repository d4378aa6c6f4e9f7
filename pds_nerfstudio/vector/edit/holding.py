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
from pds_nerfstudio.vector.edit.selection import parse_region, selected_paths
from pds_nerfstudio.vector.edit.visibility import NOTHING, owners
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.svg.document import Document

_DIFFERENT = 5.0
"""Colour difference from which a pixel of the draft shows something else."""
_FAINTLY = 3.0
"""Colour difference from which the mean of what is seen of a path is another colour: noise is less on average."""
_SHARE = 0.02
"""Share of what is seen of a path, from which it shows something else."""
_FINE = 512
"""Pixels on a side, at least, on which it is looked up which path is seen where."""
_FREE = 0.08
"""Size of a path from which it goes all of the way in a step, as a share of the canvas; smaller ones go less far."""
_SLOWEST = 0.15
"""The least share of the way that a path goes in a step."""
_MOSTLY = 0.5
"""Share of what is seen of a path that has to be in a region for the path to be in it."""


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


def paths_to_change(
    owned: Owned, source: Float[Tensor, "3 h w"], draft: Float[Tensor, "3 h w"], counts: Bool[Tensor, "h w"]
) -> set[int]:
    """Return the paths that show something else in a draft: in some places, or faintly as a whole.

    Args:
        owned: Where they are seen.
        source: The drawing as it was.
        draft: What it should look like.
        counts: The pixels that are compared.
    """
    found = {path for path, share in owned.share(changed(source, draft) & counts).items() if share > _SHARE}
    times = owned.owner.shape[-1] // source.shape[-1]
    owner = torch.where(counts, owned.owner[::times, ::times], NOTHING)
    for path in owned.area.keys() - found:
        seen = owner == path
        if seen.any():
            before, after = (picture[:, seen].mean(1, keepdim=True) for picture in (source, draft))
            if float(color_distance(before, after)) > _FAINTLY:
                found.add(path)
    return found


@dataclass(frozen=True)
class Holding:
    """What the user lets change."""

    only: str = ""
    """Selectors of what alone may change; all by default."""
    lock: str = ""
    """Selectors of what must not change."""
    region: str = ""
    """x,y,width,height in the drawing's units, outside of which nothing may change; all by default."""


@dataclass
class Held:
    """What that means for one drawing on its canvas."""

    locked: frozenset[int]
    """Numbers of the paths that stay."""
    inside: Bool[Tensor, "h w"]
    """The pixels of the canvas that may change."""
    _owned: Owned | None = None

    @staticmethod
    def of(editor: VectorEditor, holding: Holding) -> "Held":
        """Find what is held, and have the editor hold it.

        Raises:
            UserError: If an option cannot be read, picks nothing, or leaves nothing that may change.
        """
        paths = {path.path for path in editor.before.paths}
        locked = selected_paths(editor.before, holding.lock, "lock")
        if holding.only.strip():
            locked |= paths - selected_paths(editor.before, holding.only, "only")
        region, owned = parse_region(holding.region), None
        inside = torch.ones(editor.canvas, editor.canvas, dtype=torch.bool, device=editor.device)
        if region is not None:
            inside, owned = _region_mask(editor, region), Owned.of(editor)
            share = owned.share(inside)
            locked |= {path for path in paths if share.get(path, 0.0) < _MOSTLY}
        if locked:
            free = dict.fromkeys(paths - locked, 1.0)
            editor.start(editor.before, editor.source, freedom=freedom(editor.before, free, free))
        return Held(frozenset(locked), inside, owned)

    def owned(self, editor: VectorEditor) -> Owned:
        """Return which path is seen where."""
        if self._owned is None:
            self._owned = Owned.of(editor)
        return self._owned


def _region_mask(editor: VectorEditor, region: tuple[float, float, float, float]) -> Bool[Tensor, "canvas canvas"]:
    """Return the pixels of the canvas in x, y, width, height of the outermost element's `viewBox`."""
    x, y, width, height = region
    view = affine.compose(editor.view, editor.before.user_units)
    (left, top), (right, bottom) = affine.apply(view, x, y), affine.apply(view, x + width, y + height)
    at = torch.arange(editor.canvas, device=editor.device) + 0.5
    return ((at >= top) & (at <= bottom))[:, None] & ((at >= left) & (at <= right))[None]


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
    for slot in document.paths:
        rows["points"][slot.first : slot.first + len(slot.source.outline.points)] = shapes.get(slot.path, 0.0)
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
