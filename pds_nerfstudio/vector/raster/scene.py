"""What the rasteriser draws: a fixed tree of shapes over one bundle of differentiable numbers.

The tree says which row of which tensor each number is. So an optimiser sees a few large tensors, and what two shapes
share (a point, a gradient stop) is one row.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Union

from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.filter_graph import Filter


@dataclass(frozen=True)
class SceneParameters:
    """Every number of a drawing that can be differentiated."""

    points: Float[Tensor, "n 2"]
    """End and control points, in the units of the path they belong to."""
    colors: Float[Tensor, "k 3"]
    """sRGB in 0 … 1, of paints and of gradient stops."""
    opacities: Float[Tensor, " q"]
    """Factors in 0 … 1."""
    widths: Float[Tensor, " j"]
    """Stroke widths, in the units of the path they belong to."""
    gradients: Float[Tensor, "g 6"]
    """Linear: x1, y1, x2, y2, 0, 0. Radial: cx, cy, r, fx, fy, fr. In the gradient's own units."""
    offsets: Float[Tensor, " t"]
    """Places of gradient stops in 0 … 1."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "SceneParameters":
        """Return the same numbers, each tensor changed by a function."""
        return SceneParameters(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Topology:
    """How points form paths."""

    segments: Int[Tensor, "s 4"]
    """Rows of `points`: the control points of each cubic. A straight line from i to j is (i, i, j, j)."""
    contour: Int[Tensor, " s"]
    """Contour of each segment, ascending."""
    closed: tuple[bool, ...]
    """Whether each contour is closed; a closed one ends in its first point."""
    path: tuple[int, ...]
    """Path of each contour, ascending."""


@dataclass(frozen=True)
class Solid:
    """One colour."""

    color: int
    """Row of `colors`."""


@dataclass(frozen=True)
class Stop:
    """One stop of a gradient."""

    offset: int
    """Row of `offsets`."""
    color: int
    """Row of `colors`."""
    opacity: int
    """Row of `opacities`."""


@dataclass(frozen=True)
class Gradient:
    """A linear or radial gradient (SVG 2, section 14.2)."""

    geometry: int
    """Row of `gradients`."""
    stops: tuple[Stop, ...]
    """Its stops, in order; places that fall are raised to the one before."""
    radial: bool = False
    """Whether it is radial."""
    spread: str = "pad"
    """What follows outside of the gradient: "pad", "reflect" or "repeat"."""
    transform: Affine = IDENTITY
    """From the gradient's units to the path's, or to its bounding box."""
    bounding_box: bool = False
    """True where (0, 0) … (1, 1) stands for the path's bounding box without its stroke."""


@dataclass(frozen=True)
class Pattern:
    """A picture in the place of a colour, repeated in both directions (SVG 2, section 14.3)."""

    content: "Group"
    """What is in a tile. Its transforms lead to the tile's units."""
    tile: tuple[float, float, float, float]
    """x, y, width and height of one tile, beyond which nothing of it shows."""
    transform: Affine = IDENTITY
    """From the tile's units to the path's."""


Paint = Solid | Gradient | Pattern


@dataclass(frozen=True)
class Fill:
    """How a path is filled."""

    paint: Paint
    """What the path is filled with."""
    opacities: tuple[int, ...] = ()
    """Rows of `opacities` whose product is the fill's."""
    evenodd: bool = False
    """Whether it follows the even-odd rule, in place of the nonzero rule."""


class Join(IntEnum):
    """Shape at the vertices of a path."""

    MITER = 0
    ROUND = 1
    BEVEL = 2


class Cap(IntEnum):
    """Shape at the ends of open contours."""

    BUTT = 0
    ROUND = 1
    SQUARE = 2


@dataclass(frozen=True)
class Stroke:
    """How a path is stroked."""

    paint: Paint
    """What the path is stroked with."""
    width: int
    """Row of `widths`."""
    opacities: tuple[int, ...] = ()
    """Rows of `opacities` whose product is the stroke's."""
    cap: Cap = Cap.BUTT
    """Shape at its ends."""
    join: Join = Join.MITER
    """Shape at its vertices."""
    miter_limit: float = 4.0
    """Longest miter, as a multiple of the width."""
    dashes: tuple[float, ...] = ()
    """Lengths of dash, gap, dash, gap, …; none for a solid stroke."""
    dash_offset: float = 0.0
    """How far into the dashes it begins."""
    path_length: float = 0.0
    """How long the path is in the measure of the dashes; 0 if that is the path's own."""


@dataclass(frozen=True)
class ClipShape:
    """One path of a clip path."""

    path: int
    """Number of the path."""
    transform: Affine = IDENTITY
    """From the path's units to the drawing's."""
    evenodd: bool = False
    """Whether it follows the even-odd rule, in place of the nonzero rule."""
    clip: "Clip | None" = None
    """What cuts it, if anything."""


@dataclass(frozen=True)
class Clip:
    """The union of some paths. One without shapes hides everything."""

    shapes: tuple[ClipShape, ...]
    """What it is the union of."""
    clip: "Clip | None" = None
    """A further clip path, of the clip path itself."""


@dataclass(frozen=True)
class Shape:
    """A path with its paint."""

    path: int
    """Number of the path."""
    transform: Affine = IDENTITY
    """From the path's units to the drawing's."""
    fill: Fill | None = None
    """How it is filled, if it is."""
    stroke: Stroke | None = None
    """How it is stroked, if it is."""
    stroke_first: bool = False
    """Whether the fill covers the stroke."""
    opacities: tuple[int, ...] = ()
    """Rows of `opacities` whose product is that of fill and stroke together."""
    clip: Clip | None = None
    """What cuts it, if anything."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels that are drawn and never change."""

    pixels: Float[Tensor, "4 h w"]
    """Premultiplied sRGB and alpha in 0 … 1."""
    box: tuple[float, float, float, float]
    """x, y, width and height of what they fill, in the drawing's units."""
    path: int
    """Number of a path around them, which is not drawn: what they are in a bounding box."""


Node = Union["Group", Shape, Picture]
"""What a group holds."""


@dataclass(frozen=True)
class Masking:
    """A mask: what it draws says how much shows of what it is on (CSS Masking 1, section 6)."""

    content: "Group"
    """What it draws."""
    region: Clip | None = None
    """Outside of which nothing shows."""
    alpha: bool = False
    """Whether its opacity counts alone, and not how light it is."""
    linear: bool = False
    """Whether its light is measured in linear RGB."""


@dataclass(frozen=True)
class Effects:
    """What happens to a group as a picture. Filters come before its clip, masks after that, then its opacity."""

    filters: tuple[Filter, ...] = ()
    """Filters, one after the other."""
    masks: tuple[Masking, ...] = ()
    """Masks, all of which count."""
    blend: str = "normal"
    """How it mixes with what is below in the group around it; one of `BLEND_MODES`."""
    isolated: bool = False
    """Whether what is in it mixes with nothing below the group."""


@dataclass(frozen=True)
class Group:
    """What is painted together before effects, opacity and clip apply to the whole."""

    children: tuple[Node, ...]
    """What it holds, lowest first."""
    opacities: tuple[int, ...] = ()
    """Rows of `opacities` whose product is that of the whole."""
    clip: Clip | None = None
    """What cuts it, if anything."""
    effects: Effects | None = None
    """What else happens to it as a whole, if anything."""


def is_plain(group: Group) -> bool:
    """Tell whether a group is nothing but shapes in colours and gradients, with their clips and opacities."""
    if group.effects is not None:
        return False
    for child in group.children:
        if isinstance(child, Shape):
            parts = (child.fill, child.stroke)
            plain = not any(part is not None and isinstance(part.paint, Pattern) for part in parts)
        else:
            plain = isinstance(child, Group) and is_plain(child)
        if not plain:
            return False
    return True


Members = tuple[tuple[int, Affine], ...]
"""Paths, each with a map from its units."""


@dataclass(frozen=True)
class Fitted:
    """A path that follows others: another path's points, stretched from the unit square over a bounding box."""

    first: int
    """Row of its first point."""
    source: int
    """Row of the other path's first point."""
    count: int
    """Number of points of each."""
    transform: Affine
    """From the other path's units to the unit square."""
    members: Members
    """The paths in the box, each with the map from its units to those that the box is upright in. The path is in
    these, too."""


@dataclass(frozen=True)
class Scene:
    """A drawing without its numbers."""

    topology: Topology
    """How points form paths."""
    root: Group
    """The tree."""
    fitted: tuple[Fitted, ...] = ()
    """The paths whose points follow others, each after those that it follows. Their own rows have no effect."""
    window: tuple[float, float] | None = None
    """Width and height of the viewport from (0, 0), outside of which nothing shows; None for no such bound."""
