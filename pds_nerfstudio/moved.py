"""Where modules of earlier versions are now.

nerfstudio saves a run's configuration with the import paths of its classes. Runs that people have saved must go on
loading, so the old path of a module that moved goes on leading to it. `pds_nerfstudio/__init__.py` sees to that before
any of its modules can be asked for. This module therefore imports nothing that takes time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

MOVED = {
    # Until 0.2.0
    "pds_nerfstudio.guidance.refinement": "pds_nerfstudio.guidance.redraw",
    "pds_nerfstudio.scenes.nerf": "pds_nerfstudio.scenes.models.nerf",
    "pds_nerfstudio.scenes.splat": "pds_nerfstudio.scenes.models.splat",
}
"""New paths by old ones, of modules whose classes stand in saved runs. Add a row when such a module moves."""

_OBJECTIVES = "pds_nerfstudio.guidance.objectives"
RENAMED = {
    # Until 0.2.0
    "pds_nerfstudio.guidance.refinement": {"RefinementConfig": "pds_nerfstudio.guidance.redraw:RedrawConfig"},
    _OBJECTIVES: {
        "DreamCatalystParameters": f"{_OBJECTIVES}.dreamcatalyst:DreamCatalyst",
        "LusdParameters": f"{_OBJECTIVES}.lusd:Lusd",
        "SsdParameters": f"{_OBJECTIVES}.ssd:Ssd",
    },
}
"""New classes by the old modules and names of such as were renamed."""


def renamed(module: str, name: str) -> Any:
    """Return what `module` once called `name`. Modules that still exist call this in their `__getattr__`.

    Raises:
        AttributeError: If there never was such a thing.
    """
    path = RENAMED.get(module, {}).get(name)
    if path is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return resolve_name(path)


class _MovedModules:
    """Finds modules by their old paths: an entry of `sys.meta_path`, behind those that find what is there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        loader: Any = self  # no subclass of `importlib.abc.Loader`: importing that takes time
        return ModuleSpec(fullname, loader) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make a module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        # Python returns what stands here afterwards, so both paths lead to one module.
        sys.modules[module.__name__] = new = import_module(MOVED[module.__name__])
        for name in RENAMED.get(module.__name__, {}):
            setattr(new, name, renamed(module.__name__, name))


def follow_moves() -> None:
    """Let imports by the old paths in `MOVED` find the new ones. Calling this again changes nothing."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
