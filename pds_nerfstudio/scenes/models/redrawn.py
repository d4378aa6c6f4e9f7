"""What a scene is fitted to while an edit is refined: its views, with what the diffusion model has redrawn in them.

The model redraws views at the size it works with, and what it draws has less detail than what it was shown. At full
size a view is its source photograph, with the change that the redrawn one shows, beside the source as the model sees
it, carried back to it (see `carry_back`): detail that the model never saw, or can't draw, stays where the thing does,
and what has not changed is pulled to the photograph, as it was in reconstruction.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from pds_nerfstudio.carry_back import compose, shares
from pds_nerfstudio.scenes.views import Part, SourceViews

_KEPT = 3, 3, 1, 1, 1
"""Channels of what is kept of a view: redrawn, as the model sees its source, shares taken and detail of `compose`, the
data set's mask."""
_DIFFERS = 0.02
"""Change, of 0..1, of a pixel that has changed. What counts as taken reaches some pixels over the edge of a change."""


@dataclass(frozen=True)
class Tile:
    """A part of a view at full size, or all of it."""

    camera: Cameras
    """Of the whole view, batched as one."""
    size: tuple[int, int]
    """Height and width of the whole view."""
    part: Part
    """Of the whole view."""
    target: Float[Tensor, "height width 3"]
    """What the part is to look like, in 0..1."""
    shown: Float[Tensor, "height width 1"]
    """How much of each pixel the data set's mask shows, in 0..1: of what it hides, nothing is asked."""

    @property
    def share(self) -> float:
        """Of the view's pixels."""
        return self.target[..., 0].numel() / (self.size[0] * self.size[1])


class RedrawnViews:
    """Redrawn views by their numbers, in bytes on the cameras' device.

    Args:
        views: The source views.
    """

    def __init__(self, views: SourceViews) -> None:
        self._views = views
        cameras = views.view_cameras
        sizes = torch.cat([cameras.height, cameras.width], dim=1)
        starts = torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)])
        self._sizes, self._starts = sizes, starts[:-1]
        fine = views.fine_cameras
        self._most_on_host: list[list[int]] = torch.cat([fine.height, fine.width], dim=1).tolist()
        self._starts_on_host: list[int] = starts.tolist()
        full = views.full_size_cameras
        self._full_sizes = torch.cat([full.height, full.width], dim=1)
        self._full_sizes_on_host = self._full_sizes.cpu()
        self._kept: Tensor | None = None  # of all views, row by row; made when the first comes
        self._redrawn: dict[int, None] = {}
        self._seen: set[int] = set()  # of whose sources is kept how the model sees them

    def __contains__(self, index: int) -> bool:
        return index in self._redrawn

    def __setitem__(self, index: int, picture: Float[Tensor, "height width 3"]) -> None:
        """Keep a redrawn view; numbers outside 0..1 are clamped."""
        self._keep(index, _to_bytes(picture))

    def see(self, index: int, source: Float[Tensor, "height width 3"]) -> None:
        """Keep how the model sees the source of a view that is not redrawn yet, if not as it is."""
        self._see(index, _to_bytes(source))

    def _see(self, index: int, pixels: UInt8[Tensor, "pixels 3"]) -> None:
        self._rows(index)[:, 3:6] = pixels.to(self._sizes.device)
        self._seen.add(index)

    def seen(self, index: int) -> Float[Tensor, "height width 3"] | None:
        """Return how the model sees the source of a view, if that was kept."""
        return self._picture(index, self._rows(index)[:, 3:6]) if index in self._seen else None

    def _rows(self, index: int) -> UInt8[Tensor, "pixels channels"]:
        """Return where the pixels of a view are kept."""
        if self._kept is None:
            self._kept = torch.zeros(self._starts_on_host[-1], sum(_KEPT), dtype=torch.uint8, device=self._sizes.device)
        return self._kept[slice(*self._starts_on_host[index : index + 2])]

    def _picture(self, index: int, pixels: UInt8[Tensor, "pixels 3"]) -> Float[Tensor, "height width 3"]:
        return pixels.to(self._sizes.device).reshape(*self._views[index].image.shape[-2:], 3).float() / 255

    def _keep(self, index: int, pixels: UInt8[Tensor, "pixels 3"]) -> None:
        # Of what is kept, and not of what was given: a resumed run has nothing else.
        view = self._views[index]
        source, mask = view.image, torch.ones_like(view.image[:, :1]) if view.mask is None else view.mask
        seen, redrawn = self.seen(index), self._picture(index, pixels)
        before = source if seen is None else seen.permute(2, 0, 1)[None].to(source)
        after = redrawn.permute(2, 0, 1)[None].to(source)
        of_view = torch.cat([after, before, *shares(before, after), mask], dim=1)[0]
        self._rows(index)[:] = (of_view * 255).round().to(torch.uint8).flatten(1).T
        self._redrawn[index] = None

    def __len__(self) -> int:
        return len(self._redrawn)

    def picture(self, index: int) -> Float[Tensor, "height width 3"]:
        """Return a redrawn view at the guidance's size, in 0..1, with the detail of its source that stays."""
        after, before, taken, detail, _ = self._of_view(index)
        return compose(self._views[index].image[0].permute(1, 2, 0).to(after), before, after, taken, detail)

    def changed(self, index: int) -> Bool[Tensor, "height width"]:
        """Return where a redrawn view differs from its source, at the guidance's size: a pixel, and around it."""
        after, before, taken, *_ = self._of_view(index)
        return (taken[..., 0] > 0.5) & ((after - before).abs().amax(-1) > _DIFFERS)

    def _of_view(self, index: int) -> tuple[Float[Tensor, "height width _"], ...]:
        """Return what is kept of a view, by its channels."""
        pixels = self._rows(index).float().unflatten(0, self._sizes[index].tolist()) / 255
        return pixels.split(_KEPT, dim=-1)

    def state_dict(self) -> dict[int, UInt8[Tensor, "pixels channels"]]:
        """Return all redrawn views in bytes, row by row, by their numbers, and beside them their sources as seen."""
        channels = {index: 6 if index in self._seen else 3 for index in self._redrawn}
        return {index: self._rows(index)[:, :n].to("cpu", copy=True) for index, n in channels.items()}

    def load_state_dict(self, state: dict[int, UInt8[Tensor, "pixels channels"]]) -> None:
        """Keep the redrawn views of a state, and no others."""
        self.clear()
        for index, pixels in state.items():
            if pixels.shape[1] > 3:
                self._see(index, pixels[:, 3:])
            self._keep(index, pixels[:, :3])

    def clear(self) -> None:
        """Forget all redrawn views."""
        self._redrawn.clear()
        self._seen.clear()

    def tile(self, index: int, turn: int) -> Tile:
        """Return a part of a redrawn view at full size, of as many pixels as a step may render at most.

        The parts cover the view, and come one after another in an order that depends on nothing else but the view.

        Args:
            index: Of the view.
            turn: How often its turn has come before.

        Raises:
            KeyError: If that view hasn't been redrawn.
        """
        if index not in self._redrawn:
            raise KeyError(index)
        size = self._views.full_size(index)
        parts = [Part(*both) for both in itertools.product(*map(_parts, size, self._most_on_host[index]))]
        random.Random(f"{index}/{turn // len(parts)}").shuffle(parts)
        part = parts[turn % len(parts)]
        return Tile(self._views.full_size_camera(index), size, part, *self._composed(index, part))

    def _composed(
        self, index: int, part: Part
    ) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width 1"]]:
        source = self._views.full_size_image(index, part.rows, part.columns)
        y, x = (torch.arange(side.start, side.stop, device=source.device) for side in (part.rows, part.columns))
        places = torch.cartesian_prod(y, x)
        views = torch.full_like(places[:, 0], index)
        *changes, shown = self._enlarged(views, places)
        target = compose(source.reshape(-1, 3), *changes)
        return target.reshape(source.shape), shown.reshape(*source.shape[:2], 1)

    def sample(self, n: int) -> tuple[RayBundle, Float[Tensor, "n 3"], Float[Tensor, "n 1"]]:
        """Return rays through random pixels of full-size views that were redrawn, each view alike.

        With them come their colours and how much of each the data set's mask shows.

        Args:
            n: How many.
        """
        # On the CPU, where the source images may be: nobody waits for a GPU to say which pixels these are.
        views = torch.tensor([*self._redrawn])[torch.randint(len(self._redrawn), (n,))]
        rows, columns = ((torch.rand(n) * sides[views]).long() for sides in self._full_sizes_on_host.T)
        source = self._views.full_size_pixels(views, rows, columns)
        on_device = self._views.to_device(torch.stack([views, rows, columns]))
        views, places = on_device[0], on_device[1:].T
        *changes, shown = self._enlarged(views, places)
        colors, through = compose(source, *changes), places + 0.5  # the pixels' centres
        return self._views.full_size_cameras.generate_rays(camera_indices=views[:, None], coords=through), colors, shown

    def _enlarged(self, views: Int[Tensor, " n"], places: Int[Tensor, "n 2"]) -> list[Float[Tensor, "n _"]]:
        """Return what `compose` wants beside pixels of full-size views, and how much of each the data set's mask shows.

        That is bilinear, from what is kept of the views.

        Args:
            views: Of each pixel.
            places: Row and column of each.
        """
        kept = self._kept
        assert kept is not None
        sizes = self._sizes[views]
        position = ((places + 0.5) * (sizes / self._full_sizes[views]) - 0.5).clamp_min(0)
        first = position.long()
        second, weight = torch.minimum(first + 1, sizes - 1), position - first

        def row(y: Int[Tensor, " n"]) -> Float[Tensor, "n channels"]:
            start = self._starts[views] + y * sizes[:, 1]
            left, right = (kept[start + x].float() for x in (first[:, 1], second[:, 1]))
            return torch.lerp(left, right, weight[:, 1:])

        enlarged = torch.lerp(row(first[:, 0]), row(second[:, 0]), weight[:, :1]) / 255
        after, before, *others = enlarged.split(_KEPT, dim=1)
        return [before, after, *others]


def _to_bytes(picture: Float[Tensor, "height width 3"]) -> UInt8[Tensor, "pixels 3"]:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3)


def _parts(side: int, most: int) -> list[slice]:
    """Return parts of a side, evenly spaced, which cover it; each has `most` pixels, or the side is no longer."""
    n = -(-side // most)
    starts = [round(k * (side - most) / (n - 1)) for k in range(n)] if n > 1 else [0]
    return [slice(start, start + min(side, most)) for start in starts]
