"""What importing an SVG leaves besides the scene: which number came from which attribute of which element."""

from dataclasses import dataclass, field

from pds_nerfstudio.vector.raster.scene import Scene, SceneBuilder, SceneParameters
from pds_nerfstudio.vector.svg.basic_shapes import ShapeSource
from pds_nerfstudio.vector.svg.cascade import Cascade
from pds_nerfstudio.vector.svg.css import StyleSheet
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource


@dataclass
class Slot:
    """One row of a scene's numbers, and the property that says it."""

    kind: str
    """Which tensor of `SceneParameters`."""
    row: int
    element: Element
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
    element: Element
    source: ShapeSource
    first: int
    """Row of its first point."""
    scale: float
    """Canvas length of one unit where the element was first drawn, on a canvas of the drawing's own size."""


@dataclass(frozen=True)
class Imported:
    """A file's drawing."""

    scene: Scene
    parameters: SceneParameters
    size: tuple[float, float]
    """Width and height that the file asks for, in CSS pixels; the scene is drawn in these units."""
    slots: list[Slot]
    paths: list[PathSlot]
    unsupported: tuple[str, ...]
    """What the file uses and the scene lacks."""
    cascade: Cascade


class FileIndex:
    """What all parts of the importer look up in a file, and where they note what they have no place for."""

    def __init__(self, source: XmlSource, name: str) -> None:
        """Gathers ids and style sheets.

        Args:
            source: the parsed file.
            name: what to call it in messages.
        """
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
        """The element that an href points to, if it is in the file."""
        href = element.attributes.get("href", "").strip()
        if href.startswith("#"):
            return self.ids.get(href[1:])
        if href:
            self.unsupported.add("references to other files")
        return None


@dataclass
class RowKeeper:
    """Gives each property of each element its row in the scene's numbers."""

    builder: SceneBuilder
    slots: dict[tuple[str, Element, str], Slot] = field(default_factory=dict)

    def row(
        self,
        kind: str,
        element: Element,
        name: str,
        value: float | tuple[float, ...],
        scale: float = 1.0,
        alpha: float = 1.0,
    ) -> int:
        """The row that holds a property of an element, added where it is new."""
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
