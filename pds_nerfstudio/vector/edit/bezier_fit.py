"""Few cubics through many points: least squares, and a split where that is not near enough.

After P. J. Schneider, "An Algorithm for Automatically Fitting Digitized Curves", Graphics Gems, 1990.
"""

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "_ 2"]
Cubic = Float[np.ndarray, "4 2"]

_ROUNDS = 6
"""How often the places of points along a curve are looked up again."""
_THIRD = 1 / 3


def fit_cubics(points: Points, start: Points | None, end: Points | None, tolerance: float) -> list[Cubic]:
    """Return cubics along an open polyline, joined smoothly.

    Args:
        points: In order, at least two, no two in a row alike.
        start: Unit direction (1, 2) in which the first cubic leaves; None where it is free.
        end: Unit direction (1, 2) in which the last one arrives; None where it is free.
        tolerance: Largest distance between a point and the curve. A chord is taken where it is as near as that.
    """
    chord = _chord(points)
    # a smooth join on either side of a straight line would not be one
    if _deviation(points, chord, np.linspace(0, 1, 2 * len(points))) <= tolerance * (1.0 if len(points) > 2 else 2.0):
        if start is None and end is None:
            return [chord]
    first = _direction(points) if start is None else start[0]
    last = _direction(points[::-1]) * -1 if end is None else end[0]
    t = _lengths(points)
    cubic = chord
    for _ in range(_ROUNDS):
        cubic = _least_squares(points, t, first, last)
        error = np.linalg.norm(_at(cubic, t) - points, axis=1)
        if error.max() <= tolerance:
            return [cubic]
        t = _nearer(cubic, points, t)
    if len(points) < 5:
        return [cubic]
    split = int(np.clip(error.argmax(), 2, len(points) - 3))
    around = points[min(split + 2, len(points) - 1)] - points[max(split - 2, 0)]
    along = (around / max(float(np.linalg.norm(around)), 1e-9))[None]
    return [
        *fit_cubics(points[: split + 1], start, along, tolerance),
        *fit_cubics(points[split:], along, end, tolerance),
    ]


def is_straight(cubic: Cubic, tolerance: float) -> bool:
    """Return whether the handles of a cubic are as near as that to its chord, and between its ends."""
    a, b, c, d = cubic
    along = d - a
    length = max(float(np.linalg.norm(along)), 1e-9)
    along = along / length
    across = np.array([-along[1], along[0]])
    places = [(p - a) @ along / length for p in (b, c)]
    return all(abs((p - a) @ across) <= tolerance for p in (b, c)) and all(-0.01 <= s <= 1.01 for s in places)


def line(start: Float[np.ndarray, "2"], end: Float[np.ndarray, "2"]) -> Cubic:
    """Return a straight line as the topology has it: each handle at its end."""
    return np.stack([start, start, end, end])


def _chord(points: Points) -> Cubic:
    return line(points[0], points[-1])


def _lengths(points: Points) -> Float[np.ndarray, "n"]:
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(total / max(float(total[-1]), 1e-12))


def _direction(points: Points) -> Float[np.ndarray, "2"]:
    """Return the unit direction in which a polyline sets out, over a few of its points."""
    ahead = points[min(len(points) - 1, 3)] - points[0]
    return np.asarray(ahead / max(float(np.linalg.norm(ahead)), 1e-9))


def _basis(t: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 4"]:
    s = 1 - t
    return np.stack([s**3, 3 * s * s * t, 3 * s * t * t, t**3], 1)


def _at(cubic: Cubic, t: Float[np.ndarray, "n"]) -> Points:
    return np.asarray(_basis(t) @ cubic)


def _deviation(points: Points, cubic: Cubic, t: Float[np.ndarray, "m"]) -> float:
    """Return the largest distance from a point to the curve, sampled."""
    curve = _at(cubic, t)
    return float(np.linalg.norm(points[:, None] - curve[None], axis=-1).min(1).max())


def _least_squares(
    points: Points, t: Float[np.ndarray, "n"], first: Float[np.ndarray, "2"], last: Float[np.ndarray, "2"]
) -> Cubic:
    """Return the cubic nearest to points at given places, whose handles lie along given directions."""
    a, d = points[0], points[-1]
    basis = _basis(t)
    ends = (basis[:, :2].sum(1))[:, None] * a + (basis[:, 2:].sum(1))[:, None] * d
    left, right = basis[:, 1:2] * first, -basis[:, 2:3] * last
    matrix = np.stack([left.ravel(), right.ravel()], 1)
    (alpha, beta), *_ = np.linalg.lstsq(matrix, (points - ends).ravel(), rcond=None)
    reach = float(np.linalg.norm(d - a))
    low, high = 1e-3 * reach, 2.0 * max(reach, float(np.ptp(points, axis=0).max()))
    if not low < alpha < high or not low < beta < high:
        alpha = beta = _THIRD * reach
    return np.stack([a, a + alpha * first, d - beta * last, d])


def _nearer(cubic: Cubic, points: Points, t: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Return the places of the curve's points that are nearer to the points, by one step of Newton's."""
    first = 3 * np.diff(cubic, axis=0)
    second = 2 * np.diff(first, axis=0)
    s = 1 - t
    off = _at(cubic, t) - points
    slope = np.stack([s * s, 2 * s * t, t * t], 1) @ first
    bend = np.stack([s, t], 1) @ second
    gradient = (off * slope).sum(1)
    curvature = (slope * slope).sum(1) + (off * bend).sum(1)
    step = np.where(np.abs(curvature) > 1e-9, gradient / np.where(np.abs(curvature) > 1e-9, curvature, 1), 0)
    return np.asarray(np.maximum.accumulate(np.clip(t - step, 0, 1)))
