"""What happens to elements as pictures: masks, filters, blend modes (CSS Masking 1, Compositing and Blending 1)."""

from dataclasses import dataclass, field, replace

from pds_nerfstudio.vector.raster import affine
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Clip, ClipShape, Effects, Group, Masking, Node
from pds_nerfstudio.vector.svg.cascade import Style
from pds_nerfstudio.vector.svg.context import Context, DrawChildren
from pds_nerfstudio.vector.svg.filter_importer import FilterImporter
from pds_nerfstudio.vector.svg.import_record import TO_ITSELF, FileIndex
from pds_nerfstudio.vector.svg.outline_importer import OutlineImporter, is_degenerate
from pds_nerfstudio.vector.svg.regions import Placed, follower_or_not, read_region
from pds_nerfstudio.vector.svg.url import parse_url
from pds_nerfstudio.vector.svg.xml_source import Element

_BOXED = "masks in units of a box, and what they are on"
"""What is said of them: they are where the box is at import, so nothing in it may move."""


@dataclass
class EffectsImporter:
    """The effects of one file."""

    file: FileIndex
    """Where masks are looked up."""
    outlines: OutlineImporter
    """Has the boxes that they refer to."""
    filters: FilterImporter
    """Reads the filters."""
    _known: dict[tuple[Element, Affine], Group] = field(default_factory=dict)

    def read(self, element: Element, style: Style, context: Context, node: Node, draw: DrawChildren) -> Effects | None:
        """Return an element's effects; None for none.

        Args:
            element: The element.
            style: Its values.
            context: What holds inside of it.
            node: What it draws.
            draw: Draws what is in a mask.
        """
        blend = style.get("mix-blend-mode", "normal")
        effects = Effects(
            self.filters.read(style, context, node),
            self._masks(style, context, node, draw),
            blend,
            style.get("isolation") == "isolate",
        )
        return None if effects == Effects() else effects

    def _masks(self, style: Style, context: Context, node: Node, draw: DrawChildren) -> tuple[Masking, ...]:
        url = parse_url(style.get("mask"))
        target = None if url is None else self.file.target(url[0])
        if target is None or target.tag != "mask":
            return ()
        if target in context.chain:
            self.file.undrawn.add(TO_ITSELF)
            return ()
        self.file.visit(context.chain)
        members = self.outlines.members(node, context.transform)
        placed = Placed(context, members, self.outlines.box(members))
        own = self.file.cascade.own_style(target)
        inside = replace(context, style=own, chain=(*context.chain, target))
        content = self._content(target, inside, placed, draw)
        region = read_region(target, "maskUnits", placed)
        if content is None or region is None:
            # nothing shows, and would as soon as there were a box
            self.outlines.lock({path for path, _ in members})
            return (Masking(Group(())),)
        path = follower_or_not(region, placed, self.outlines.rows.builder)
        mask = Masking(
            content,
            Clip((ClipShape(path, context.transform),)),
            own.get("mask-type") == "alpha",
            own.get("color-interpolation") == "linearrgb",
        )
        return (mask, *self._masks(own, inside, node, draw))

    def _content(self, mask: Element, inside: Context, placed: Placed, draw: DrawChildren) -> Group | None:
        """Return what a mask draws; None if it is in units of a box that there is not."""
        if mask.attributes.get("maskContentUnits") != "objectBoundingBox":
            key = (mask, inside.transform)
            if key not in self._known:
                self._known[key] = Group(tuple(draw(mask.children, inside)))
            return self._known[key]
        if placed.box is None:
            return None
        x, y, width, height = placed.box
        self.file.held.add(_BOXED)
        self.outlines.lock({path for path, _ in placed.members})
        transform = affine.compose(inside.transform, (width, 0.0, 0.0, height, x, y))
        if is_degenerate(transform):
            return None
        rows, before = self.outlines.rows, self.outlines.rows.locked
        rows.locked = True
        try:
            return Group(tuple(draw(mask.children, replace(inside, transform=transform, locked=True))))
        finally:
            rows.locked = before
