"""Clip paths of an SVG (CSS Masking 1, section 5)."""

from dataclasses import dataclass, field, replace

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Clip, ClipShape, Members, Node
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.context import Context, geometry_of, is_for_this_reader
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex
from pds_nerfstudio.vector.svg.outline_importer import OutlineImporter, inverse_of, is_degenerate
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.xml_source import Element

Cut = Node | ClipShape
"""What a clip path may cut."""
_Key = tuple[Element, Affine]


@dataclass(frozen=True)
class _Fit:
    """How a clip path follows a box."""

    members: Members
    """What is in the box."""
    to_unit: Affine
    """From the drawing's units to the unit square that is stretched over the box."""
    transform: Affine
    """From the box' units to the drawing's."""


@dataclass
class ClipImporter:
    """The clip paths of one file."""

    file: FileIndex
    """Where they are looked up."""
    outlines: OutlineImporter
    """Reads their shapes."""
    _known: dict[_Key, Clip] = field(default_factory=dict)

    def read(self, element: Element, style: Style, context: Context, node: Cut | None) -> Clip | None:
        """Return what cuts an element, if anything does.

        Args:
            element: The element.
            style: Its values.
            context: What holds inside of it.
            node: What it draws, if that has a bounding box.

        Raises:
            UserError: If clip paths lead too far into one another.
        """
        if "clip-path" not in style:
            return None
        url = parse_url(style["clip-path"])
        target = None if url is None else self.file.target(url[0])
        if target is None or target.tag != "clipPath":
            return None
        if target in context.chain:
            self.file.undrawn.add(TO_ITSELF)
            return None
        if target.attributes.get("clipPathUnits") == "objectBoundingBox":
            members = () if node is None else self.outlines.members(node, context.transform)
            if node is None or self.outlines.box(members) is None:
                # what has no box is cut to nothing, and would show as soon as it got one
                self.outlines.lock({path for path, _ in members})
                return Clip(())
            return self._read(target, context, node)
        key = (target, context.transform)
        if key not in self._known:
            self._known[key] = self._read(target, context, None)
        return self._known[key]

    def _read(self, element: Element, outside: Context, node: Cut | None) -> Clip:
        """Return a clip path, fitted to the box of a node if there is one."""
        style = self.file.cascade.own_style(element)
        inside = self.outlines.enter(element, style, outside)
        around = inside
        members = () if node is None else self.outlines.members(node, outside.transform)
        box = self.outlines.box(members)
        if box is not None:
            x, y, width, height = box
            unit: Affine = (width, 0.0, 0.0, height, x, y)
            around = replace(inside, transform=affine.compose(inside.transform, unit))
        cut = Clip(tuple(shape for child in element.children if (shape := self._shape(child, around)) is not None))
        if box is not None and not is_degenerate(around.transform):
            cut = self._fitted(cut, _Fit(members, inverse_of(around.transform), inside.transform))
        return replace(cut, clip=self.read(element, style, replace(inside, transform=outside.transform), node))

    def _fitted(self, clip: Clip, fit: _Fit) -> Clip:
        """Return a clip path that follows the box it is drawn in."""
        shapes = []
        for shape in clip.shapes:
            to_unit = affine.compose(fit.to_unit, shape.transform)
            path = self.outlines.rows.builder.add_follower(shape.path, to_unit, fit.members)
            inner = None if shape.clip is None else self._fitted(shape.clip, fit)
            shapes.append(ClipShape(path, fit.transform, shape.evenodd, inner))
        return Clip(tuple(shapes), None if clip.clip is None else self._fitted(clip.clip, fit))

    def _shape(self, element: Element, outside: Context) -> ClipShape | None:
        self.file.visit(outside.chain)
        if element.tag in ("text", "image"):
            self.file.undrawn.add(f"{element.tag} in a clip path")
        if (element.tag not in GEOMETRY and element.tag != "use") or not is_for_this_reader(element):
            return None
        style = self.file.cascade.style(element, outside.style)
        if style.get("display") == "none" or style.get("visibility", "visible") != "visible":
            return None
        inside = self.outlines.enter(element, style, outside)
        if is_degenerate(inside.transform):
            return None
        if element.tag == "use":
            return self._used(element, inside)
        slot = self.outlines.read(element, inside)
        if slot is None:
            return None
        shape = ClipShape(slot.path, inside.transform, style.get("clip-rule") == "evenodd")
        return replace(shape, clip=self.read(element, style, inside, shape))

    def _used(self, element: Element, inside: Context) -> ClipShape | None:
        target = self.file.reference(element)
        if target is None or target.tag not in (*GEOMETRY, "use"):
            return None
        if target in inside.chain:
            self.file.undrawn.add(TO_ITSELF)
            return None
        view = inside.viewport
        x = view.length(geometry_of(element, inside.style, "x"), view.width) or 0.0
        y = view.length(geometry_of(element, inside.style, "y"), view.height) or 0.0
        moved = replace(inside, transform=affine.compose(inside.transform, affine.translation(x, y)))
        shape = self._shape(target, moved)
        clip = None if shape is None else self.read(element, inside.style, inside, shape)
        if shape is None or clip is None:
            return shape
        return replace(shape, clip=clip if shape.clip is None else replace(shape.clip, clip=clip))
