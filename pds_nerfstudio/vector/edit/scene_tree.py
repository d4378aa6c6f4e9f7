"""Questions about the tree of a scene: which shapes it has, which numbers each of them is drawn with."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from pds_nerfstudio.vector.raster.scene import Gradient, Group, Node, Paint, Scene, Shape, Solid


def shapes_of(scene: Scene) -> Iterator[Shape]:
    """Return all shapes, lowest first, without those that are but in masks and patterns."""
    stack: list[Node] = [scene.root]
    while stack:
        node = stack.pop()
        if isinstance(node, Group):
            stack.extend(reversed(node.children))
        elif isinstance(node, Shape):
            yield node


def without(scene: Scene, hidden: Collection[int]) -> Scene:
    """Return a scene without the shapes of some paths, which still cut where they are clip paths.

    Args:
        scene: The scene; it comes back as it is if nothing is hidden.
        hidden: Numbers of the paths.
    """
    if not hidden:
        return scene

    def kept(group: Group) -> Group:
        children = (kept(c) if isinstance(c, Group) else c for c in group.children)
        shown = (c for c in children if not isinstance(c, Shape) or c.path not in hidden)
        return replace(group, children=tuple(shown))

    return replace(scene, root=kept(scene.root))


@dataclass
class PaintRows:
    """The rows of a scene's numbers that a path is painted with, wherever it is drawn."""

    colors: set[int] = field(default_factory=set)
    """Of solid paints and of stops."""
    opacities: set[int] = field(default_factory=set)
    """Of paints, of stops and of the shape."""
    widths: set[int] = field(default_factory=set)
    """Of strokes."""
    gradients: set[int] = field(default_factory=set)
    """Of gradients' ends."""
    offsets: set[int] = field(default_factory=set)
    """Of gradients' stops."""

    def add(self, paint: Paint) -> None:
        """Add what a paint consists of."""
        if isinstance(paint, Solid):
            self.colors.add(paint.color)
        if not isinstance(paint, Gradient):
            return
        self.gradients.add(paint.geometry)
        for stop in paint.stops:
            self.colors.add(stop.color)
            self.opacities.add(stop.opacity)
            self.offsets.add(stop.offset)


def paint_rows(scene: Scene) -> dict[int, PaintRows]:
    """Return for each path that is drawn what it is painted with."""
    rows: dict[int, PaintRows] = defaultdict(PaintRows)
    for shape in shapes_of(scene):
        own = rows[shape.path]
        own.opacities.update(shape.opacities)
        for part in (shape.fill, shape.stroke):
            if part is not None:
                own.add(part.paint)
                own.opacities.update(part.opacities)
        if shape.stroke is not None:
            own.widths.add(shape.stroke.width)
    return dict(rows)
