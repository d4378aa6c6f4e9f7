"""Objectives by name, with their options, and from other packages."""

import dataclasses
import sys
from pathlib import Path

import pytest

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.objectives.dreamcatalyst import DreamCatalyst
from pds_nerfstudio.guidance.objectives.pds import Pds
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES, make_objective, objective_text
from pds_nerfstudio.guidance.objectives.ssd import Ssd

OWN = """
from dataclasses import dataclass

from pds_nerfstudio.guidance.objectives import Objective, constant, guided_difference


@dataclass(frozen=True)
class Anchored(Objective):
    strength: float = 0.1
    rounds: int = 2
    doubled: bool = False

    def text(self, guidance_scale):
        return guided_difference(guidance_scale)

    def text_weight(self, schedule, t, stride):
        return constant(1, schedule, t)


class NoObjective:
    pass
"""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that defines an objective."""
    (tmp_path / "somebodys_objectives.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_objectives", raising=False)
    return "somebodys_objectives"


def test_options_follow_the_name() -> None:
    assert make_objective("pds") == Pds()
    assert make_objective("dreamcatalyst, delta=0.05,gamma=.2") == DreamCatalyst(delta=0.05, gamma=0.2)


def test_a_text_makes_the_objective_that_it_was_made_from() -> None:
    for name, objective in (("ssd", Ssd(trajectory=1.5)), ("dreamcatalyst", DreamCatalyst(0.1, 0.3, 1e-7))):
        assert make_objective(objective_text(name, objective)) == objective
    assert objective_text("pds", Pds()) == "pds"


def test_an_objective_of_another_package_has_its_own_options(own_package: str) -> None:
    objective = make_objective(f"{own_package}:Anchored,strength=2,rounds=3,doubled=true")
    assert dataclasses.astuple(objective) == (2.0, 3, True)  # type: ignore[call-overload]
    GuidanceConfig(objective=f"{own_package}:Anchored").check()


def test_another_package_can_register_a_name(own_package: str, tmp_path: Path) -> None:
    info = tmp_path / "somebodys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pds_nerfstudio.objectives]\nanchored = {own_package}:Anchored\n")
    assert type(make_objective("anchored,rounds=5")).__name__ == "Anchored"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "no objective 'magic': choose pds, sds, dds, dreamcatalyst, ssd, lusd"),
        ("pds,delta=1", "'pds' has no option 'delta=1': it has none"),
        ("ssd,delta=1", "'ssd' has no option 'delta=1': it has trajectory, enhancement, psi0"),
        ("ssd,psi0", "'ssd' has no option 'psi0': it has trajectory, enhancement, psi0, each as name=value"),
        ("ssd,psi0=much", "psi0 of the objective 'ssd' is 'much': give a number"),
        ("ssd,psi0=nan", "psi0 of the objective 'ssd' is nan: give a finite number"),
        ("ssd,enhancement=-1", "'ssd': enhancement is -1.0: give a finite number from 0 up"),
        ("dreamcatalyst,gamma=-2", "'dreamcatalyst': gamma is -2.0"),
        ("lusd,identity=1.5", "'lusd': identity is 1.5: give a share between 0 and 1"),
        ("lusd,last_std=-0.1", "'lusd': last_std is -0.1"),
        ("nowhere_at_all:Mine", "'nowhere_at_all:Mine' can't be imported"),
        ("math:pi", "'math:pi' is no dataclass derived from Objective"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_objective(text)
    assert "\n" not in str(error.value)


def test_a_class_that_is_no_objective_is_refused(own_package: str) -> None:
    with pytest.raises(UserError, match="no dataclass derived from Objective"):
        make_objective(f"{own_package}:NoObjective")


def test_the_help_names_every_objective_and_its_options() -> None:
    import inspect

    source = inspect.getsource(GuidanceConfig)
    for name, kind in OBJECTIVES.items():
        assert f"{name}:" in source
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            assert f"{field.name}={field.default}" in source


def test_what_earlier_versions_saved_is_taken_up() -> None:
    saved = vars(GuidanceConfig(guidance_scale=3.0)) | {
        "objective": "dreamcatalyst",
        "dreamcatalyst": {"delta": 0.05, "gamma": 0.8, "psi0": 0.075},
        "ssd": {"trajectory": 1.0, "enhancement": 5.5, "psi0": 0.075},
        "lusd": {},
    }
    config = GuidanceConfig.__new__(GuidanceConfig)
    config.__setstate__(saved)
    assert config == GuidanceConfig(guidance_scale=3.0, objective="dreamcatalyst,delta=0.05")
