"""From the elements of an SVG file to a scene, and a record of which number came from which attribute."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import IDENTITY
from pds_nerfstudio.vector.raster.scene import Clip, ClipShape, Fill, Group, Node, Shape
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from pds_nerfstudio.vector.svg.alone import Pruned
from pds_nerfstudio.vector.svg.basic_shapes import GEOMETRY
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.clip_importer import ClipImporter
from pds_nerfstudio.vector.svg.context import Context, geometry_of, is_for_this_reader
from pds_nerfstudio.vector.svg.effects_importer import EffectsImporter
from pds_nerfstudio.vector.svg.filter_importer import FilterImporter
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex, Imported, RowKeeper
from pds_nerfstudio.vector.svg.marker_importer import MARKERS, MarkerImporter
from pds_nerfstudio.vector.svg.modest import is_modest_picture
from pds_nerfstudio.vector.svg.numbers import Viewport
from pds_nerfstudio.vector.svg.outline_importer import OutlineImporter, is_degenerate, viewport_of
from pds_nerfstudio.vector.svg.paint_importer import PaintImporter, paint_order
from pds_nerfstudio.vector.svg.pattern_importer import PatternImporter
from pds_nerfstudio.vector.svg.picture_importer import PictureImporter
from pds_nerfstudio.vector.svg.viewbox import fit_view_box, parse_view_box
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource

_DRAWN = (*GEOMETRY, "g", "a", "svg", "use", "switch")
_UNDRAWN = ("image", "foreignObject", "video", "canvas", "iframe", "mesh")


@dataclass
class _Importer:
    """The import of one file."""

    file: FileIndex
    rows: RowKeeper
    paints: PaintImporter
    outlines: OutlineImporter
    clips: ClipImporter
    markers: MarkerImporter
    effects: EffectsImporter
    pictures: PictureImporter

    def run(self) -> Imported:
        root, cascade = self.file.root, self.file.cascade
        if root.tag != "svg":
            raise UserError(f"{self.file.name}: the outermost element is <{root.tag[:40]}>, not <svg>.")
        style = cascade.style(root, Style())
        box = parse_view_box(root.attributes.get("viewBox"))
        _, _, box_width, box_height = box or (0, 0, 100.0, 100.0)
        em = cascade.root_font_size
        around = Viewport(box_width, box_height, em, em)
        width, height = (
            self._length(root, style, name, around, side)
            for name, side in (("width", box_width), ("height", box_height))
        )
        if width is None or height is None or width <= 0 or height <= 0:
            raise UserError(f"{self.file.name}: width, height and viewBox give no size; set a viewBox.")
        outside = Context(style, IDENTITY, viewport_of(width, height, around), (0.0, 0.0, width, height))
        # the outermost element turns about its middle
        context = self.outlines.enter(root, Style({"transform-origin": "50% 50%", **style}), outside)
        context = replace(context, style=style)
        if box is not None:
            content = fit_view_box(box, width, height, root.attributes.get("preserveAspectRatio"))
            context = replace(
                context,
                transform=affine.compose(context.transform, content),
                viewport=viewport_of(box[2], box[3], around),
            )
        children = self.children(root.children, context)
        group = self.whole(root, context, Group(tuple(children)), None)
        canvas = self.paints.background(root, style, width, height)
        scene, parameters = self.rows.builder.build([*canvas, group], (width, height))
        return Imported(
            scene,
            parameters,
            (width, height),
            list(self.rows.slots.values()),
            self.outlines.record(),
            tuple(sorted(self.file.undrawn)),
            tuple(sorted(self.file.plain)),
            tuple(sorted(self.file.unread)),
            tuple(sorted(self.file.held)),
            cascade,
        )

    def _length(self, element: Element, style: Style, name: str, view: Viewport, side: float) -> float | None:
        """Return the width or height of a viewport, by default all of what is around it."""
        text = geometry_of(element, style, name) or "100%"
        return view.length("100%" if text == "auto" else text, side)

    def whole(self, element: Element, context: Context, node: Shape | Group, box: Node | None) -> Shape | Group:
        """Return what an element draws with all that happens to it as a whole.

        Args:
            element: The element.
            context: What holds inside of it.
            node: What it draws.
            box: What is in its bounding box, if it has one.
        """
        style = context.style
        opacities, clip = self.paints.opacity_rows(element, style), self.clips.read(element, style, context, box)
        effects = self.effects.read(element, style, context, box or node, self.children)
        if effects is None:
            return replace(node, opacities=opacities, clip=clip)
        return Group((node,) if isinstance(node, Shape) else node.children, opacities, clip, effects)

    def children(self, elements: Iterable[Element], context: Context) -> list[Node]:
        drawn: list[Node | None] = []
        for is_picture, run in groupby(elements, lambda element: self.is_picture(element, context)):
            if is_picture:
                drawn.append(self.pictures.read(list(run), context))
            else:
                drawn += [self.element(element, context) for element in run]
        return [node for node in drawn if node is not None]

    def is_picture(self, element: Element, context: Context) -> bool:
        """Tell whether an element is drawn by other means than shapes."""
        if element.tag not in ("text", "image") and not self.effects.filters.has_foreign:
            return False
        style = self.file.cascade.style(element, context.style)
        if style.get("display") == "none" or not is_for_this_reader(element) or is_degenerate(context.transform):
            return False
        if element.tag == "image":
            return is_modest_picture(element)
        return element.tag == "text" or (element.tag in _DRAWN and self.effects.filters.is_foreign(style))

    def element(self, element: Element, context: Context) -> Node | None:
        """Return what an element draws, if anything."""
        self.file.visit(context.chain)
        if element.tag in _UNDRAWN:
            self.file.undrawn.add(element.tag)
            return None
        if element.tag not in _DRAWN:
            return None
        style = self.file.cascade.style(element, context.style)
        if style.get("display") == "none" or not is_for_this_reader(element):
            return None
        inner = self.outlines.enter(element, style, context)
        if is_degenerate(inner.transform):
            return None
        if element.tag in GEOMETRY:
            return self.shape(element, inner)
        if element.tag == "use":
            content = self.use(element, inner)
        elif element.tag == "svg":
            content = self.nested(element, element, inner)
        elif element.tag == "switch":
            # elements of other programs are no choice
            fit = [c for c in element.children if is_for_this_reader(c) and not c.tag.startswith("{")]
            content = self.children(fit[:1], inner)
        else:
            content = self.children(element.children, inner)
        if not content and style.get("filter", "none") == "none":
            return None
        group = Group(tuple(content))
        return self.whole(element, inner, group, group)

    def use(self, element: Element, context: Context) -> list[Node]:
        target = self.file.reference(element)
        if target is None:
            return []
        if target in context.chain:
            self.file.undrawn.add(TO_ITSELF)
            return []
        view = context.viewport
        x = view.length(geometry_of(element, context.style, "x"), view.width) or 0.0
        y = view.length(geometry_of(element, context.style, "y"), view.height) or 0.0
        moved = replace(context, transform=affine.compose(context.transform, affine.translation(x, y)))
        if target.tag in ("symbol", "svg"):
            style = self.file.cascade.style(target, context.style)
            if style.get("display") == "none" and target.tag == "svg":
                return []
            inner = replace(moved, style=style, chain=(*context.chain, target))
            content = self.nested(target, element, inner)
            if not content:
                return []
            group = Group(tuple(content))
            return [self.whole(target, inner, group, group)]
        return self.children([target], moved)

    def nested(self, element: Element, sized: Element, context: Context) -> list[Node]:
        """Return what is inside of a symbol or an inner svg element; `sized` may give another width and height."""
        view, style = context.viewport, context.style
        by = {name: sized if name in sized.attributes else element for name in ("width", "height")}
        width = self._length(by["width"], style, "width", view, view.width) or 0.0
        height = self._length(by["height"], style, "height", view, view.height) or 0.0
        x, y = 0.0, 0.0
        if element.tag == "svg":
            x = view.length(geometry_of(element, style, "x"), view.width) or 0.0
            y = view.length(geometry_of(element, style, "y"), view.height) or 0.0
        if width <= 0 or height <= 0:
            return []
        content = placed = affine.compose(context.transform, affine.translation(x, y))
        box = parse_view_box(element.attributes.get("viewBox"))
        view = viewport_of(width, height, view)
        if box is not None:
            fitted = fit_view_box(box, width, height, element.attributes.get("preserveAspectRatio"))
            content, view = affine.compose(placed, fitted), viewport_of(box[2], box[3], view)
        children = self.children(element.children, replace(context, transform=content, viewport=view))
        if not children:
            return []
        if style.get("overflow", "hidden") in ("visible", "auto"):
            return children
        corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
        window = Clip((ClipShape(self.rows.builder.add_polygon(corners), placed),))
        return [Group(tuple(children), clip=window)]

    def shape(self, element: Element, context: Context) -> Shape | Group | None:
        style = context.style
        if style.get("visibility", "visible") != "visible":
            return None
        slot = self.outlines.read(element, context)
        if slot is None:
            return None
        fill, stroke = None, None
        paint = self.paints.paint("fill", "black", element, style, context.viewport, slot)
        if paint is not None:
            fill = Fill(paint[0], paint[1], style.get("fill-rule") == "evenodd")
        paint = self.paints.paint("stroke", "none", element, style, context.viewport, slot)
        if paint is not None:
            stroke = self.paints.stroke(*paint, element, context)
        order = paint_order(style.get("paint-order", "normal"))
        shape = Shape(slot.path, context.transform, fill, stroke, order.index("stroke") < order.index("fill"))
        drawn: Shape | Group = shape
        if any(style.get(name, "none") != "none" for name in MARKERS):
            markers = self.markers.read(element, context, slot, shape, self.children)
            if markers is not None:
                parts: dict[str, Shape | Group] = {
                    "fill": replace(shape, stroke=None),
                    "stroke": replace(shape, fill=None),
                    "markers": markers,
                }
                drawn = Group(tuple(parts[name] for name in order if name == "markers" or getattr(shape, name)))
        return self.whole(element, context, drawn, shape)


def import_svg(source: XmlSource, name: str) -> Imported:
    """Read the drawing of a file.

    Args:
        source: The parsed file.
        name: What to call it in messages.

    Raises:
        UserError: If it is no SVG, or what it draws has no bound.
    """
    file, rows = FileIndex(source, name), RowKeeper(SceneBuilder())
    outlines = OutlineImporter(file, rows)
    importer: _Importer

    def draw(elements: Iterable[Element], context: Context) -> list[Node]:
        return importer.children(elements, context)

    paints = PaintImporter(file, rows, outlines, PatternImporter(file, outlines, draw))
    effects = EffectsImporter(file, outlines, FilterImporter(file, outlines))
    importer = _Importer(
        file,
        rows,
        paints,
        outlines,
        ClipImporter(file, outlines),
        MarkerImporter(file, paints),
        effects,
        PictureImporter(Pruned(source), file, rows.builder),
    )
    return importer.run()
