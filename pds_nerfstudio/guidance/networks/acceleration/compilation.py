"""A network compiled with `torch.compile`, which runs as it is wherever that fails.

On a GPU the compiled network is replayed as CUDA graphs: its few hundred kernels are launched as one, from buffers that
stay where they are.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

_CALLS_TO_SETTLE = 3
"""CUDA graphs warm up in the first call, are recorded in the second, and replayed from the third on."""


class CompiledNetwork:
    """A function of tensors that is compiled when it first meets inputs of a shape.

    That takes up to a few minutes, says so, and is kept on disk for later runs. Inputs for which it fails are computed
    by the function itself, after one warning.

    What a network returns is copied out of the graphs' static buffers, so results may be kept. But of a differentiable
    one only the newest result can be back-propagated: a new call reuses the activations.

    Args:
        function: A frozen network, of one tensor or several.
        name: For messages.
        device: Where it runs.
        differentiable: Whether gradients flow to its first input. If so, one compiled graph serves calls with and
            without gradients: equal inputs have equal outputs, to the last bit.
    """

    def __init__(
        self, function: Callable[..., Tensor], name: str, device: torch.device, differentiable: bool = False
    ) -> None:
        self._function = function
        self._name = name
        self._device = device
        self._differentiable = differentiable
        self._runs_compiled: dict[tuple[object, ...], bool] = {}
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_cache_folder()))
        self._compiled = torch.compile(
            function,
            # Views come in few sizes: kernels for each are faster than kernels for any.
            dynamic=False,
            # A network in pieces would be several graphs with Python between: rather the way back, with its warning.
            fullgraph=True,
            mode="reduce-overhead" if device.type == "cuda" else None,
        )

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the function returns, up to rounding."""
        key = tuple((tuple(x.shape), x.dtype, x.stride()) for x in inputs)
        if key not in self._runs_compiled:
            self._runs_compiled[key] = self._compile_for(inputs)
        return self._run(inputs) if self._runs_compiled[key] else self._function(*inputs)

    def _run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        if not self._differentiable:
            return self._compiled(*inputs).clone()
        first, *others = inputs
        keeps_graph = torch.is_grad_enabled() and first.requires_grad
        if self._device.type == "cuda":
            # The last step's graph is done with, also where nobody has back-propagated it.
            torch.compiler.cudagraph_mark_step_begin()
        with torch.enable_grad():
            result = self._compiled(first if first.requires_grad else first.detach().requires_grad_(), *others).clone()
        return result if keeps_graph else result.detach()

    def _compile_for(self, inputs: tuple[Tensor, ...]) -> bool:
        """Compile for inputs like these, forward and backward; returns whether it can be used."""
        shape = " × ".join(str(side) for side in inputs[0].shape)
        print(f"Compiling the {self._name} for {shape} (kept for later runs) ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            for _ in range(_CALLS_TO_SETTLE):
                self._try(inputs)
        except Exception as error:  # Compilers fail in ways of their own; whatever it was, the network itself can run.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
            warnings.warn(
                f"The {self._name} can't be compiled here ({reason}): it runs as it is, only slower. With "
                "compile 'off' this is not tried again.",
                stacklevel=4,
            )
            return False
        print(f"Compiled the {self._name} in {time.monotonic() - began:.0f} s.", file=sys.stderr, flush=True)
        return True

    def _try(self, inputs: tuple[Tensor, ...]) -> None:
        if not self._differentiable:
            self._run(inputs)
            return
        with torch.enable_grad():
            trial = (inputs[0].detach().requires_grad_(), *inputs[1:])
            output = self._run(trial)
        torch.autograd.grad(output, trial[0], torch.ones_like(output))


def _cache_folder() -> Path:
    """Where compiled networks are kept. PyTorch's own choice is a temporary folder, emptied when the machine starts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pds_nerfstudio" / "compiled"
