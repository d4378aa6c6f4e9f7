"""How a scene comes about: its tensors, gathered row by row."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import (
    Fitted,
    Group,
    Members,
    Node,
    Scene,
    SceneParameters,
    Stop,
    Topology,
)


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

    def first_point(self, path: int) -> int:
        """Return the row of a path's first point."""
        return self._spans[path][0]

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
        self, children: Iterable[Node], window: tuple[float, float] | None = None
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
