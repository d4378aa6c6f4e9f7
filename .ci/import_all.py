"""Import every module of the package, and say with which versions; those of its dependencies may be the lowest."""

import importlib
import pkgutil
import sys
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__":
    if (checkout := Path(__file__).parents[1]) and "--installed" not in sys.argv:
        sys.path.insert(0, str(checkout))
    import pds_nerfstudio

    names = [module.name for module in pkgutil.walk_packages(pds_nerfstudio.__path__, "pds_nerfstudio.")]
    for name in names:
        importlib.import_module(name)
    shown = ("torch", "diffusers", "transformers", "gsplat", "nerfstudio", "numpy", "tyro")
    versions = ", ".join(f"{name} {version(name)}" for name in shown)
    print(f"Imported {len(names)} modules on Python {sys.version.split()[0]} with {versions}")
