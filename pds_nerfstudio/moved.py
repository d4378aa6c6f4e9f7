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
from types import ModuleType
from typing import Any

MOVED = {
    # Until 0.2.0
    "pds_nerfstudio.scenes.nerf": "pds_nerfstudio.scenes.models.nerf",
    "pds_nerfstudio.scenes.splat": "pds_nerfstudio.scenes.models.splat",
}
"""New paths by old ones, of modules whose classes stand in saved runs. Add a row when such a module moves."""


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
        sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def follow_moves() -> None:
    """Have imports by the old paths in `MOVED` find the new ones. Calling this again changes nothing."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
