"""What the rasteriser draws: a fixed tree of shapes over one bundle of differentiable numbers.

The tree says which row of which tensor each number is. So an optimiser sees a few large tensors, and what two shapes
share (a point, a gradient stop) is one row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine


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


Paint = Solid | Gradient


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


@dataclass(frozen=True)
class Group:
    """Shapes that are painted together before opacity and clip apply to the whole."""

    children: tuple["Shape | Group", ...]
    """What it holds, lowest first."""
    opacities: tuple[int, ...] = ()
    """Rows of `opacities` whose product is that of the whole."""
    clip: Clip | None = None
    """What cuts it, if anything."""


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


@dataclass
class SceneBuilder:
    """The rows of a scene's tensors, gathered one by one."""

    points: list[tuple[float, float]] = field(default_factory=list)
    """Rows of `SceneParameters.points` so far."""
    colors: list[tuple[float, float, float]] = field(default_factory=list)
    """Rows of `SceneParameters.colors` so far."""
    opacities: list[float] = field(default_factory=list)
    """Rows of `SceneParameters.opacities` so far."""
    widths: list[float] = field(default_factory=list)
    """Rows of `SceneParameters.widths` so far."""
    gradients: list[tuple[float, ...]] = field(default_factory=list)
    """Rows of `SceneParameters.gradients` so far."""
    offsets: list[float] = field(default_factory=list)
    """Rows of `SceneParameters.offsets` so far."""
    fitted: list[Fitted] = field(default_factory=list)
    """The paths that follow others."""
    _segments: list[tuple[int, int, int, int]] = field(default_factory=list)
    _contour: list[int] = field(default_factory=list)
    _closed: list[bool] = field(default_factory=list)
    _path: list[int] = field(default_factory=list)
    _spans: list[tuple[int, int, int, int]] = field(default_factory=list)
    """First and last (exclusive) point and segment of each path."""

    def add_path(
        self,
        points: Iterable[tuple[float, float]],
        contours: Iterable[tuple[list[tuple[int, int, int, int]], bool]],
    ) -> int:
        """Add a path.

        Args:
            points: Its own points.
            contours: For each contour the segments, as indices into those points, and whether it is closed.

        Returns:
            The number of the path.
        """
        base, first = len(self.points), len(self._segments)
        self.points.extend(points)
        for segments, closed in contours:
            self._segments.extend((a + base, b + base, c + base, d + base) for a, b, c, d in segments)
            self._contour.extend([len(self._closed)] * len(segments))
            self._closed.append(closed)
            self._path.append(len(self._spans))
        self._spans.append((base, len(self.points), first, len(self._segments)))
        return len(self._spans) - 1

    def segments_of(self, path: int) -> list[list[tuple[float, float]]]:
        """Return the control points of a path's segments."""
        _, _, first, last = self._spans[path]
        return [[self.points[k] for k in segment] for segment in self._segments[first:last]]

    def add_follower(self, path: int, transform: Affine, members: Members) -> int:
        """Add a path that is another one, stretched over the bounding box of some paths; see `Fitted`.

        Args:
            path: The other one.
            transform: From its units to the unit square.
            members: The paths in the box, each with a map to the units of the new path.

        Returns:
            The number of the path.
        """
        start, stop, first, last = self._spans[path]
        contours: dict[int, list[tuple[int, int, int, int]]] = {}
        for (a, b, c, d), contour in zip(self._segments[first:last], self._contour[first:last], strict=True):
            contours.setdefault(contour, []).append((a - start, b - start, c - start, d - start))
        self.fitted.append(Fitted(len(self.points), start, stop - start, transform, members))
        closed = [(segments, self._closed[contour]) for contour, segments in contours.items()]
        return self.add_path(self.points[start:stop], closed)

    def add_polygon(self, points: Iterable[tuple[float, float]], closed: bool = True) -> int:
        """Add a path of one contour of straight lines; return its number."""
        corners = list(points)
        n = len(corners)
        lines = [(i, i, (i + 1) % n, (i + 1) % n) for i in range(n if closed else n - 1)]
        return self.add_path(corners, [(lines, closed)])

    def add_color(self, red: float, green: float, blue: float) -> int:
        """Add an sRGB colour in 0 … 1; return its row."""
        self.colors.append((red, green, blue))
        return len(self.colors) - 1

    def add_opacity(self, value: float) -> int:
        """Add an opacity; return its row."""
        self.opacities.append(value)
        return len(self.opacities) - 1

    def add_width(self, value: float) -> int:
        """Add a stroke width; return its row."""
        self.widths.append(value)
        return len(self.widths) - 1

    def add_gradient(self, *numbers: float) -> int:
        """Add a gradient's four (linear) or six (radial) numbers; return its row."""
        self.gradients.append((*numbers, *(0.0,) * (6 - len(numbers))))
        return len(self.gradients) - 1

    def add_stop(self, offset: float, color: tuple[float, float, float], opacity: float = 1.0) -> Stop:
        """Add a gradient stop."""
        self.offsets.append(offset)
        return Stop(len(self.offsets) - 1, self.add_color(*color), self.add_opacity(opacity))

    def build(
        self, children: Iterable[Shape | Group], window: tuple[float, float] | None = None
    ) -> tuple[Scene, SceneParameters]:
        """Return the scene with these children and this viewport, and its numbers in float32 on the CPU."""
        topology = Topology(
            torch.tensor(self._segments, dtype=torch.long).reshape(-1, 4),
            torch.tensor(self._contour, dtype=torch.long),
            tuple(self._closed),
            tuple(self._path),
        )
        numbers = {
            name: torch.tensor(getattr(self, name), dtype=torch.float32) for name in ("opacities", "widths", "offsets")
        }
        parameters = SceneParameters(
            points=torch.tensor(self.points, dtype=torch.float32).reshape(-1, 2),
            colors=torch.tensor(self.colors, dtype=torch.float32).reshape(-1, 3),
            gradients=torch.tensor(self.gradients, dtype=torch.float32).reshape(-1, 6),
            **numbers,
        )
        return Scene(topology, Group(tuple(children)), tuple(self.fitted), window), parameters
