"""Points of rectangles, circles, ellipses and lines, which move together, so that these stay what they are."""

from collections.abc import Collection, Sequence

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
    """

    def __init__(self, points: Float[Tensor, "n 2"], paths: Sequence[PathSlot], outlined: Collection[int]) -> None:
        basic = [path for path in paths if path.source.tag in SHAPES]
        self._every = _Rows(basic, points)
        self._basis = _joined([_affine_basis(points[rows]) for rows in self._every.of_each], points)
        upright = [path for path in basic if path.source.tag == "rect" and path.path in outlined]
        self._upright = _Rows(upright, points)
        sources = [_centered(path, points) for path in upright]
        self._source = _joined(sources, points)
        self._inverse = _joined([torch.linalg.pinv(source).T for source in sources], points)
        self._start = points[self._upright.rows]

    def __call__(self, step: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return the nearest step in which shapes move as wholes."""
        every, upright = self._every, self._upright
        if every.count:
            along = every.products(self._basis, step[every.rows])
            step = step.index_copy(0, every.rows, every.applied(self._basis, along))
        if upright.count:
            there = self._straight(self._start + step[upright.rows]) - self._straight(self._start)
            step = step.index_copy(0, upright.rows, there)
        return step

    def _straight(self, points: Float[Tensor, "m 2"]) -> Float[Tensor, "m 2"]:
        """Return about the nearest places of the points of rectangles for these not to be slanted."""
        matrix = self._upright.products(self._inverse, points)
        along, across = matrix[:, 0], matrix[:, 1]
        mirrored = (along[:, :1] * across[:, 1:] < along[:, 1:] * across[:, :1]).to(points) * -2 + 1
        # between where the one side points and where the other does, a right angle back
        middle = along + mirrored * torch.stack([across[:, 1], -across[:, 0]], 1)
        middle = middle / middle.norm(dim=1, keepdim=True).clamp(min=1e-9)
        beside = torch.stack([-middle[:, 1], middle[:, 0]], 1)
        straight = torch.stack(
            [
                (along * middle).sum(1, keepdim=True) * middle,
                (across * beside).sum(1, keepdim=True) * beside,
                matrix[:, 2],
            ],
            1,
        )
        return self._upright.applied(self._source, straight)


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
