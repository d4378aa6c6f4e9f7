"""A picture's launches recorded once, forward and backward, and run again with other numbers.

The kernels of a picture take some .4 ms; Python needs ten times as long to launch them one by one. A CUDA graph
launches them all at once. It needs memory that stays where it is, which `room` provides.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

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
_WARM_UPS = 2
"""Pictures that are drawn before the recording, so that kernels are compiled and memory is there."""


class Recording:
    """A way to draw pictures of the same shapes again and again, differentiably.

    Args:
        draw: From the numbers to the picture and what it needed; waits for nothing.
        inputs: The numbers, on a GPU; those that require gradients get them.
    """

    def __init__(self, draw: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]], inputs: Sequence[Tensor]) -> None:
        self._inputs = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
        self._wanted = [t for t in self._inputs if t.requires_grad]
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.turn = 0
        """Counts the pictures."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        with torch.enable_grad(), torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                image, _ = draw(self._inputs)
                torch.autograd.grad(image, self._wanted, torch.zeros_like(image), allow_unused=True)
            # Other threads may go on as they please.
            with torch.cuda.graph(self._forward, stream=beside, capture_error_mode="thread_local"):
                self._image, self._needed = draw(self._inputs)
            self._on_image = torch.zeros_like(self._image)
            with torch.cuda.graph(
                self._backward, pool=self._forward.pool(), stream=beside, capture_error_mode="thread_local"
            ):
                self._gradients = torch.autograd.grad(self._image, self._wanted, self._on_image, allow_unused=True)
        here.wait_stream(beside)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Float[Tensor, "c h w"], Int[Tensor, "3"]]:
        """Return what is drawn, and what it needed: if there was no room, it is nothing."""
        image, needed = _Replay.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return image, needed

    def draw(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return a picture and what it needed, in memory that the next one overwrites."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.data.copy_(given)
        self._forward.replay()
        self.turn += 1
        return self._image.detach(), self._needed

    def gradients(self, on_image: Float[Tensor, "c h w"]) -> list[Tensor | None]:
        """Return the gradients by all inputs that the last picture has, given those by its pixels."""
        self._on_image.copy_(on_image)
        self._backward.replay()
        found = iter(self._gradients)
        wanted = (next(found) if t.requires_grad else None for t in self._inputs)
        return [None if gradient is None else gradient.clone() for gradient in wanted]


class _Replay(torch.autograd.Function):
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
        self._kinds: OrderedDict[Any, _Kind] = OrderedDict()

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
        return differentiable and inputs[0].is_cuda and not torch.cuda.is_current_stream_capturing()

    def _kind(self, inputs: Sequence[Tensor], size: Size) -> _Kind:
        key = (size, inputs[0].device, tuple((t.shape, t.requires_grad) for t in inputs))
        kind = self._kinds.setdefault(key, _Kind())
        self._kinds.move_to_end(key)
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        return kind

    def _record(self, kind: _Kind, inputs: Sequence[Tensor], size: Size) -> None:
        room = Room.for_(kind.needed)
        try:
            kind.recorded = Recording(lambda numbers: self._draw(numbers, size, room), inputs), room
        except RuntimeError as error:  # Drivers fail in ways of their own.
            self._can_record = False
            warnings.warn(f"Drawings are drawn kernel by kernel, more slowly ({first_line(error)}).", stacklevel=3)
