"""What the package offers at its top, and that asking for nothing costs nothing."""

import subprocess
import sys

import pytest

import pds_nerfstudio
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance


def test_the_names_at_the_top_are_the_classes_themselves() -> None:
    assert pds_nerfstudio.Guidance is Guidance
    assert pds_nerfstudio.GuidanceConfig is GuidanceConfig
    assert pds_nerfstudio.UserError is UserError
    assert set(pds_nerfstudio.__all__) == {"Guidance", "GuidanceConfig", "UserError"} <= set(dir(pds_nerfstudio))


def test_a_star_takes_them_all() -> None:
    names: dict[str, object] = {}
    exec("from pds_nerfstudio import *", names)
    assert {name for name in names if not name.startswith("__")} == set(pds_nerfstudio.__all__)


def test_other_names_are_missing_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="'pds_nerfstudio' has no attribute 'Guidence'"):
        pds_nerfstudio.Guidence  # noqa: B018
    with pytest.raises(ImportError, match="Guidence"):
        from pds_nerfstudio import Guidence  # noqa: F401


def test_nothing_heavy_is_imported_before_a_name_is_used() -> None:
    """Torch itself imports the package while it is not yet whole."""
    program = (
        "import sys, pds_nerfstudio, pds_nerfstudio.errors\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'nerfstudio'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
        "pds_nerfstudio.Guidance\n"
        "assert 'torch' in sys.modules and 'nerfstudio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
