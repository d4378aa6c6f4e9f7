"""What in a drawing was symmetric, and is to be so after an edit: outlines, and pairs of them."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.edit.scene_tree import shapes_of
from pds_nerfstudio.vector.edit.settling import pixels
from pds_nerfstudio.vector.edit.sketch import Sketch
from pds_nerfstudio.vector.edit.symmetry import MOST_SEGMENTS, Mirror, mirror_between, mirror_of
from pds_nerfstudio.vector.edit.whole_shapes import SHAPES
from pds_nerfstudio.vector.raster.affine import Affine

_EXACT = 0.012
"""Share of the canvas by which a draft may be wrong about where the edge of a symmetric thing is."""


@dataclass(frozen=True)
class Symmetric:
    """Points of a drawing that are symmetric, of one path or of two."""

    rows: Int[Tensor, " m"]
    """Which points they are."""
    mirror: Mirror
    """Which of them is the image of which."""

    def hold(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return the nearest points that are symmetric."""
        return points.index_copy(0, self.rows, self.mirror.nearest(points[self.rows]))


def restore(sketch: Sketch, paths: Collection[int]) -> tuple[Symmetric, ...]:
    """Make symmetric again what was, unless it clearly is not in the draft.

    Args:
        sketch: Has the paths as a fit has left them. Its points change in place of others that are as good.
        paths: Those that have changed.

    Returns:
        What is symmetric now.
    """
    found, paired = list[Symmetric](), set[int]()
    for some, symmetric in _once(sketch, sorted(paths)):
        now = sketch.parameters.points
        points = symmetric.hold(now)
        if not paired & set(some) and float(pixels(sketch, points - now).max()) < _EXACT * sketch.editor.canvas:
            sketch.parameters = replace(sketch.parameters, points=points)
            found.append(symmetric)
            paired.update(some)
    return tuple(found)


def _once(sketch: Sketch, paths: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Symmetric]]:
    """Return what of some paths was symmetric in the drawing as it was: first pairs of them, then single ones."""
    editor = sketch.editor
    scene, slots = editor.before.scene, {slot.path: slot for slot in editor.before.paths}
    owner = torch.tensor(scene.topology.path)[scene.topology.contour]
    segments = {path: scene.topology.segments[owner == path] for path in paths}
    rows = {p: torch.arange(slots[p].first, slots[p].first + len(slots[p].source.outline.points)) for p in paths}
    places = defaultdict[int, set[Affine]](set)  # points can be compared only where units are the same
    for shape in shapes_of(scene):
        places[shape.path].add(shape.transform)
    source = editor.source.points.cpu()

    def of(some: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Symmetric]]:
        own = torch.cat([rows[path] for path in some])
        local = torch.full((len(source),), -1).index_copy(0, own, torch.arange(len(own)))
        parts = [local[segments[path]] for path in some]
        points = source[own]
        mirror = mirror_of(points, parts[0]) if len(parts) == 1 else mirror_between(points, parts[0], parts[1])
        if mirror is not None:
            device = editor.device
            yield some, Symmetric(own.to(device), Mirror(mirror.partner.to(device)))

    for one, other in combinations([path for path in paths if len(segments[path]) <= MOST_SEGMENTS], 2):
        if len(segments[one]) == len(segments[other]) and len(places[one]) == 1 and places[one] == places[other]:
            yield from of((one, other))
    for path in paths:
        if slots[path].source.tag not in SHAPES:  # which are kept as what they are
            yield from of((path,))
