"""A picture's launches recorded once, forward and backward, and run again with other numbers.

The kernels of a picture take some .4 ms, and Python ten times as long to launch them one by one. A recording (see
`cuda_graph`) needs memory that stays where it is, which `room` provides.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pds_nerfstudio.cuda_graph import Kinds, Replay, can_record
from pds_nerfstudio.errors import first_line
from pds_nerfstudio.vector.raster.triton.room import Room

Size = tuple[int, int, bool]
"""Width and height of a picture in pixels, and whether it is opaque."""
Draw = Callable[[Sequence[Tensor], Size, Room | None], tuple[Float[Tensor, "c h w"], Int[Tensor, "3"]]]
"""From a picture's numbers to the picture, and how many chords, edges and cells it needed."""

_SEEN = 2
"""Pictures of a kind that are drawn as they come, before the next is recorded."""
_KINDS = 2
"""Kinds of pictures of which recordings are kept, each with memory of its own."""


class Recording:
    """A way to draw pictures of the same shapes again and again, differentiably.

    Args:
        draw: From the numbers to the picture and what it needed; waits for nothing.
        inputs: The numbers, on a GPU; those that require gradients get them.
    """

    def __init__(self, draw: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]], inputs: Sequence[Tensor]) -> None:
        self.turn = 0
        """Counts the pictures."""
        with torch.enable_grad():
            self._forward = Replay(draw, inputs)
            image, _ = self._forward(inputs)  # a recording alone computes nothing that could be pulled at
            assert image is not None
            wanted = [t for t in self._forward.inputs if t.requires_grad]

            def pull(given: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
                return torch.autograd.grad(image, wanted, given, allow_unused=True, retain_graph=True)

            self._backward = Replay(pull, [torch.zeros_like(image)], pool=self._forward)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Float[Tensor, "c h w"], Int[Tensor, "3"]]:
        """Return what is drawn, and what it needed: if there was no room, it is nothing."""
        image, needed = _Replayed.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return image, needed

    def draw(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return a picture and what it needed, in memory that the next one overwrites."""
        image, needed = self._forward(inputs)
        assert image is not None
        assert needed is not None
        self.turn += 1
        return image.detach(), needed

    def gradients(self, on_image: Float[Tensor, "c h w"]) -> list[Tensor | None]:
        """Return the gradients by all inputs that the last picture has, given those by its pixels."""
        found = iter(self._backward([on_image]))
        wanted = (next(found) if t.requires_grad else None for t in self._forward.inputs)
        return [None if gradient is None else gradient.clone() for gradient in wanted]


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: Recording, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        image, needed = recording.draw(inputs)
        needed = needed.clone()
        ctx.recording, ctx.turn = recording, recording.turn
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(needed)
        return image.clone(), needed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, on_image: Tensor, _: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        recording = ctx.recording
        if recording.turn != ctx.turn:  # another picture was drawn since
            recording.draw(ctx.saved_tensors)
        return None, *recording.gradients(on_image)


@dataclass
class _Kind:
    """Pictures of the same size, whose numbers have the same shapes."""

    seen: int = 0
    """How many were drawn as they came."""
    needed: list[int] = field(default_factory=lambda: [0, 0, 0])
    """The most chords, edges and cells that one of them needed."""
    recorded: tuple[Recording, Room] | None = None
    """What draws them, if it has been recorded, and what it has room for."""


class RecordingDrawer:
    """Draws pictures as they come, and those that come again by a recording.

    Args:
        draw: Waits for the device only where it is given no room.
        can_record: Whether it does not.
    """

    def __init__(self, draw: Draw, can_record: bool) -> None:
        self._draw, self._can_record = draw, can_record
        self._kinds = Kinds(_Kind, _KINDS)

    def __call__(self, inputs: Sequence[Tensor], size: Size) -> Float[Tensor, "c h w"]:
        """Return a picture, differentiable by the inputs that require gradients."""
        if not (self._can_record and self._is_worth_recording(inputs)):
            return self._draw(inputs, size, None)[0]
        kind = self._kind(inputs, size)
        if kind.seen >= _SEEN and kind.recorded is None:
            self._record(kind, inputs, size)
        if kind.recorded is not None:
            recording, room = kind.recorded
            image, needed = recording(inputs)
            if room.holds(needed.tolist()):
                return image
            kind.recorded = None
        image, needed = self._draw(inputs, size, None)
        kind.needed = [max(pair) for pair in zip(kind.needed, needed.tolist(), strict=True)]
        kind.seen += 1
        return image

    @staticmethod
    def _is_worth_recording(inputs: Sequence[Tensor]) -> bool:
        differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        return differentiable and can_record(inputs[0].device)

    def _kind(self, inputs: Sequence[Tensor], size: Size) -> _Kind:
        key = (size, inputs[0].device, tuple((t.shape, t.requires_grad) for t in inputs))
        return self._kinds[key]

    def _record(self, kind: _Kind, inputs: Sequence[Tensor], size: Size) -> None:
        room = Room.for_(kind.needed)
        try:
            kind.recorded = Recording(lambda numbers: self._draw(numbers, size, room), inputs), room
        except RuntimeError as error:  # Drivers fail in ways of their own.
            self._can_record = False
            warnings.warn(f"Drawings are drawn kernel by kernel, more slowly ({first_line(error)}).", stacklevel=3)
