"""New paths for what old ones cannot explain of a draft: as few, of as few nodes, as it takes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay
from torch import Tensor

from pds_nerfstudio.vector.edit.likeness import unlike
from pds_nerfstudio.vector.edit.own_lines import PlacedLine, lines_of, outlined
from pds_nerfstudio.vector.edit.palette import palette_of
from pds_nerfstudio.vector.edit.residual import FINER, Mask, Region, finer, regions
from pds_nerfstudio.vector.edit.scene_tree import shapes_of, without
from pds_nerfstudio.vector.edit.sketch import CHANGE, NODE, Placed, Sketch
from pds_nerfstudio.vector.edit.trace import as_path, trace
from pds_nerfstudio.vector.edit.visibility import owners
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.svg.insertion import NewPath
from pds_nerfstudio.vector.svg.xml_source import Element

_TRACES = ((0.4, True), (0.8, True), (1.6, True), (0.8, False))
"""Tolerances in pixels, and whether with corners, of which the cheapest is taken."""
PATH = 2 * NODE
"""What a path costs apart from its nodes."""
_TOUCHED = 0.08
"""Least share of a region's edge at which another path may be what it is behind."""
_UNDER = 0.03
"""How far a path goes on below what it is behind, as a share of the picture."""
_WELL = 20 * NODE
"""What a sketch may cost without any thought of other ways."""
_HOPELESS = 10 * NODE
"""How much worse a plain outline may be than nothing, for finer ones to be tried."""
_SEEN = 0.02
_ROUNDS, _TRIES = 3, 12


def add_new_paths(
    sketch: Sketch, most: int, allowed: Bool[Tensor, "h w"] | None = None, rounds: int = _ROUNDS, tries: int = _TRIES
) -> None:
    """Add new paths to a sketch, each of which puts more right than its nodes cost.

    Args:
        sketch: Gets them.
        most: Paths at most.
        allowed: Where they may be; anywhere by default.
        rounds: How often what is still unexplained is looked at again.
        tries: How many regions are looked at in each round, the largest first.
    """
    now = sketch.picture()
    assert now is not None
    owner, tried = _owner(sketch), list[Region]()
    for _ in range(rounds):
        gained = False
        found = regions(sketch.draft, now, sketch.paper, _palette(sketch), allowed)[:tries]
        for region in found:
            wrong = finer(unlike(now, sketch.draft)[None])[0].cpu().numpy()
            hope = float(wrong[region.mask].sum()) / wrong.size
            known = any((region.mask ^ other.mask).mean() < NODE for other in tried)
            if len(sketch.new) >= most or known or hope < 2 * NODE + PATH:
                continue
            tried.append(region)
            alike = [other for other in found if other is not region and other.color == region.color]
            best = _best(sketch, region, alike, sketch.error(now), owner)
            if best is not None:
                sketch.new, gained = best, True
                picture = sketch.picture()
                assert picture is not None
                now = picture
        if not gained:
            break


def redo_paths(sketch: Sketch, paths: Sequence[int], most: int, allowed: Bool[Tensor, "h w"]) -> None:
    """Put new paths in the place of old ones, where that is simpler than what mends them.

    Args:
        sketch: Has new paths already.
        paths: The old ones to try, one after another, and then all of them together.
        most: New paths at most.
        allowed: Where they may be.
    """
    for some in [*({path} for path in paths), set(paths)]:
        tried = some - sketch.hidden
        cost = cost_of(sketch)
        if not tried or cost < _WELL:
            continue
        other = sketch.with_(hidden=sketch.hidden | tried, new=_apart(sketch, tried))
        tries = 1 + len(tried) + len(sketch.new) - len(other.new)
        add_new_paths(other, most + len(tried), allowed, rounds=1, tries=tries)
        prune(other)
        if len(other.new) <= most and cost_of(other) < cost:
            sketch.hidden, sketch.new = other.hidden, other.new


def _apart(sketch: Sketch, paths: set[int]) -> list[Placed]:
    """Return the new paths that do not touch what is seen of some old ones."""
    now = sketch.picture()

    def shows(other: Tensor | None) -> Bool[np.ndarray, "h w"]:
        assert now is not None and other is not None
        seen = (now - other).abs().amax(0) > _SEEN
        return np.asarray(ndimage.binary_dilation(seen.cpu().numpy(), iterations=1))

    old = shows(sketch.with_(hidden=sketch.hidden | paths).picture())
    return [p for p in sketch.new if not (old & shows(sketch.picture([q for q in sketch.new if q is not p]))).any()]


def prune(sketch: Sketch) -> None:
    """Drop new paths that put less right than their nodes cost."""
    for placed in sorted(sketch.new, key=lambda p: p.path.nodes, reverse=True):
        others = [p for p in sketch.new if p is not placed]
        now, without_it = sketch.picture(), sketch.picture(others)
        assert now is not None and without_it is not None
        if sketch.error(without_it) <= sketch.error(now) + NODE * placed.path.nodes + PATH:
            sketch.new = others


def cost_of(sketch: Sketch) -> float:
    """Return the error of a sketch with what its new and its hidden paths cost."""
    picture = sketch.picture()
    assert picture is not None
    return sketch.error(picture) + sum(NODE * p.path.nodes + PATH for p in sketch.new) + CHANGE * len(sketch.hidden)


def _palette(sketch: Sketch) -> Float[Tensor, "k 3"]:
    known = palette_of(sketch.editor, sketch.parameters)
    return torch.cat([known, *(known.new_tensor(placed.path.color)[None] for placed in sketch.new)])


def _best(
    sketch: Sketch, region: Region, alike: list[Region], error: float, owner: Int[np.ndarray, "side side"]
) -> list[Placed] | None:
    """Return the new paths with the best one for a region; None if none is worth its nodes.

    The place is chosen by a plain outline, and then the outline at that place.
    """
    best, found = float("inf"), None

    def try_out(place: Element | None, path: NewPath) -> bool:
        nonlocal best, found
        new = [*sketch.new, Placed(path, place)]
        picture = sketch.picture(new)
        cost = best if picture is None else sketch.error(picture) + NODE * path.nodes + PATH
        better = cost < best
        if better:
            best, found = cost, new
        return better

    chosen: tuple[Element | None, Mask] = (None, region.mask)
    for place, mask in _places(sketch, region, alike, owner):
        outlines = trace(mask, _TRACES[1][0], FINER)
        if outlines.contours and try_out(place, as_path(outlines, sketch.editor.view, region.color)):
            chosen = place, mask
    if best > error + _HOPELESS:
        return None
    for path in _paths(sketch, region, chosen[1]):
        try_out(chosen[0], path)
    if found is None or best >= error:
        return None
    return [*sketch.new, outlined(sketch, found[-1], chosen[1])]


def _paths(sketch: Sketch, region: Region, mask: Mask) -> Iterator[NewPath]:
    """Return outlines of a region, from exact to simple, without and with the drawing's own lines."""
    for shape, lines in _lined(sketch, mask):
        known = set()
        for tolerance, corners in _TRACES:
            outlines = trace(shape, tolerance, FINER, corners)
            if outlines.contours and (outlines.nodes, corners) not in known:
                known.add((outlines.nodes, corners))
                plain = as_path(outlines, sketch.editor.view, region.color)
                yield from (replace(plain, line=own.line, line_below=own.below) if own else plain for own in lines)


def _lined(sketch: Sketch, mask: Mask) -> Iterator[tuple[Mask, list[PlacedLine | None]]]:
    """Return a region, and what is left of it inside of each line, with the lines to draw around them."""
    lines = lines_of(sketch.editor)
    yield mask, [None, *lines]
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    for own in lines:
        inner = depth > own.line.width / 2 * sketch.editor.view[0] * FINER
        if inner.any():
            yield inner, [own]


def _owner(sketch: Sketch) -> Int[np.ndarray, "side side"]:
    """Return which old path is seen where, as fine as regions are."""
    editor = sketch.editor
    view = affine.compose(affine.scaling(FINER, FINER), editor.view)
    scene = without(editor.before.scene, sketch.hidden)
    return owners(scene, sketch.parameters, view, FINER * editor.canvas, editor.backend).cpu().numpy()


def _places(
    sketch: Sketch, region: Region, alike: list[Region], owner: Int[np.ndarray, "side side"]
) -> Iterator[tuple[Element | None, Mask]]:
    """Return where a region's path may be, and its shape there: on top, or below what it touches and going on there.

    Regions of its colour that touch the same on another side may be parts of one thing behind it.
    """
    yield None, region.mask
    if (region.whole ^ region.mask).mean() > NODE:
        yield None, region.whole
    rim = _rim(region.mask)
    touched = Counter(owner[rim & (owner >= 0)].tolist())
    element_of = {slot.path: slot.element for slot in sketch.editor.before.paths}
    last = {shape.path: k for k, shape in enumerate(shapes_of(sketch.editor.before.scene))}
    near = ndimage.distance_transform_edt(~region.mask) <= max(_UNDER * len(owner), 1)
    for path, count in touched.most_common(3):
        if count >= _TOUCHED * rim.sum():
            above = [other for other, k in last.items() if k >= last[path]]
            covered = np.isin(owner, above)
            parts = [other.mask for other in alike if (_rim(other.mask) & (owner == path)).any()]
            if parts:
                whole = np.logical_or.reduce([region.mask, *parts])
                yield element_of[path], whole | (_hull(whole) & covered)
            yield element_of[path], region.mask | (near & covered)


def _rim(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, iterations=FINER) & ~mask)


def _hull(mask: Mask) -> Mask:
    """Return the smallest convex mask around another one."""
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    corners = edge[ConvexHull(edge).vertices]
    rows, columns = np.indices(mask.shape)
    inside = Delaunay(corners).find_simplex(np.stack([rows, columns], -1).reshape(-1, 2)) >= 0
    return np.asarray(inside.reshape(mask.shape))
