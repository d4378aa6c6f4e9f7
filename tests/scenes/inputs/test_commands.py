"""Data named behind a parser's name, as `ns-train pds-splat … blender-data --data X` has it."""

from pathlib import Path
from typing import Any

import pytest
import tyro

from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes.data import check_data, data_of, lacks_data
from pds_nerfstudio.scenes.layouts import ending_of
from pds_nerfstudio.scenes.photos import RaysOfPhotos, WholePhotos
from tests.scenes.inputs import folders

METHODS = {"pds-splat": pds_splat.config, "pds-nerf": pds_nerf.config}
LAYOUTS: dict[str, Any] = {
    "blender-data": folders.blender,
    "colmap --colmap-path sparse/0 --images-path input": lambda folder: folders.colmap(
        folder, place="sparse/0", images="input"
    ),
    "phototourism-data": folders.phototourism,
    "scannet-data": folders.scannet,
    "scannetpp-data": folders.scannetpp,
    "arkit-data": folders.arkit,
    "sdfstudio-data": folders.sdfstudio,
    "nerfosr-data --scene church": folders.nerfosr,
    "sitcoms3d-data": folders.sitcoms3d,
    "dycheck-data": folders.dycheck,
    "minimal-parser": folders.minimal,
    "nerfstudio-data": folders.transforms,
}


def parse(*arguments: str) -> Any:
    """What ns-train makes of its arguments."""
    union: Any = tyro.extras.subcommand_type_from_defaults(METHODS)
    marked: Any = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[union]]  # type: ignore[misc]
    return tyro.cli(marked, args=arguments)


@pytest.mark.parametrize("ending", LAYOUTS)
def test_what_a_command_is_to_end_with_reads_the_folder(ending: str, tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    LAYOUTS[ending](folder)
    assert ending_of(folder) == ending
    extra = {"sitcoms3d-data": ["--downscale-factor", "1"], "scannet-data": ["--load-3D-points", "False"]}
    words = [*ending.split(), *extra.get(ending, [])]
    config = parse("pds-splat", *words, "--data", str(folder))
    assert data_of(config) == folder and not lacks_data(config)
    check_data(config, "splat")


@pytest.mark.parametrize(("method", "manager"), [("pds-splat", WholePhotos), ("pds-nerf", RaysOfPhotos)])
def test_the_method_keeps_its_data_manager(method: str, manager: type) -> None:
    config = parse(method, "--pipeline.tgt-prompt", "a dog", "blender-data", "--data", "lego")
    assert config.pipeline.datamanager._target is manager
    assert data_of(config) == Path("lego") and config.facts()["data"] == "lego"


def test_data_named_before_the_parser_count(tmp_path: Path) -> None:
    """Nerfstudio gives --data on to the data manager, and that to the parser."""
    config = parse("pds-nerf", "--data", "lego", "blender-data")
    assert data_of(config) == Path("lego")


def test_a_folder_that_is_none_of_these(tmp_path: Path) -> None:
    assert ending_of(tmp_path) is None and ending_of(tmp_path / "nothing") is None
