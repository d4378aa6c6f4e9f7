"""An SVG file: what it draws, and the same file with other numbers in it."""

import math
import warnings
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters
from pds_nerfstudio.vector.svg.import_record import PathSlot, Slot
from pds_nerfstudio.vector.svg.importer import import_svg
from pds_nerfstudio.vector.svg.sharing import tied_rows
from pds_nerfstudio.vector.svg.text_outlines import with_outlines
from pds_nerfstudio.vector.svg.turning import may_turn, shapes_of
from pds_nerfstudio.vector.svg.viewbox import fit_view_box, parse_view_box
from pds_nerfstudio.vector.svg.writer import write_svg
from pds_nerfstudio.vector.svg.xml_source import Element, XmlSource, parse_xml

MOST_NAMED = 12
"""Things of one kind that a warning names."""


def _listed(features: tuple[str, ...]) -> str:
    more = len(features) - MOST_NAMED
    return ", ".join(features[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


class Document:
    """A parsed SVG file.

    Nothing is fetched, and the time and memory that parsing takes are bounded. What the scene has no place for, what
    could not be read, and what is drawn but must stay, is in the file as it was, and not edited; one warning names all
    that.

    Args:
        data: The bytes of the file.
        name: What to call it in messages.

    Raises:
        UserError: If the file is no SVG, or it is built to do harm.
    """

    def __init__(self, data: bytes, name: str = "SVG") -> None:
        self.name = name
        self._source = parse_xml(data, name)
        self._drawing = import_svg(self._source, name)
        drawing = self._drawing
        parts = (
            ("kept in the file, but neither drawn nor edited", drawing.undrawn),
            ("drawn without, but kept in the file", drawing.plain),
            ("drawn, but not edited", drawing.held),
            ("kept as it is, for it could not be read", drawing.unread),
        )
        said = "; ".join(f"{what}: {_listed(features)}" for what, features in parts if features)
        if said:
            warnings.warn(one_line(f"{name}: {said}"), stacklevel=2)

    @classmethod
    def read(cls, path: Path, outlines: bool = False) -> "Document":
        """Parse the file at a path.

        Args:
            path: Of the file.
            outlines: Whether its text becomes paths, as far as it is plain.

        Raises:
            UserError: If it cannot be read, is no SVG, or is built to do harm.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}.") from error
        return cls(with_outlines(data, path.name) if outlines else data, path.name)

    @property
    def scene(self) -> Scene:
        """The tree that is drawn, in CSS pixels."""
        return self._drawing.scene

    @property
    def parameters(self) -> SceneParameters:
        """The numbers as the file has them, float32 on the CPU."""
        return self._drawing.parameters

    @property
    def size(self) -> tuple[float, float]:
        """Width and height that the file asks for, in CSS pixels."""
        return self._drawing.size

    @property
    def suffix(self) -> str:
        """How the name of the file that `write` returns ends: .svgz if it is compressed, as the original, else .svg."""
        return ".svg" if self._source.packed is None else ".svgz"

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Features of the file that the scene lacks, or that could not be read."""
        return tuple(sorted({*self._drawing.undrawn, *self._drawing.plain, *self._drawing.unread}))

    @property
    def source(self) -> XmlSource:
        """The file."""
        return self._source

    @property
    def user_units(self) -> Affine:
        """The map from the units of the outermost element's `viewBox` to CSS pixels."""
        box = parse_view_box(self._source.root.attributes.get("viewBox"))
        if box is None:
            return IDENTITY
        return fit_view_box(box, *self.size, self._source.root.attributes.get("preserveAspectRatio"))

    @property
    def elements(self) -> Iterator[Element]:
        """All elements of the file, in its order."""
        return self._source.root.walk()

    @property
    def slots(self) -> list[Slot]:
        """Where the numbers of paints, strokes and opacities come from."""
        return self._drawing.slots

    @property
    def paths(self) -> list[PathSlot]:
        """Where the points come from."""
        return self._drawing.paths

    @property
    def level(self) -> frozenset[int]:
        """Numbers of the paths of basic shapes that cannot be turned: what they are painted with would turn, too."""
        shapes, turned = shapes_of(self.scene), ("rect", "circle", "ellipse")
        basic = [slot for slot in self.paths if slot.source.tag in turned]
        return frozenset(slot.path for slot in basic if not may_turn(slot, shapes, self._drawing))

    def view(self, width: int, height: int) -> Affine:
        """Return the map that centres the drawing on a canvas, as large as it fits.

        Args:
            width: Canvas width in pixels.
            height: Canvas height in pixels.
        """
        return fit_view_box((0.0, 0.0, *self.size), width, height)

    @cached_property
    def editable(self) -> dict[str, Bool[Tensor, " n"]]:
        """For each tensor of the parameters, the rows that `write` can put into the file."""
        parameters = self.parameters
        masks = {name: torch.zeros(values.shape[0], dtype=torch.bool) for name, values in vars(parameters).items()}
        for slot in self._drawing.slots:
            masks[slot.kind][slot.row] = slot.editable
        for path in self._drawing.paths:
            masks["points"][path.first : path.first + len(path.source.outline.points)] = path.editable
        return masks

    @cached_property
    def ties(self) -> dict[str, list[list[int]]]:
        """For each tensor of the parameters, groups of rows that the file gives their one value in one place."""
        return tied_rows(self._drawing)

    @cached_property
    def units(self) -> dict[str, Float[Tensor, " n"]]:
        """For each tensor of the parameters, what a change of one CSS pixel on the canvas amounts to in each row.

        Points and widths are measured where their element is drawn first. The numbers of a gradient have no one place
        on the canvas: for them it is a hundredth of the gradient's length or radius, and for its stops a hundredth.
        Colours and opacities count as they are.
        """
        units = {name: torch.ones(values.shape[0]) for name, values in vars(self.parameters).items()}
        units["offsets"][:] = 0.01
        scale_of = {path.element: path.scale for path in self._drawing.paths}
        for path in self._drawing.paths:
            rows = slice(path.first, path.first + len(path.source.outline.points))
            units["points"][rows] = 1 / max(path.scale, 1e-9)
        for slot in self._drawing.slots:
            if slot.kind == "widths":
                units["widths"][slot.row] = 1 / max(scale_of[slot.element], 1e-9)
            elif slot.kind == "gradients":
                x1, y1, x2_or_r, y2, _, _ = self.parameters.gradients[slot.row].tolist()
                radial = slot.name == "radialGradient"
                length = x2_or_r if radial else math.hypot(x2_or_r - x1, y2 - y1)
                units["gradients"][slot.row] = 0.01 * max(length, 1e-9)
        return units

    def write(self, parameters: SceneParameters, vanished: Collection[Element] = (), remove: bool = False) -> bytes:
        """Return the file with other numbers in place of its own, and otherwise unchanged to the byte.

        What a rule, a group or `color` gives to several elements is written there, if it has changed for all of them.

        Args:
            parameters: The numbers.
            vanished: Elements that are not to be seen.
            remove: Whether these go, as far as nothing but `use` elements refers to them, which go with them.
                Otherwise they are hidden.
        """
        return write_svg(self._source, self._drawing, parameters, vanished, remove)
