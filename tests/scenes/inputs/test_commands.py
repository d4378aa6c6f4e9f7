"""Data named behind a parser's name, as `ns-train pds-splat … blender-data --data X` has it."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes import data, layouts
from pds_nerfstudio.scenes.data import check_data, data_of, lacks_data
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
    assert layouts.ending_of(folder) == ending
    extra = {"sitcoms3d-data": ["--downscale-factor", "1"], "scannet-data": ["--load-3D-points", "False"]}
    words = [*ending.split(), *extra.get(ending, [])]
    config = parse("pds-splat", *words, "--data", str(folder))
    assert data_of(config) == folder and not lacks_data(config)
    check_data(config, "splat")


@pytest.mark.parametrize("data", [".", "..", "my photos"])
def test_commands_that_make_scenes_can_be_typed(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "man" / "my photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "man" / ("my photos" if data == ".." else "."))
    (Path(data) / "a.jpg").touch()
    with pytest.raises(UserError) as refused:
        layouts.check_layout(Path(data), "nerfstudio-data")
    command = shlex.split(str(refused.value).partition("make a scene with ")[2].rstrip("."))
    assert command[:4] == ["ns-process-data", "images", "--data", data]
    assert command[4] == "--output-dir" and Path(command[5]).resolve() != Path(data).resolve()


def test_a_model_of_colmap_may_lie_elsewhere(tmp_path: Path) -> None:
    folders.colmap(tmp_path, place="elsewhere")
    (tmp_path / "data").mkdir()
    layouts.check_layout(tmp_path / "data", "colmap", tmp_path / "elsewhere")


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
    assert layouts.ending_of(tmp_path) is None and layouts.ending_of(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "blender-data",
        "colmap --eval-mode all --colmap-path sparse/0",
        "nerfstudio-data --auto-scale-poses False --mask-color 0.0 0.5 1.0",
    ],
)
def test_a_run_knows_how_its_command_ended(ending: str) -> None:
    config = parse("pds-splat", *ending.split())
    assert data.ending_of(config) == ending
    assert config.facts().get("data parser", "") == ending


def test_the_run_again_ends_so_too(make_config: Any, tmp_path: Path) -> None:
    config = make_config("splat", data=None, pipeline__datamanager__data=None)
    config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=tmp_path)
    config.save_config()
    lines = (config.get_base_dir() / "again.sh").read_text().splitlines()
    assert f"exec ns-train pds-splat --data {tmp_path} \\" in lines
    assert lines[-1].strip() == '"$@" blender-data'
