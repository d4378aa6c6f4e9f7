"""What importing an SVG leaves besides the scene: which number came from which attribute of which element."""

from dataclasses import dataclass, field

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.basic_shapes import ShapeSource
from pds_nerfstudio.vector.svg.cascade import Cascade, Origin
from pds_nerfstudio.vector.svg.css import StyleSheet
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource

MAX_VISITS = 100_000
"""Bound on elements drawn, each counted as often as it is used."""
MAX_NESTING = 150
"""Bound on how deep elements, uses and clip paths lead into one another."""
TO_ITSELF = "references to themselves"
"""What is said of an element that is used, or cut, in itself."""


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
    """Row divided by the property's own value: the alpha of a colour is folded into its opacity, and the width of a
    stroke that does not scale is in the units of its path."""
    alpha: float = 1.0
    """Alpha that a colour is written back with."""
    editable: bool = True
    """False where two uses of the element see different values, so that there is no one value to write."""
    origins: set[Origin | None] = field(default_factory=set)
    """What declares the value, for each use of the element; None where that is not known."""

    @property
    def origin(self) -> Origin | None:
        """The one declaration of the value, if there is one."""
        return next(iter(self.origins)) if len(self.origins) == 1 else None


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
    editable: bool = True
    """False where something about its place could not be read."""


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
    undrawn: tuple[str, ...]
    """What the file has and the scene lacks."""
    plain: tuple[str, ...]
    """Properties without which the scene shows elements."""
    unread: tuple[str, ...]
    """What could not be read."""
    held: tuple[str, ...]
    """What is drawn, and must stay as it is."""
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
        self.undrawn: set[str] = set()
        """What is not drawn."""
        self.plain: set[str] = set()
        """Properties without which elements are drawn."""
        self.held: set[str] = set()
        """What is drawn, and must stay as it is."""
        self._unread: set[str] = set()
        self._visits = 0
        for stylesheet in source.stylesheets:  # another file, and none is fetched
            self.note_unread("xml-stylesheet", stylesheet)
        sheet = StyleSheet()
        for element in self.root.walk():
            if "id" in element.attributes:
                self.ids.setdefault(element.attributes["id"], element)
            if element.tag == "style" and element.attributes.get("type", "text/css") in ("", "text/css"):
                sheet.add(element.text, element.attributes.get("media", ""), element)
            if element.tag.startswith("animate") or element.tag == "set":
                self.undrawn.add("animation")
        self.cascade = Cascade(sheet)

    @property
    def unread(self) -> set[str]:
        """What could not be read so far."""
        return self._unread | self.cascade.unread | self.cascade.sheet.skipped

    def note_unread(self, name: str, value: str) -> None:
        """Remember an attribute or a property that could not be read."""
        self._unread.add(f"{name} {value[:40]!r}")

    def visit(self, chain: tuple[Element, ...]) -> None:
        """Count an element that is about to be drawn.

        Args:
            chain: What it is drawn in.

        Raises:
            UserError: If there are too many, or it is too deep in others.
        """
        self._visits += 1
        if self._visits > MAX_VISITS:
            raise UserError(f"{self.name}: draws more than {MAX_VISITS} elements, counting uses; simplify it.")
        if len(chain) > MAX_NESTING:
            raise UserError(f"{self.name}: elements lead more than {MAX_NESTING} deep into one another; ungroup some.")

    def target(self, url: str) -> Element | None:
        """Return the element that a url() points to, if it is in the file."""
        return self.ids.get(url[1:]) if url.startswith("#") else None

    def reference(self, element: Element) -> Element | None:
        """Return the element that an href points to, if it is in the file."""
        href = element.attributes.get("href", "").strip()
        if href.startswith("#"):
            return self.ids.get(href[1:])
        if href:
            self.undrawn.add("references to other files")
        return None


@dataclass
class RowKeeper:
    """For each property of each element, its row in the scene's numbers."""

    builder: SceneBuilder
    """Holds the rows."""
    slots: dict[tuple[str, Element, str], Slot] = field(default_factory=dict)
    """By kind, element and property."""
    locked: bool = False
    """Whether what is read now must stay as it is."""

    def row(
        self,
        kind: str,
        element: Element,
        name: str,
        value: float | tuple[float, ...],
        scale: float = 1.0,
        alpha: float = 1.0,
        editable: bool = True,
        origin: Origin | None = None,
    ) -> int:
        """Return the row that holds a property of an element; add it where it is new."""
        values: list = getattr(self.builder, kind)
        key, editable = (kind, element, name), editable and not self.locked
        slot = self.slots.get(key)
        if slot is not None:
            slot.editable &= editable
            slot.origins.add(origin)
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
            self.slots[key] = Slot(kind, row, element, name, scale, alpha, editable and scale > 0, {origin})
        return row
