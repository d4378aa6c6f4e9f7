"""From the shape of a region to the outline of a path: corners as corners, straight lines as such, few curves."""

from dataclasses import dataclass
from itertools import pairwise

import contourpy
import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage

from pds_nerfstudio.vector.edit.bezier_fit import Cubic, Points, fit_cubics, is_straight, line
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.svg.insertion import NewPath

_BLUR = 0.4
"""Spread of the blur that takes the steps of pixels off an edge, in pixels of the result."""
_SPACING = 0.5
"""Pixels between two points of a contour that curves are fit to."""
_REACH = 3.0
"""Pixels before and after a point whose directions are compared there, at most."""
_TURN = 18.0
"""The same as a share of the way around: so many of it make a turn, and small round things have no corners."""
_CORNER = 40.0
"""Degrees by which the direction turns at a corner."""
_FINEST = 0.02
"""Largest tolerance as a share of the way around."""
_SHORTEST = 6.0
"""Pixels around the smallest outline that there is."""


@dataclass(frozen=True)
class Outlines:
    """Closed outlines: of a region, and of its holes the other way round."""

    contours: tuple[tuple[Cubic, ...], ...]
    """Each a ring of cubics; a straight line has its handles at its ends."""

    @property
    def nodes(self) -> int:
        """Return how many points a designer sees: the ends of its cubics."""
        return sum(len(contour) for contour in self.contours)


def trace(region: Bool[np.ndarray, "h w"], tolerance: float, scale: int = 1, corners: bool = True) -> Outlines:
    """Return the outline of a region.

    Args:
        region: What is in it.
        tolerance: Largest distance between the edge of the region and the outline, in pixels of the result.
        scale: Pixels of the region on each side of a pixel of the result.
        corners: Whether to look for corners; otherwise all is round.

    Returns:
        In pixels; the centre of the first is (0.5, 0.5). No contours where the region is too small.
    """
    padded = ndimage.gaussian_filter(np.pad(region.astype(np.float64), 2), _BLUR * scale)
    generator = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.ChunkCombinedOffset)
    (points,), (ends,) = generator.filled(0.5, np.inf)[:2]
    contours = []
    for first, last in pairwise([] if points is None or ends is None else ends):
        assert points is not None
        ring = _evenly((np.asarray(points[first : last - 1], dtype=np.float64) - 1.5) / scale)
        if ring is not None:
            contours.append(tuple(_outline(ring, tolerance, corners)))
    return Outlines(tuple(c for c in contours if len(c) > 1))


def _evenly(ring: Points) -> Points | None:
    """Return a closed polyline's points in even steps; None if it is too short to be one."""
    closed = np.concatenate([ring, ring[:1]])
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    if lengths[-1] < _SHORTEST:
        return None
    count = max(int(lengths[-1] / _SPACING), 12)
    at = np.linspace(0, lengths[-1], count, endpoint=False)
    return np.stack([np.interp(at, lengths, closed[:, k]) for k in range(2)], 1)


def _outline(ring: Points, tolerance: float, sharp: bool) -> list[Cubic]:
    tolerance = min(tolerance, _FINEST * len(ring) * _SPACING)
    smooth = ndimage.gaussian_filter1d(ring, 1.0, axis=0, mode="wrap")
    corners = _corners(smooth) if sharp else []
    if not corners:
        # a curve without a corner begins where it is straightest, and goes on there as it came
        start = int(np.abs(_turns(smooth)).argmin())
        loop = np.roll(smooth, -start, axis=0)
        along = loop[1] - loop[-1]
        along = (along / max(float(np.linalg.norm(along)), 1e-9))[None]
        half = len(loop) // 2
        across = loop[half + 1] - loop[half - 1]
        across = (across / max(float(np.linalg.norm(across)), 1e-9))[None]
        closed = np.concatenate([loop, loop[:1]])
        return [
            *fit_cubics(closed[: half + 1], along, across, tolerance),
            *fit_cubics(closed[half:], across, along, tolerance),
        ]
    pieces = []
    for first, last in zip(corners, [*corners[1:], corners[0] + len(ring)], strict=True):
        pieces.append(ring[np.arange(first, last + 1) % len(ring)])
    return _joined([_side(piece, tolerance) for piece in pieces], pieces)


def _side(piece: Points, tolerance: float) -> list[Cubic]:
    """Return the cubics between two corners, whose rounding by the pixels is not followed."""
    cut = min(2, (len(piece) - 3) // 2)
    inner = piece[cut : len(piece) - cut] if cut > 0 else piece
    cubics = fit_cubics(inner, None, None, tolerance)
    return [line(c[0], c[3]) if is_straight(c, tolerance / 2) else c for c in cubics]


def _joined(sides: list[list[Cubic]], pieces: list[Points]) -> list[Cubic]:
    """Return the sides, each led on to where it meets the next."""
    for k, side in enumerate(sides):
        following = sides[(k + 1) % len(sides)]
        corner = pieces[k][-1]
        meeting = _meeting(side[-1], following[0], corner)
        side[-1], following[0] = _ending_at(side[-1], meeting), _beginning_at(following[0], meeting)
    return [cubic for side in sides for cubic in side]


def _meeting(before: Cubic, after: Cubic, corner: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """Return where two curves, led on straight, meet: near the corner, or the corner itself."""
    a, b = before[3], after[0]
    u, v = _leaving(before), -_leaving(after[::-1])
    cross = u[0] * v[1] - u[1] * v[0]
    if abs(cross) < 0.3:
        return corner
    offset = b - a
    meeting = a + u * (offset[0] * v[1] - offset[1] * v[0]) / cross
    return meeting if np.linalg.norm(meeting - corner) < 2.5 else corner


def _leaving(cubic: Cubic) -> Float[np.ndarray, "2"]:
    """Return the unit direction in which a cubic ends."""
    for k in (2, 1, 0):
        way = cubic[3] - cubic[k]
        if np.linalg.norm(way) > 1e-6:
            return np.asarray(way / np.linalg.norm(way))
    return np.array([1.0, 0.0])


def _ending_at(cubic: Cubic, end: Float[np.ndarray, "2"]) -> Cubic:
    if np.array_equal(cubic[2], cubic[3]):
        return line(cubic[0], end)
    return np.stack([cubic[0], cubic[1], cubic[2] + end - cubic[3], end])


def _beginning_at(cubic: Cubic, start: Float[np.ndarray, "2"]) -> Cubic:
    return _ending_at(cubic[::-1], start)[::-1]


def _reach(ring: Points) -> int:
    return max(int(min(_REACH / _SPACING, len(ring) / _TURN)), 1)


def _turns(ring: Points) -> Float[np.ndarray, "n"]:
    """Return by how many degrees the direction turns around each point."""
    reach = _reach(ring)
    gap = max(reach // 3, 1)
    before = np.roll(ring, gap, axis=0) - np.roll(ring, gap + reach, axis=0)
    after = np.roll(ring, -gap - reach, axis=0) - np.roll(ring, -gap, axis=0)
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.asarray(np.degrees(np.arctan2(cross, (before * after).sum(1))))


def _corners(ring: Points) -> list[int]:
    """Return the points at which the direction turns at once, in order."""
    turns, reach = np.abs(_turns(ring)), _reach(ring)
    highest = ndimage.maximum_filter1d(turns, 2 * reach - 1, mode="wrap")
    found = np.flatnonzero((turns >= highest) & (turns > _CORNER))
    # of neighbours that turn alike the first stands for all
    apart = [int(k) for n, k in enumerate(found) if n == 0 or k - found[n - 1] > reach // 2]
    if len(apart) > 1 and apart[0] + len(ring) - apart[-1] <= reach // 2:
        apart.pop()
    return apart


def as_path(outlines: Outlines, view: Affine, color: tuple[float, float, float]) -> NewPath:
    """Return outlines on a canvas as a path in the drawing's units.

    Args:
        outlines: In pixels of the canvas.
        view: From the drawing's units to the canvas.
        color: Of the path, sRGB in 0..1.
    """
    rows, points = list[tuple[tuple[int, int, int, int], ...]](), list[np.ndarray]()
    for contour in outlines.contours:
        segments, first = [], len(points)
        for k, cubic in enumerate(contour):
            start = len(points)
            straight = np.array_equal(cubic[0], cubic[1]) and np.array_equal(cubic[2], cubic[3])
            points.extend(cubic[:1] if straight else cubic[:3])
            end = first if k + 1 == len(contour) else len(points)
            segments.append((start, start, end, end) if straight else (start, start + 1, start + 2, end))
        rows.append(tuple(segments))
    inverse = affine.inverse(torch.tensor(view, dtype=torch.float64))
    placed = torch.from_numpy(np.stack(points)) @ inverse[:4].reshape(2, 2) + inverse[4:]
    return NewPath(placed.float(), tuple(rows), color)
