"""A drawing as an `Editable`: what is seen of it, how it follows a loss, and the draft that it can be fit to."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.carry_back import carry_back
from pds_nerfstudio.editing import Descent, Goal, Metrics
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.images.edit_loop import ImageEditConfig, ImageEditLoop
from pds_nerfstudio.images.editor import ImageEditor
from pds_nerfstudio.vector.edit.augmentation import Augmentation, Framing
from pds_nerfstudio.vector.edit.editor import VectorEditor

Framings = Sequence[Framing]
Pictures = Float[Tensor, "views 3 height width"]


@dataclass
class FramedDrawing:
    """A drawing as an `Editable`: some framings of it make a view."""

    editor: VectorEditor
    """The drawing."""
    augmentation: Augmentation
    """How framings are drawn at random."""
    views: int
    """How many framings a view has."""
    seed: int
    """Of what is drawn at random."""

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def next_view(self) -> Framings:
        """Draw new framings."""
        editor = self.editor
        like = editor.source.points
        return [self.augmentation.draw(editor.view, editor.canvas, self._generator, like) for _ in range(self.views)]

    def whole(self) -> Framings:
        """Return as many framings that show all of the drawing."""
        editor = self.editor
        return [Framing(editor.view, self.augmentation.plain(editor.canvas, editor.source.points))] * self.views

    def render(self, view: Framings) -> Pictures:
        """Return pictures of the drawing as it is now."""
        return torch.cat([self.editor.render(f.background, f.view) for f in view])

    @torch.no_grad()
    def source(self, view: Framings) -> Pictures:
        """Return pictures of the drawing as it was."""
        return torch.cat([self.editor.render(f.background, f.view, source=True) for f in view])

    def keys(self, view: Framings) -> Sequence[Hashable] | None:
        """Return the numbers of the framings; None where they differ each time."""
        return None if self.augmentation.varies else range(self.views)

    def project(self) -> None:
        """Put back what is out of range."""
        self.editor.project()


class DrawingDescent(Descent[Framings]):
    """A descent whose curves resist crossing themselves, and whose changes are pulled back.

    Args:
        drawing: What changes.
        optimizer: Of its changes, at the rates to begin with.
        steps: Until the rates are at their last.
        final_rate: Share of the rates that is left then.
        crossing: Resistance against curves that cross themselves, as a multiple of the typical pull on a point.
        stay_near: Share of every change that is taken back in a step at full rates.
    """

    def __init__(
        self,
        drawing: FramedDrawing,
        optimizer: torch.optim.Optimizer,
        steps: int,
        final_rate: float,
        crossing: float,
        stay_near: float = 0.0,
    ) -> None:
        super().__init__(drawing, optimizer, steps, final_rate)
        self._editor, self._crossing, self._stay_near = drawing.editor, crossing, stay_near

    def follow(self, loss: Float[Tensor, ""]) -> Metrics:
        """Take one step down a loss; return the crossing loss before it."""
        metrics = super().follow(loss)
        self._editor.pull_back(self._stay_near * self.share)
        return metrics

    def resist(self) -> Metrics:
        """Add the gradient of the crossing loss to that of the points, on the scale of what is there."""
        points = self._editor.changes.get("points")
        if points is None or points.grad is None:
            return {"crossing": 0.0}
        loss = self._editor.crossing_loss()
        (resistance,) = torch.autograd.grad(loss, points)
        points.grad += self._crossing * points.grad.square().mean().sqrt() * resistance
        return {"crossing": float(loss.detach())}


class Draft(ImageEditLoop):
    """The edit of a drawing's picture, which changes nothing about the drawing itself.

    Args:
        drawing: Shows it.
        guidance: Its prompts are set.
        config: How to edit a picture.

    Raises:
        UserError: If the canvas is too small for the model.
    """

    def __init__(self, drawing: FramedDrawing, guidance: Guidance, config: ImageEditConfig) -> None:
        self._view = drawing.whole()
        self._source = drawing.source(self._view)
        super().__init__(ImageEditor(self._source, guidance, config.parameters), config)

    def goal(self) -> Goal[Framings]:
        """Return the picture as it is by now, for the drawing to be fit to."""
        return Goal(self._view, carry_back(self._source, self.editor.before, self.editor.pictures()))
