"""Points of rectangles, circles, ellipses and lines, which move together, so that these stay what they are."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.vector.svg.import_record import PathSlot

SHAPES = ("rect", "circle", "ellipse", "line")


class WholeShapes:
    """The affine part of how points of basic shapes move; other points move freely.

    Args:
        points: Where they are.
        paths: Says which points form which shape.
    """

    def __init__(self, points: Float[Tensor, "n 2"], paths: Sequence[PathSlot]) -> None:
        basic = [path for path in paths if path.source.tag in SHAPES]
        where = [torch.arange(p.first, p.first + len(p.source.outline.points)) for p in basic]
        self._rows = torch.cat([torch.zeros(0, dtype=torch.long), *where]).to(points.device)
        shape = torch.repeat_interleave(torch.arange(len(where)), torch.tensor([len(w) for w in where]).long())
        self._shape, self._count = shape.to(points.device), len(where)
        self._basis = torch.cat([points.new_zeros(0, 3), *(_affine_basis(points[w.to(points.device)]) for w in where)])

    def __call__(self, step: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Return the nearest step in which shapes move as wholes."""
        if not self._count:
            return step
        products = self._basis[:, :, None] * step[self._rows][:, None, :]
        along = step.new_zeros(self._count, 3, 2).index_add(0, self._shape, products)
        whole = (self._basis[:, :, None] * along[self._shape]).sum(1)
        return step.index_copy(0, self._rows, whole)


def _affine_basis(points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Return orthonormal columns that span what affine maps do to a coordinate of points."""
    from_middle = (points - points.mean(0)).double()
    spread = from_middle.abs().max().clamp(min=1e-9)
    columns = torch.cat([torch.ones_like(from_middle[:, :1]), from_middle / spread], 1)
    left, size, _ = torch.linalg.svd(columns, full_matrices=False)
    basis = points.new_zeros(len(points), 3)
    basis[:, : left.shape[1]] = (left * (size > 1e-6)).to(points)
    return basis
