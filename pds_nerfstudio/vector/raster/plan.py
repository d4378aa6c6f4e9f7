"""A scene sorted for the rasteriser, once: the regions to cover, and the order in which to paint them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.filter_graph import Filter
from pds_nerfstudio.vector.raster.scene import Clip, Effects, Fill, Group, Paint, Pattern, Picture, Scene, Shape, Stroke


@dataclass(frozen=True)
class Draw:
    """One region painted over what is below."""

    region: int
    """Number of the region."""
    path: int
    """Path that it is the fill or stroke of."""
    transform: Affine
    """From the path's units to the drawing's."""
    paint: Paint
    """What it is painted with."""
    opacities: tuple[int, ...]
    """Rows of `opacities` whose product is its own."""
    clip: "Mask | None"
    """What cuts it, if anything."""


@dataclass(frozen=True)
class Layer:
    """What is painted apart, and then laid over what is below as one picture."""

    items: tuple["Draw | Layer | Picture", ...]
    """What it is made of, lowest first."""
    opacities: tuple[int, ...] = ()
    """Rows of `opacities` whose product is that of the whole."""
    clip: "Mask | None" = None
    """What cuts it, if anything."""
    filters: tuple[Filter, ...] = ()
    """What changes it before that, one after the other."""
    masks: tuple["Veil", ...] = ()
    """What says how much of it shows, after the clip."""
    blend: str = "normal"
    """How it mixes with what is below; one of `BLEND_MODES`."""

    @property
    def is_bare(self) -> bool:
        """Whether nothing happens to it as a whole."""
        return not (self.opacities or self.clip or self.filters or self.masks) and self.blend == "normal"

    @property
    def blends(self) -> bool:
        """Whether something in it mixes with what is below that."""
        return any(isinstance(item, Layer) and item.blend != "normal" for item in self.items)


@dataclass(frozen=True)
class Veil:
    """What a mask draws."""

    content: Layer
    """The picture."""
    region: "Mask | None"
    """Outside of which nothing shows, if anything."""
    alpha: bool
    """Whether its opacity counts alone, and not how light it is."""
    linear: bool
    """Whether its light is measured in linear RGB."""


@dataclass(frozen=True)
class Mask:
    """The union of some regions, each with its own mask, cut by a further mask."""

    regions: tuple[tuple[int, "Mask | None"], ...]
    """Regions, and what cuts each of them."""
    clip: "Mask | None"
    """What cuts the union, if anything."""


@dataclass(frozen=True)
class Segments:
    """Segments to flatten, those of one region after another, one instance of a contour after another."""

    segment: Int[Tensor, " s"]
    """Row of the topology's segments."""
    region: Int[Tensor, " s"]
    """Region of each."""
    instance: Int[Tensor, " s"]
    """Instance of a contour, ascending: the same contour counts anew in each region."""
    straight: Bool[Tensor, " s"]
    """Straight lines, which need no flattening."""
    instance_region: Int[Tensor, " i"]
    """Region of each instance."""
    instance_closed: Bool[Tensor, " i"]
    """Whether each instance is closed."""


@dataclass(frozen=True)
class Plan:
    """Index tensors and paint order."""

    root: Layer
    """The picture: what to paint, in order."""
    transforms: tuple[Affine, ...]
    """From the units of its path to the drawing's, for each region."""
    evenodd: Bool[Tensor, " r"]
    """Regions that follow the even-odd rule."""
    strokes: dict[int, Stroke]
    """The regions that are strokes."""
    segments: Int[Tensor, "s 4"]
    """The topology's segments."""
    segment_path: Int[Tensor, " s"]
    """Path of each of them."""
    filled: Segments
    """Segments of fills and clip paths."""
    stroked: Segments
    """Segments of strokes."""
    stroke_regions: tuple[int, ...]
    """Region of each instance of a contour that is stroked."""
    pens: Int[Tensor, "i 3"]
    """For each of these instances the row of its width, its join and its cap."""
    miter_limits: Float[Tensor, " i"]
    """The miter limit of each of them."""
    closing: Int[Tensor, "k 2"]
    """Rows of `points` from which and to which a straight line closes an open contour of a filled region."""
    closing_region: Int[Tensor, " k"]
    """Region of each of these lines."""
    patterns: tuple[Pattern, ...]
    """What is repeated to paint with."""
    filter_chains: tuple[tuple[Filter, ...], ...]
    """The filters that lie in one another, once each."""

    @property
    def regions(self) -> int:
        """Number of regions."""
        return len(self.transforms)

    @property
    def dashed(self) -> bool:
        """Whether any stroke is cut into dashes."""
        return any(stroke.dashes for stroke in self.strokes.values())


@dataclass
class _Planner:
    """The regions of a scene, numbered, and its paint order so far."""

    scene: Scene
    transforms: list[Affine] = field(default_factory=list)
    paths: list[int] = field(default_factory=list)
    evenodd: list[bool] = field(default_factory=list)
    strokes: dict[int, Stroke] = field(default_factory=dict)
    masks: dict[int, Mask] = field(default_factory=dict)

    def region(self, path: int, transform: Affine, evenodd: bool = False, stroke: Stroke | None = None) -> int:
        number = len(self.transforms)
        self.transforms.append(transform)
        self.paths.append(path)
        self.evenodd.append(evenodd)
        if stroke is not None:
            self.strokes[number] = stroke
        return number

    def layer(self, group: Group) -> Layer:
        items: list[Draw | Layer | Picture] = []
        for child in group.children:
            if isinstance(child, Picture):
                items.append(child)
                continue
            inner = self.layer(child) if isinstance(child, Group) else self.shape(child)
            items.extend(_unwrapped(inner))
        effects = group.effects or Effects()
        masks = tuple(
            Veil(self.layer(mask.content), self.mask(mask.region), mask.alpha, mask.linear) for mask in effects.masks
        )
        layer = Layer(tuple(items), group.opacities, self.mask(group.clip), effects.filters, masks, effects.blend)
        if effects.isolated and layer.blends and layer.is_bare:
            return Layer((layer,))
        return layer

    def shape(self, shape: Shape) -> Layer:
        parts: list[Fill | Stroke | None] = [shape.fill, shape.stroke]
        if shape.stroke_first:
            parts.reverse()
        items: list[Draw | Layer | Picture] = []
        for part in parts:
            if part is None:
                continue
            stroke = part if isinstance(part, Stroke) else None
            evenodd = part.evenodd if isinstance(part, Fill) else False
            region = self.region(shape.path, shape.transform, evenodd, stroke)
            items.append(Draw(region, shape.path, shape.transform, part.paint, part.opacities, None))
        return Layer(tuple(items), shape.opacities, self.mask(shape.clip))

    def mask(self, clip: Clip | None) -> Mask | None:
        if clip is None:
            return None
        if id(clip) not in self.masks:
            regions = tuple((self.region(s.path, s.transform, s.evenodd), self.mask(s.clip)) for s in clip.shapes)
            self.masks[id(clip)] = Mask(regions, self.mask(clip.clip))
        return self.masks[id(clip)]


def _unwrapped(layer: Layer) -> Iterable[Draw | Layer | Picture]:
    """Return the items of a layer that needs no picture of its own, else the layer.

    Opacity and clip of a layer with a single draw may as well be that draw's own.
    """
    if not layer.items and not layer.filters:
        return ()
    if layer.is_bare:
        return layer.items
    if layer.filters or layer.masks or layer.blend != "normal":
        return (layer,)
    only = layer.items[0]
    if len(layer.items) == 1 and isinstance(only, Draw) and (only.clip is None or layer.clip is None):
        clip = layer.clip if only.clip is None else only.clip
        return (Draw(only.region, only.path, only.transform, only.paint, only.opacities + layer.opacities, clip),)
    return (layer,)


def make_plan(scene: Scene) -> Plan:
    """Sort a scene's tree into regions and their paint order."""
    planner = _Planner(scene)
    root = planner.layer(scene.root)
    if root.blends:
        # a drawing mixes with nothing below it
        root = Layer((root,))
    topology = scene.topology
    segments_of_contour: list[list[int]] = [[] for _ in topology.closed]
    for row, contour in enumerate(topology.contour.tolist()):
        segments_of_contour[contour].append(row)
    contours_of_path: dict[int, list[int]] = {}
    for contour, path in enumerate(topology.path):
        if segments_of_contour[contour]:
            contours_of_path.setdefault(path, []).append(contour)

    control = topology.segments.tolist()
    filled, stroked, closing, closing_region = _Gatherer(), _Gatherer(), [], []
    for region, path in enumerate(planner.paths):
        gatherer = stroked if region in planner.strokes else filled
        for contour in contours_of_path.get(path, []):
            rows = segments_of_contour[contour]
            gatherer.add(rows, region, topology.closed[contour])
            start, end = control[rows[0]][0], control[rows[-1]][3]
            if gatherer is filled and start != end:
                closing.append((end, start))
                closing_region.append(region)
    segments = topology.segments
    straight = (segments[:, 0] == segments[:, 1]) & (segments[:, 2] == segments[:, 3])
    styles = [planner.strokes[region] for region in stroked.instance_region]
    return Plan(
        root=root,
        transforms=tuple(planner.transforms),
        evenodd=torch.tensor(planner.evenodd, dtype=torch.bool),
        strokes=planner.strokes,
        segments=segments,
        segment_path=torch.tensor(topology.path, dtype=torch.long)[topology.contour],
        filled=filled.segments(straight),
        stroked=stroked.segments(straight),
        stroke_regions=tuple(stroked.instance_region),
        pens=torch.tensor([[s.width, s.join, s.cap] for s in styles], dtype=torch.long).reshape(-1, 3),
        miter_limits=torch.tensor([s.miter_limit for s in styles], dtype=torch.float32),
        closing=torch.tensor(closing, dtype=torch.long).reshape(-1, 2),
        closing_region=torch.tensor(closing_region, dtype=torch.long),
        patterns=tuple({id(d.paint): d.paint for d in draws_of(root) if isinstance(d.paint, Pattern)}.values()),
        filter_chains=tuple(dict.fromkeys(_filter_chains(root))),
    )


def draws_of(layer: Layer) -> Iterator[Draw]:
    """Return all draws of a layer and of its masks, in the order in which they stand in it."""
    for item in layer.items:
        if isinstance(item, Layer):
            yield from draws_of(item)
        elif isinstance(item, Draw):
            yield item
    for mask in layer.masks:
        yield from draws_of(mask.content)


def _filter_chains(layer: Layer) -> Iterator[tuple[Filter, ...]]:
    inner = [*(item for item in layer.items if isinstance(item, Layer)), *(mask.content for mask in layer.masks)]
    chains = [chain for one in inner for chain in _filter_chains(one)]
    yield from (layer.filters + chain for chain in chains)
    if layer.filters and not chains:
        yield layer.filters


@dataclass
class _Gatherer:
    """The columns of `Segments` so far."""

    rows: list[int] = field(default_factory=list)
    region: list[int] = field(default_factory=list)
    instance: list[int] = field(default_factory=list)
    instance_region: list[int] = field(default_factory=list)
    instance_closed: list[bool] = field(default_factory=list)

    def add(self, rows: list[int], region: int, closed: bool) -> None:
        self.rows += rows
        self.region += [region] * len(rows)
        self.instance += [len(self.instance_region)] * len(rows)
        self.instance_region.append(region)
        self.instance_closed.append(closed)

    def segments(self, straight: Tensor) -> Segments:
        rows = torch.tensor(self.rows, dtype=torch.long)
        return Segments(
            segment=rows,
            region=torch.tensor(self.region, dtype=torch.long),
            instance=torch.tensor(self.instance, dtype=torch.long),
            straight=straight[rows],
            instance_region=torch.tensor(self.instance_region, dtype=torch.long),
            instance_closed=torch.tensor(self.instance_closed, dtype=torch.bool),
        )
