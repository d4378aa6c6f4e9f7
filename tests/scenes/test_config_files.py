"""A config.yml of a stranger is read only if nothing in it can run."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from nerfstudio.utils.writer import EventName

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.recipes import _toyworld_nerf, _toyworld_splat
from pds_nerfstudio.scenes.config_files import read_run_config
from pds_nerfstudio.scenes.trainer import EditTrainerConfig


@pytest.mark.parametrize("config", [_toyworld_splat(), _toyworld_nerf()], ids=["splat", "nerf"])
def test_what_a_run_writes_is_read(config: EditTrainerConfig, tmp_path: Path) -> None:
    config.data = tmp_path / "scene"
    (tmp_path / "config.yml").write_text(yaml.dump(config))
    read = read_run_config(tmp_path / "config.yml")
    assert isinstance(read, EditTrainerConfig) and yaml.dump(read) == yaml.dump(config)


def test_enumerations_are_read_as_python_3_11_2_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is Debian 12's."""
    monkeypatch.setattr(EventName, "__reduce_ex__", lambda self, _: (getattr, (EventName, self.name)))
    (tmp_path / "config.yml").write_text(yaml.dump(_toyworld_splat()))
    assert "apply:builtins.getattr" in (tmp_path / "config.yml").read_text()
    shown = read_run_config(tmp_path / "config.yml").logging.local_writer.stats_to_track
    assert EventName.ETA in shown and all(isinstance(one, EventName) for one in shown)


@pytest.mark.parametrize(
    "inside",
    [
        "!!python/object/apply:builtins.getattr [!!python/name:nerfstudio.utils.writer.EventName '', mro]",
        "!!python/object/apply:builtins.getattr [!!python/name:os.path.join '', '__globals__']",
        "!!python/object/apply:builtins.getattr [text, upper]",
        "!!python/object/apply:os.system ['touch {ran}']",
        "!!python/object/apply:subprocess.check_output [[touch, '{ran}']]",
        "!!python/object/new:subprocess.Popen [[touch, '{ran}']]",
        "!!python/object/apply:nerfstudio.utils.scripts.run_command ['touch {ran}']",
        "!!python/object/apply:builtins.exec [\"open('{ran}', 'w')\"]",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath ['{ran}']]",
        "!!python/name:os.system",
        "!!python/name:nerfstudio.utils.scripts.run_command",
        "!!python/module:antigravity",
        "!!python/object:nerfstudio.no.such.Thing {}",
        "!!python/object:nerfstudio.viewer.viewer.Viewer {}",
    ],
)
def test_what_could_run_is_refused_by_its_name(inside: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "config.yml").write_text(
        "!!python/object:pds_nerfstudio.scenes.trainer.EditTrainerConfig\ndata: " + inside.replace("{ran}", str(ran))
    )
    with pytest.raises(UserError, match=r"names .* is not read") as error:
        read_run_config(tmp_path / "config.yml")
    assert "\n" not in str(error.value) and not ran.exists()


@pytest.mark.parametrize("text", ["a: [", "[" * 20_000, "\0", "!!unknown x", "- &a [*b]"])
def test_what_is_no_yaml_is_said_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(text)
    with pytest.raises(UserError, match=r"can't be read as the config\.yml") as error:
        read_run_config(tmp_path / "config.yml")
    assert "\n" not in str(error.value)


def test_a_finished_edit_is_read_that_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pds_nerfstudio.scenes import loading

    def trusts(*_: Any) -> Any:
        raise AssertionError("nerfstudio reads it")

    monkeypatch.setattr(loading, "eval_setup", trusts)
    (tmp_path / "config.yml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(UserError, match=r"names os\.getcwd"):
        loading.FinishedEdit(tmp_path / "config.yml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "sh_degree: 3",
            "sh_degree: three",
            "pipeline.model.sh_degree as 'three'; a whole number",
        ),
        ("mode: 'off'", "mode: sideways", "camera_optimizer.mode as 'sideways'; off or SO3xR3"),
        (
            "refine_steps: 400",
            "refine_steps: 1.5",
            "pipeline.refine_steps as 1.5; a whole number",
        ),
        ("seed: 0", "seed: []", r"seed as \[\]; a whole number"),
        ("timestamp: '{timestamp}'", "timestamp: 7", "timestamp as 7; a text"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_with_what_there_should_be(
    old: str, new: str, says: str, tmp_path: Path
) -> None:
    text = yaml.dump(_toyworld_splat())
    assert old in text
    (tmp_path / "config.yml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=says.replace("; ", ", where there should be ")) as error:
        read_run_config(tmp_path / "config.yml")
    assert str(tmp_path / "config.yml") in str(error.value)
