"""An SVG as something an optimiser can edit: named groups of differentiable numbers, and pictures of them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.edit.placement import Handles, Placement
from pds_nerfstudio.vector.edit.regularizers import CrossingLoss
from pds_nerfstudio.vector.edit.scene_tree import paint_rows, without
from pds_nerfstudio.vector.edit.whole_shapes import WholeShapes
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.backend import Backend, Renderer, exact
from pds_nerfstudio.vector.raster.scene import SceneParameters
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.vector.svg.sharing import tied_representatives

ParameterGroup = Literal["paths", "points", "colors", "opacities", "strokes", "gradients"]
"""paths: shifts, turns and stretches of whole paths. points: where curves go. colors: paints, gradient stops.
opacities: of fills, strokes, stops, groups. strokes: stroke widths. gradients: end points of gradients and places of
their stops."""

TENSORS: dict[ParameterGroup, tuple[str, ...]] = {
    "paths": ("paths",),
    "points": ("points",),
    "colors": ("colors",),
    "opacities": ("opacities",),
    "strokes": ("widths",),
    "gradients": ("gradients", "offsets"),
}
"""The tensors in each group: those of `SceneParameters`, and the moves of whole paths."""

REFERENCE_CANVAS = 512
"""Changes of points and widths count in pixels of a canvas this large, so that learning rates carry over."""


class VectorEditor:
    """A document whose numbers are its own plus a learned change, rendered.

    The change is what the optimiser sees. It is 0 at first. Points and stroke widths change in pixels of a 512-pixel
    canvas, gradients and their stops in hundredths of the gradient's length, colours and opacities in their own units.
    What the file gives several elements in one place, a class or a group, changes for all of them alike. Rectangles,
    circles, ellipses and lines move as wholes: the nearest affine map of their points is what counts. Those whose paint
    or clip path would turn with them are stretched along their axes alone.
    """

    def __init__(
        self,
        document: Document,
        canvas: int,
        groups: Sequence[ParameterGroup] = get_args(ParameterGroup),
        device: torch.device | str = "cpu",
        backend: Backend = exact,
    ) -> None:
        """Prepare an edit.

        Args:
            document: What to edit; it stays as it is.
            canvas: Side in pixels of the square that the drawing is centred on.
            groups: What may change.
            device: Where to render.
            backend: What to render with.

        Raises:
            UserError: If nothing in the drawing may change.
        """
        self.canvas, self.groups, self.device, self.backend = canvas, tuple(groups), torch.device(device), backend
        self.before = document
        """The document as it was."""
        self.view = document.view(canvas, canvas)
        self.source: SceneParameters = document.parameters.map(lambda t: t.to(device))
        """The numbers of the document as it was."""
        self._source_renderer: Renderer = backend(document.scene)
        self.start(document, self.source)

    def start(
        self,
        document: Document,
        parameters: SceneParameters,
        hidden: Collection[int] = (),
        freedom: dict[str, Tensor] | None = None,
        remove: bool = False,
        held: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> None:
        """Begin to change something from here on, with no change so far.

        Args:
            document: The document as it was, or with new paths in it.
            parameters: Its numbers to begin with.
            hidden: Numbers of paths that are not drawn, and that `svg` hides or removes.
            freedom: By tensor of the numbers, a factor 0..1 for each row: how far it goes in a step; all of the way
                by default.
            remove: Whether `svg` removes what is hidden.
            held: Each takes all points to the nearest that are allowed, and those that are to themselves.

        Raises:
            UserError: If nothing in the drawing may change.
        """
        device, scene = self.device, without(document.scene, hidden)
        self.document, self._hidden, self._remove, self._held = document, frozenset(hidden), remove, tuple(held)
        known = document is self.before and not hidden
        self.renderer: Renderer = self._source_renderer if known else self.backend(scene)
        self._start = parameters.map(lambda t: t.detach().to(device))
        pixel = REFERENCE_CANVAS / self.canvas * self.view[0]
        self._units: dict[str, Tensor] = {}
        self._tied: dict[str, Tensor] = {}
        for name, editable in document.editable.items():
            unit = document.units[name] * editable / (pixel if name in ("points", "widths") else 1)
            if freedom is not None and name in freedom:
                unit = unit * freedom[name].to(unit)
            if name in document.ties:
                tied = tied_representatives(document.ties[name], getattr(self._start, name), unit)
                if tied is not None:
                    self._tied[name] = tied.to(device)
            self._units[name] = unit.to(device).reshape(-1, *(1,) * (getattr(self._start, name).ndim - 1))
        self._placement = Placement(self._start.points, document.scene.topology, document.editable["points"])
        self._handles = Handles(self._start.points, document.scene.topology)
        outlined = {path for path, rows in paint_rows(document.scene).items() if rows.widths}
        self._whole = WholeShapes(self._start.points, document.paths, outlined, document.level)
        self.changes: dict[str, Tensor] = {}
        """The optimiser's tensors, shaped like those of `SceneParameters`, and under "paths" the moves of paths."""
        for name in (name for group in self.groups for name in TENSORS[group]):
            if bool(document.editable["points" if name == "paths" else name].any()):
                zero = self._placement.start if name == "paths" else getattr(self._start, name)
                self.changes[name] = torch.zeros_like(zero, requires_grad=True)
        if not self.changes:
            raise UserError(f"{document.name}: it has nothing to edit among {', '.join(self.groups)}.")
        self._controls = document.scene.topology.segments.to(device)
        self._crossing = CrossingLoss(self._segments(self._start.points))

    def parameter_groups(self, rates: dict[ParameterGroup, float]) -> list[dict]:
        """Return parameter groups for a torch optimiser, one for each group that has anything to change.

        Args:
            rates: Learning rate of each group, in the units of its changes.
        """
        found = []
        for group in self.groups:
            tensors = [self.changes[name] for name in TENSORS[group] if name in self.changes]
            if tensors:
                found.append({"params": tensors, "lr": rates[group], "name": group})
        return found

    def parameters(self) -> SceneParameters:
        """Return the drawing's numbers as they are now."""
        steps = dict(self.changes)
        if "points" in steps:
            steps["points"] = self._handles(steps["points"])
        if "paths" in steps:
            moved = self._placement(steps.pop("paths"))
            steps["points"] = moved + steps["points"] if "points" in steps else moved
        for name in steps.keys() & self._tied.keys():
            steps[name] = steps[name][self._tied[name]]
        ways = {name: self._units[name] * step for name, step in steps.items()}
        if "points" in ways:
            ways["points"] = self._whole(ways["points"])
        changed = {name: getattr(self._start, name) + way for name, way in ways.items()}
        for hold in self._held if "points" in changed else ():
            changed["points"] = hold(changed["points"])
        return replace(self._start, **changed)

    def render(
        self,
        background: Float[Tensor, "3 h w"] | None = None,
        view: Affine | None = None,
        source: bool = False,
    ) -> Float[Tensor, "1 3 h w"]:
        """Return the drawing as a picture, sRGB in 0..1.

        Args:
            background: What lies below, white by default.
            view: From the drawing's units to the canvas, by default all of it, centred.
            source: Whether to render the document as it was.
        """
        side = self.canvas
        if background is None:
            background = self.source.points.new_ones(3, side, side)
        parameters, renderer = self.parameters(), self.renderer
        if source:
            parameters, renderer = self.source, self._source_renderer
        return renderer.render(parameters, side, side, view or self.view, background)[None]

    def crossing_loss(self) -> Float[Tensor, ""]:
        """Return how much more its curves cross themselves than they did, in the units of the changes."""
        return self._crossing(self._segments(self.parameters().points))

    def _segments(self, points: Tensor) -> Float[Tensor, "s 4 2"]:
        # locked points get no unit: they take no part in the measure, nor have they a gradient
        units = self._units["points"]
        return (points / torch.where(units > 0, units, 1))[self._controls]

    @torch.no_grad()
    def project(self) -> None:
        """Take back what is out of range: colours, opacities and stops beyond 0..1, widths below 0."""
        bounds = {"colors": (0.0, 1.0), "opacities": (0.0, 1.0), "offsets": (0.0, 1.0), "widths": (0.0, None)}
        for name, (low, high) in bounds.items():
            if name in self.changes:
                unit, before = self._units[name], getattr(self._start, name)
                allowed = (before + unit * self.changes[name]).clamp(low, high)
                change = (allowed - before) / torch.where(unit > 0, unit, 1)
                self.changes[name].copy_(torch.where(unit > 0, change, 0))

    @torch.no_grad()
    def pull_back(self, share: float) -> None:
        """Take back a share, 0..1, of every change."""
        for change in self.changes.values():
            change.mul_(1 - share)

    def svg(self) -> bytes:
        """Return the document with the numbers as they are now."""
        vanished = [path.element for path in self.document.paths if path.path in self._hidden]
        return self.document.write(self.parameters(), vanished, self._remove)
