"""What a file holds of a splat's Gaussians, and the same Gaussians in other coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.files.harmonics import turned_harmonics

_ORTHOGONAL = 1e-3
"""How far a matrix may be from one that turns and scales evenly."""


@dataclass(frozen=True)
class Similarity:
    """A map that keeps shapes: p ↦ size · turn · p + shift. A turn may also mirror."""

    turn: Float[Tensor, "3 3"]
    """Orthogonal."""
    size: float
    """Positive."""
    shift: Float[Tensor, "3"]
    """Of the origin, which it takes there."""

    @classmethod
    def of_data_parser(cls, transform: Float[Tensor, "3 4"], scale: float) -> Similarity:
        """Return the map from a data set's own coordinates into those that nerfstudio trains in.

        Args:
            transform: The data parser's `dataparser_transform`, which acts first.
            scale: Its `dataparser_scale`.

        Raises:
            UserError: If it squeezes the scene.
        """
        matrix = transform[:, :3].double().cpu()
        size = float(matrix.det().abs() ** (1 / 3))
        turn = matrix / max(size, 1e-12)
        if not torch.allclose(turn @ turn.T, torch.eye(3, dtype=turn.dtype), atol=_ORTHOGONAL):
            raise UserError(
                "The data parser squeezes the scene (its applied_transform does not keep shapes), which no splat can "
                "follow: mend applied_transform in transforms.json, or give --ply-coordinates scene."
            )
        return cls(turn, size * scale, transform[:, 3].double().cpu() * scale)

    def inverse(self) -> Similarity:
        """Return the map back."""
        back = self.turn.double().T
        return Similarity(back, 1 / self.size, -(back @ self.shift.double()) / self.size)


@dataclass(frozen=True)
class Splats:
    """The Gaussians of a splat, as Kerbl et al., 3D Gaussian Splatting, 2023, store them. All on the CPU, float32."""

    means: Float[Tensor, "n 3"]
    """Centres."""
    scales: Float[Tensor, "n 3"]
    """Logarithms of the standard deviations along the Gaussians' axes."""
    quats: Float[Tensor, "n 4"]
    """Rotations (w, x, y, z), of any non-zero length."""
    opacities: Float[Tensor, " n"]
    """Logits of the peak opacities."""
    base: Float[Tensor, "n 3"]
    """Coefficients of degree 0 of the colours."""
    rest: Float[Tensor, "n K 3"]
    """Coefficients of the other degrees; K is 0, 3, 8 or 15."""

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, which: Tensor) -> Splats:
        return Splats(**{name: values[which] for name, values in vars(self).items()})

    @property
    def whole(self) -> Bool[Tensor, " n"]:
        """Which Gaussians hold nothing but finite numbers."""
        return torch.stack([values.isfinite().flatten(1).all(1) for values in self._columns()]).all(0)

    def _columns(self) -> list[Tensor]:
        return [self.means, self.scales, self.quats, self.opacities[:, None], self.base, self.rest]

    def moved(self, move: Similarity) -> Splats:
        """Return the splat in other coordinates: a camera that is moved with it sees the same picture.

        A Gaussian is the same on both sides of its centre: where the map mirrors, −turn rotates it as well as turn.
        """
        turn = move.turn.double()
        rotation = _quaternion(turn * turn.det().sign())
        return replace(
            self,
            means=(move.size * self.means.double() @ turn.T + move.shift.double()).float(),
            scales=self.scales + float(torch.tensor(move.size).log()),
            quats=_product(rotation.to(self.quats), self.quats),
            rest=turned_harmonics(self.rest, turn),
        )

    def columns(self) -> Mapping[str, Float[Tensor, " n"]]:
        """Return what a .ply file holds of each Gaussian, in the order and with the names of Kerbl et al., 2023."""
        n = len(self)
        return {
            **dict(zip(("x", "y", "z"), self.means.T, strict=True)),
            **dict.fromkeys(("nx", "ny", "nz"), torch.zeros(n)),
            **{f"f_dc_{i}": column for i, column in enumerate(self.base.T)},
            **{f"f_rest_{i}": column for i, column in enumerate(self.rest.transpose(1, 2).reshape(n, -1).T)},
            "opacity": self.opacities,
            **{f"scale_{i}": column for i, column in enumerate(self.scales.T)},
            **{f"rot_{i}": column for i, column in enumerate(self.quats.T)},
        }

    @classmethod
    def of_columns(cls, columns: Mapping[str, Float[Tensor, " n"]]) -> Splats:
        """Return the splat that has these columns; harmonics have all coefficients of one channel together."""

        def together(prefix: str, count: int) -> Tensor:
            return torch.stack([columns[f"{prefix}{i}"].detach().float().cpu() for i in range(count)], -1)

        count = sum(name.startswith("f_rest_") for name in columns)
        means = torch.stack([columns[axis].detach().float().cpu() for axis in "xyz"], -1)
        rest = together("f_rest_", count).reshape(-1, 3, count // 3).transpose(1, 2) if count else means[:, None][:, :0]
        return cls(
            means=means,
            scales=together("scale_", 3),
            quats=together("rot_", 4),
            opacities=columns["opacity"].detach().float().cpu(),
            base=together("f_dc_", 3),
            rest=rest.contiguous(),
        )


def _quaternion(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "4"]:
    """Return the quaternion (w, x, y, z) of a rotation (Bar-Itzhack, J. Guidance 23, 2000: the eigenvector of K)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    k = torch.tensor(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ],
        dtype=torch.float64,
    )
    return torch.linalg.eigh(k).eigenvectors[:, -1]


def _product(a: Float[Tensor, "4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Return the quaternions that rotate as `b` does, and then as `a` does."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )
