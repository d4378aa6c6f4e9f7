"""Edit NeRFs, 3D Gaussian splats, SVGs and pictures by text with Posterior Distillation Sampling.

For code of your own: `Guidance` turns pictures into a loss whose gradient edits them, `GuidanceConfig` says how, and
`UserError` names a mistake that you can mend. examples/quickstart.ipynb shows them at work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pds_nerfstudio.moved import follow_moves

if TYPE_CHECKING:
    from pds_nerfstudio.errors import UserError
    from pds_nerfstudio.guidance.config import GuidanceConfig
    from pds_nerfstudio.guidance.guidance import Guidance

__all__ = ["Guidance", "GuidanceConfig", "UserError"]
__version__ = "0.2.0"

_HOMES = {
    "Guidance": "pds_nerfstudio.guidance.guidance",
    "GuidanceConfig": "pds_nerfstudio.guidance.config",
    "UserError": "pds_nerfstudio.errors",
}

follow_moves()  # here, because Python imports this before any module of the package, by its old path or its new one


def __getattr__(name: str) -> Any:
    # At first use, not before: torch imports this package (for its entry point `torch.backends`) before torch itself
    # is whole, and who only asks for a submodule does not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
