"""Which basic shapes can be given a transform that turns them and nothing else."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pds_nerfstudio.vector.raster.scene import Group, Node, Scene, Shape, Solid
from pds_nerfstudio.vector.svg.import_record import Imported, PathSlot

_TURNED = frozenset(("clip-path", "mask", "filter", "transform-origin", "transform-box"))
"""Properties whose effect turns with an element's own transform, or turns it about another point."""


def shapes_of(scene: Scene) -> dict[int, list[Shape]]:
    """Return all that is drawn of each path, in masks too, by its number."""
    found: dict[int, list[Shape]] = defaultdict(list)
    stack: list[Node] = [scene.root]
    while stack:
        node = stack.pop()
        if isinstance(node, Group):
            stack.extend(node.children)
            stack.extend(mask.content for mask in (node.effects.masks if node.effects else ()))
        elif isinstance(node, Shape):
            found[node.path].append(node)
    return found


def may_turn(slot: PathSlot, shapes: Mapping[int, Sequence[Shape]], drawing: Imported) -> bool:
    """Return whether a transform of an element's own would turn nothing but its outline.

    Args:
        slot: The element.
        shapes: What is drawn of each path.
        drawing: The file's drawing.
    """
    declared = drawing.cascade.declared(slot.element)
    given = declared.get("transform")
    drawn = shapes.get(slot.path, [])
    paints = [part.paint for shape in drawn for part in (shape.fill, shape.stroke) if part is not None]
    alone = all(isinstance(paint, Solid) for paint in paints) and not declared.keys() & _TURNED
    return alone and (given is None or given.origin == "attribute")
