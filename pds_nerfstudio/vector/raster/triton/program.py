"""A scene's plan as tables of integers that the Triton kernels walk through, made once for each scene."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import MAX_SCALE, Affine
from pds_nerfstudio.vector.raster.plan import Draw, Layer, Mask, Plan, draws_of
from pds_nerfstudio.vector.raster.scene import Gradient, Picture, Scene, Solid
from pds_nerfstudio.vector.raster.triton import compositor, gradient

_SPREADS = {
    "pad": gradient.PAD.value,
    "reflect": gradient.REFLECT.value,
    "repeat": gradient.REPEAT.value,
}


@dataclass(frozen=True)
class Program:
    """Tables on one device; their columns are described in the modules of the kernels."""

    bounds: Int[Tensor, " b"]
    """What `layout.bound` starts from, and behind it how many tiles are listed: 0."""
    odd: Int[Tensor, " r"]
    """1 for each region that follows the even-odd rule."""
    segments: Int[Tensor, "s 4"]
    """Rows of points, sorted by region: the segments of fills and clip paths, and the lines that close them."""
    straight: Int[Tensor, " s"]
    """1 for each of them that is a straight line."""
    segment_region: Int[Tensor, " s"]
    """Region of each of them."""
    firsts: Int[Tensor, " r+1"]
    """First segment of each region, and last their number."""
    items: Int[Tensor, "i n"]
    """What to paint, in order; see `compositor.ITEM`."""
    layers: tuple[tuple[int, int], ...]
    """First and last (exclusive) item of each layer, inner ones first; the last is the picture."""
    mask_entries: Int[Tensor, "e 2"]
    """Region of each, and the mask that cuts it or −1."""
    masks: tuple[tuple[int, int, int], ...]
    """First and last (exclusive) entry of each mask and the mask that cuts it or −1, inner ones first."""
    draws: Int[Tensor, "d 7"]
    """What is painted with gradients; see `gradient.DRAW`."""
    stops: Int[Tensor, "t 3"]
    """Rows of offsets, colours and opacities."""
    boxed_segments: Int[Tensor, "k 4"]
    """Segments of the paths whose bounding box a gradient refers to."""
    boxed_owner: Int[Tensor, " k"]
    """Which of those paths each of them belongs to."""
    boxed: int
    """Number of those paths."""

    @property
    def regions(self) -> int:
        """Number of regions."""
        return self.odd.numel()

    @property
    def opacities(self) -> int:
        """How many opacities an item has room for."""
        return self.items.shape[1] - compositor.ITEM.value

    def to(self, device: torch.device) -> "Program":
        """Return the same on a device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)})  # type: ignore[arg-type]


@dataclass
class _Compiler:
    """The rows of the tables so far."""

    items: list[tuple[list[int], tuple[int, ...]]] = field(default_factory=list)
    layers: list[tuple[int, int]] = field(default_factory=list)
    entries: list[list[int]] = field(default_factory=list)
    masks: list[tuple[int, int, int]] = field(default_factory=list)
    mask_rows: dict[int, int] = field(default_factory=dict)
    draws: list[list[int]] = field(default_factory=list)
    stops: list[list[int]] = field(default_factory=list)
    boxes: dict[int, int] = field(default_factory=dict)

    def layer(self, layer: Layer) -> int:
        own = [self.item(item) for item in layer.items]
        first = len(self.items)
        self.items += own
        self.layers.append((first, len(self.items)))
        return len(self.layers) - 1

    def item(self, item: Draw | Layer | Picture) -> tuple[list[int], tuple[int, ...]]:
        assert not isinstance(item, Picture)
        mask = -1 if item.clip is None else self.mask(item.clip)
        if isinstance(item, Layer):
            return [compositor.LAYER.value, self.layer(item), 0, mask], item.opacities
        if isinstance(item.paint, Solid):
            return [compositor.SOLID.value, item.region, item.paint.color, mask], item.opacities
        assert isinstance(item.paint, Gradient)
        self.draw(item.region, item.path, item.paint)
        return [compositor.TEXTURE.value, item.region, 0, mask], item.opacities

    def draw(self, region: int, path: int, paint: Gradient) -> None:
        first = len(self.stops)
        self.stops += [[stop.offset, stop.color, stop.opacity] for stop in paint.stops]
        box = self.boxes.setdefault(path, len(self.boxes)) if paint.bounding_box else -1
        spread = _SPREADS[paint.spread]
        self.draws.append([region, int(paint.radial), spread, paint.geometry, first, len(self.stops), box])

    def mask(self, mask: Mask) -> int:
        if id(mask) not in self.mask_rows:
            own = [[region, -1 if clip is None else self.mask(clip)] for region, clip in mask.regions]
            clip = -1 if mask.clip is None else self.mask(mask.clip)
            first = len(self.entries)
            self.entries += own
            self.masks.append((first, len(self.entries), clip))
            self.mask_rows[id(mask)] = len(self.masks) - 1
        return self.mask_rows[id(mask)]


def make_program(scene: Scene, plan: Plan) -> Program:
    """Compile a scene's plan, on the CPU."""
    compiler = _Compiler()
    compiler.layer(plan.root)
    room = max((len(opacities) for _, opacities in compiler.items), default=0)
    items = [[*head, *opacities, *(-1,) * (room - len(opacities))] for head, opacities in compiler.items]
    width = compositor.ITEM.value + room

    closing = plan.closing[:, [0, 0, 1, 1]]
    segments = torch.cat([scene.topology.segments[plan.filled.segment], closing])
    straight = torch.cat([plan.filled.straight, torch.ones_like(closing[:, 0], dtype=torch.bool)])
    region = torch.cat([plan.filled.region, plan.closing_region])
    order = torch.argsort(region, stable=True)
    firsts = torch.searchsorted(region[order], torch.arange(plan.regions + 1))

    owners = [(s, compiler.boxes[p]) for s, p in enumerate(plan.segment_path.tolist()) if p in compiler.boxes]
    boxed = torch.tensor(owners, dtype=torch.long).reshape(-1, 2)
    return Program(
        bounds=_integers([[2**30, 2**30, 0, 0, 2**30, -(2**30)]] * plan.regions + [[0] * 6], 6).flatten(),
        odd=plan.evenodd.int(),
        segments=segments[order].int(),
        straight=straight[order].int(),
        segment_region=region[order].int(),
        firsts=firsts.int(),
        items=_integers(items, width),
        layers=tuple(compiler.layers),
        mask_entries=_integers(compiler.entries, 2),
        masks=tuple(compiler.masks),
        draws=_integers(compiler.draws, gradient.DRAW.value),
        stops=_integers(compiler.stops, 3),
        boxed_segments=scene.topology.segments[boxed[:, 0]],
        boxed_owner=boxed[:, 1],
        boxed=len(compiler.boxes),
    )


def _integers(rows: list[list[int]], columns: int) -> Int[Tensor, "n columns"]:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, columns)


def canvas_maps(transforms: tuple[Affine, ...], view: Affine) -> Float[Tensor, "r 6"]:
    """Return each region's transform followed by the view, float32 on the CPU; see `affine.compose`."""
    a, b, c, d, e, f = np.array(transforms, dtype=float).reshape(-1, 6).T
    columns = affine.compose(view, (a, b, c, d, e, f))
    # a scale beyond all measure must not turn coordinates into infinities
    maps = np.clip(np.nan_to_num(np.stack(np.broadcast_arrays(*columns), 1)), -MAX_SCALE, MAX_SCALE)
    return torch.from_numpy(maps.astype(np.float32))


def gradient_maps(plan: Plan, view: Affine) -> Float[Tensor, "d 12"]:
    """Return for each gradient, in the order of `Program.draws`, the maps that lead from the canvas to its units."""
    pairs = [
        [affine.compose(view, draw.transform), draw.paint.transform]
        for draw in draws_of(plan.root)
        if isinstance(draw.paint, Gradient)
    ]
    maps = affine.inverse(torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2, 6))
    return maps.float().reshape(-1, gradient.MAPS.value)
