"""nerfstudio's hash encoding, computed by what is fastest where its input lies.

| where | what computes it |
|---|---|
| GPU, with tiny-cuda-nn (`implementation="tcnn"`) | tiny-cuda-nn, as nerfstudio has it |
| GPU, with Triton | `hash_grid_triton` |
| GPU, with neither | PyTorch, as nerfstudio has it |
| CPU | `hash_grid_cpu` |

All are the same function up to rounding. Parameters and their names stay, so checkpoints fit either way.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import torch
from nerfstudio.field_components.encodings import HashEncoding
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.kernels import hash_grid_cpu

TritonUse = Literal["auto", "on", "off"]
"""Whether Triton's kernels run where they can. auto: if Triton is installed."""


def has_triton(use: TritonUse) -> bool:
    """Return whether Triton's kernels are to run where they can.

    Raises:
        UserError: If they are asked for, and Triton is not installed.
    """
    if use == "off":
        return False
    try:
        from pds_nerfstudio.scenes.kernels import hash_grid_triton  # noqa: F401
    except ImportError:
        if use == "on":
            raise UserError("Triton is not installed: leave out --pipeline.model.triton on.") from None
        return False
    return True


def speed_up(model: nn.Module, triton: bool) -> int:
    """Compute a model's hash encodings as in the table above; return how many there are.

    Those of tiny-cuda-nn stay as they are, and are not counted.

    Args:
        model: Changed in place.
        triton: Whether Triton is there, and to be used.
    """
    encodings = [part for part in model.modules() if isinstance(part, HashEncoding) and part.tcnn_encoding is None]
    for encoding in encodings:
        if triton:
            # nerfstudio keeps the scalings on the CPU, and sends them anew for each call.
            scalings = encoding.scalings.to(encoding.hash_table.device, torch.float32)
            encoding.register_buffer("_scalings_on_device", scalings, persistent=False)
        encoding.pytorch_fwd = partial(_run, encoding, encoding.pytorch_fwd, triton)  # type: ignore[method-assign]
    return len(encodings)


def _run(encoding: HashEncoding, in_pytorch: Any, triton: bool, positions: Tensor) -> Tensor:
    if triton:
        from pds_nerfstudio.scenes.kernels import hash_grid_triton

        if hash_grid_triton.runs_in_triton(positions):
            scalings = cast(Tensor, encoding._scalings_on_device)
            return hash_grid_triton.hash_grid(positions, encoding.hash_table, scalings)
    if positions.device.type == "cpu":
        return hash_grid_cpu.hash_grid(positions, encoding.hash_table, encoding.scalings)
    return cast(Tensor, in_pytorch(positions))
