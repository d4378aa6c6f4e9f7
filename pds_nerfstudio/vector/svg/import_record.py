"""What importing an SVG leaves besides the scene: which number came from which attribute of which element."""

from dataclasses import dataclass, field

from pds_nerfstudio.vector.raster.scene import Scene, SceneBuilder, SceneParameters
from pds_nerfstudio.vector.svg.basic_shapes import ShapeSource
from pds_nerfstudio.vector.svg.cascade import Cascade
from pds_nerfstudio.vector.svg.css import StyleSheet
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource


@dataclass
class Slot:
    """One row of a scene's numbers, and the property that holds it in the file."""

    kind: str
    """Which tensor of `SceneParameters`."""
    row: int
    """Which row of it."""
    element: Element
    """Whose property it is."""
    name: str
    """Property or attribute; for a gradient's numbers, its tag."""
    scale: float = 1.0
    """Row divided by the property's own value: the alpha of a colour is folded into its opacity."""
    alpha: float = 1.0
    """Alpha that a colour is written back with."""
    editable: bool = True
    """False where two uses of the element see different values, so that there is no one value to write."""


@dataclass(frozen=True)
class PathSlot:
    """The points of one shape element."""

    path: int
    """Number of the path in the scene."""
    element: Element
    """The shape element."""
    source: ShapeSource
    """Its geometry as it was read."""
    first: int
    """Row of its first point."""
    scale: float
    """Canvas length of one unit where the element was first drawn, on a canvas of the drawing's own size."""


@dataclass(frozen=True)
class Imported:
    """A file's drawing."""

    scene: Scene
    """What is drawn."""
    parameters: SceneParameters
    """Its numbers."""
    size: tuple[float, float]
    """Width and height that the file asks for, in CSS pixels; the scene is drawn in these units."""
    slots: list[Slot]
    """Where the numbers of paints, strokes and opacities come from."""
    paths: list[PathSlot]
    """Where the points come from."""
    unsupported: tuple[str, ...]
    """What the file uses and the scene lacks."""
    cascade: Cascade
    """Which property stands where."""


class FileIndex:
    """What all parts of the importer look up in a file, and where they note what they have no place for.

    Args:
        source: The parsed file.
        name: What to call it in messages.
    """

    def __init__(self, source: XmlSource, name: str) -> None:
        self.root, self.name = source.root, name
        self.ids: dict[str, Element] = {}
        self.unsupported: set[str] = set()
        sheet = StyleSheet()
        for element in self.root.walk():
            if "id" in element.attributes:
                self.ids.setdefault(element.attributes["id"], element)
            if element.tag == "style" and element.attributes.get("type", "text/css") in ("", "text/css"):
                sheet.add(element.text)
            if element.tag.startswith("animate") or element.tag == "set":
                self.unsupported.add("animation")
        self.unsupported.update(f"selector {s!r}" for s in sheet.skipped)
        self.cascade = Cascade(sheet)

    def reference(self, element: Element) -> Element | None:
        """Return the element that an href points to, if it is in the file."""
        href = element.attributes.get("href", "").strip()
        if href.startswith("#"):
            return self.ids.get(href[1:])
        if href:
            self.unsupported.add("references to other files")
        return None


@dataclass
class RowKeeper:
    """For each property of each element, its row in the scene's numbers."""

    builder: SceneBuilder
    """Holds the rows."""
    slots: dict[tuple[str, Element, str], Slot] = field(default_factory=dict)
    """By kind, element and property."""

    def row(
        self,
        kind: str,
        element: Element,
        name: str,
        value: float | tuple[float, ...],
        scale: float = 1.0,
        alpha: float = 1.0,
    ) -> int:
        """Return the row that holds a property of an element; add it where it is new."""
        values: list = getattr(self.builder, kind)
        key = (kind, element, name)
        slot = self.slots.get(key)
        if slot is not None:
            known = values[slot.row]
            if kind == "gradients" or known == value:
                return slot.row
            slot.editable = False
        if kind == "gradients":
            assert isinstance(value, tuple)
            row = self.builder.add_gradient(*value)
        else:
            values.append(value)
            row = len(values) - 1
        if slot is None:
            self.slots[key] = Slot(kind, row, element, name, scale, alpha, scale > 0)
        return row
