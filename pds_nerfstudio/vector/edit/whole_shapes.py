"""Points of rectangles, circles, ellipses and lines, which move together, so that these stay what they are."""

from collections.abc import Callable, Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.svg.import_record import PathSlot

SHAPES = ("rect", "circle", "ellipse", "line")
"""Tags of shapes that move as wholes."""


class WholeShapes:
    """The affine part of how points of basic shapes move; other points move freely.

    Args:
        points: Where they are.
        paths: Says which points form which shape.
        outlined: Numbers of paths with a stroke. Rectangles with one are turned and stretched, but not slanted, for
            a transform that slants them would slant the stroke.
        level: Numbers of paths that are stretched along their own axes, but neither turned nor slanted.
    """

    def __init__(
        self,
        points: Float[Tensor, "n 2"],
        paths: Sequence[PathSlot],
        outlined: Collection[int],
        level: Collection[int] = (),
    ) -> None:
        basic = [path for path in paths if path.source.tag in SHAPES]
        self._every = _Rows(basic, points)
        self._basis = _joined([_affine_basis(points[rows]) for rows in self._every.of_each], points)
        upright = [
            path for path in basic if path.source.tag == "rect" and path.path in outlined and path.path not in level
        ]
        parts = (_Bound(upright, points, _unslanted), _Bound([p for p in basic if p.path in level], points, _level))
        self._bound = [part for part in parts if part.count]

    def __call__(self, step: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return the nearest step in which shapes move as wholes."""
        every = self._every
        if every.count:
            along = every.products(self._basis, step[every.rows])
            step = step.index_copy(0, every.rows, every.applied(self._basis, along))
        for bound in self._bound:
            step = bound(step)
        return step


Maps = Float[Tensor, "shapes 3 2"]
"""Affine maps, of rows: where the two axes of a shape go, and its middle."""


def _unslanted(maps: Maps) -> Maps:
    """Return about the nearest maps that keep right angles between the axes."""
    along, across = maps[:, 0], maps[:, 1]
    mirrored = (along[:, :1] * across[:, 1:] < along[:, 1:] * across[:, :1]).to(maps) * -2 + 1
    # between where the one side points and where the other does, a right angle back
    middle = along + mirrored * torch.stack([across[:, 1], -across[:, 0]], 1)
    middle = middle / middle.norm(dim=1, keepdim=True).clamp(min=1e-9)
    beside = torch.stack([-middle[:, 1], middle[:, 0]], 1)
    return torch.stack(
        [
            (along * middle).sum(1, keepdim=True) * middle,
            (across * beside).sum(1, keepdim=True) * beside,
            maps[:, 2],
        ],
        1,
    )


def _level(maps: Maps) -> Maps:
    """Return the nearest maps that leave the axes where they point."""
    return maps * maps.new_tensor([[1, 0], [0, 1], [1, 1]])


class _Bound:
    """Some shapes of whose affine maps only a part is allowed.

    Args:
        paths: The shapes.
        points: Where all points are.
        allowed: Takes maps to the nearest that are.
    """

    def __init__(
        self, paths: Sequence[PathSlot], points: Float[Tensor, "n 2"], allowed: Callable[[Maps], Maps]
    ) -> None:
        self._rows, self._allowed, self.count = _Rows(paths, points), allowed, len(paths)
        sources = [_centered(path, points) for path in paths]
        self._source = _joined(sources, points)
        self._inverse = _joined([torch.linalg.pinv(source).T for source in sources], points)
        self._start = points[self._rows.rows]

    def __call__(self, step: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return about the nearest step that is allowed."""
        rows = self._rows.rows
        there = self._placed(self._start + step[rows]) - self._placed(self._start)
        return step.index_copy(0, rows, there)

    def _placed(self, points: Float[Tensor, "m 2"]) -> Float[Tensor, "m 2"]:
        maps = self._allowed(self._rows.products(self._inverse, points))
        return self._rows.applied(self._source, maps)


class _Rows:
    """Rows of the points of some shapes, and sums over those of each."""

    def __init__(self, paths: Sequence[PathSlot], points: Float[Tensor, "n 2"]) -> None:
        counts = [len(path.source.outline.points) for path in paths]
        self.of_each = [slice(path.first, path.first + n) for path, n in zip(paths, counts, strict=True)]
        rows = [row for own in self.of_each for row in range(own.start, own.stop)]
        shape = [number for number, n in enumerate(counts) for _ in range(n)]
        self.count = len(paths)
        self.rows = torch.tensor(rows, dtype=torch.long, device=points.device)
        self._shape = torch.tensor(shape, dtype=torch.long, device=points.device)

    def products(self, columns: Float[Tensor, "m 3"], points: Float[Tensor, "m 2"]) -> Float[Tensor, "shapes 3 2"]:
        """Return for each shape the products of columns with its points."""
        start = points.new_zeros(self.count, 3, 2)
        return start.index_add(0, self._shape, columns[:, :, None] * points[:, None, :])

    def applied(self, columns: Float[Tensor, "m 3"], matrix: Float[Tensor, "shapes 3 2"]) -> Float[Tensor, "m 2"]:
        """Return for each point what its shape's matrix makes of its row of the columns."""
        return (columns[:, :, None] * matrix[self._shape]).sum(1)


def _joined(parts: Sequence[Float[Tensor, "... 3"]], like: Tensor) -> Float[Tensor, "m 3"]:
    return torch.cat([like.new_zeros(0, 3), *parts])


def _centered(path: PathSlot, like: Tensor) -> Float[Tensor, "n 3"]:
    """Return the points of a shape as it was read, from its middle, with a column of ones."""
    points = like.new_tensor(path.source.outline.points)
    return torch.cat([points - points.mean(0), torch.ones_like(points[:, :1])], 1)


def _affine_basis(points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Return orthonormal columns that span what affine maps do to a coordinate of points."""
    from_middle = (points - points.mean(0)).double()
    spread = from_middle.abs().max().clamp(min=1e-9)
    columns = torch.cat([torch.ones_like(from_middle[:, :1]), from_middle / spread], 1)
    left, size, _ = torch.linalg.svd(columns, full_matrices=False)
    basis = points.new_zeros(len(points), 3)
    basis[:, : left.shape[1]] = (left * (size > 1e-6)).to(points)
    return basis
