"""again.sh of scenes: ns-train makes of it the configuration that the run had, and can run it."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tyro
from nerfstudio.configs.method_configs import all_methods

from pds_nerfstudio.again import FURTHER_OPTIONS, NAME
from pds_nerfstudio.scenes.again import write_config
from pds_nerfstudio.scenes.live.session import Request
from pds_nerfstudio.scenes.trainer import EditTrainer

PROMPTS = ("--pipeline.src-prompt", 'it\'s a "cat"', "--pipeline.tgt-prompt", "--a dog; $HOME")
KINDS: dict[str, list[str]] = {
    "a recipe": ["pds-splat-toyworld", "--max-num-iterations", "7", "--pipeline.guidance.guidance-scale", "1e-05"],
    "a NeRF": ["pds-nerf", "--machine.seed", "3", "--mixed-precision", "False", "--steps-per-picture", "0"],
    "rates": ["pds-splat", "--optimizers.means.optimizer.lr", "0.5", "--pipeline.model.background-color", "white"],
    "a choice": ["pds-splat", "--pipeline.only.balls", "-1", "2", "3", "-4e-5", "--pipeline.only.words", "hat"],
    "a parser": ["pds-splat", "colmap", "--eval-mode", "all", "--colmap-path", "sparse/0"],
}


def parse(*arguments: str) -> Any:
    """What ns-train makes of its arguments."""
    some = {name: all_methods[name] for name in {arguments[0], "pds-splat", "pds-nerf"}}  # all take seconds
    union: Any = tyro.extras.subcommand_type_from_defaults(some)
    marked: Any = tyro.conf.SuppressFixed[tyro.conf.FlagConversionOff[union]]  # type: ignore[misc]
    return tyro.cli(marked, args=arguments)


def written(config: Any, folder: Path, *further: str) -> list[str]:
    """The words that ns-train gets from the script of a configuration."""
    write_config(config, folder)
    script = folder / NAME
    script.write_text(script.read_text().replace("exec ns-train", "exec printf '%s\\0'"))
    done = subprocess.run(["sh", script, *further], capture_output=True, check=True)
    return os.fsdecode(done.stdout).split("\0")[:-1]


def as_asked(config: Any) -> Any:
    """A configuration as ns-train has it when it writes it first."""
    if config.data:
        config.pipeline.datamanager.data = config.data
    config.set_experiment_name()
    config.timestamp = "now"
    return config


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_the_same_configuration(kind: str, tmp_path: Path) -> None:
    method, *options = KINDS[kind]
    place = next((i for i, word in enumerate(options) if word == "colmap"), len(options))
    asked = [f"{PROMPTS[2]}={PROMPTS[3]}", *PROMPTS[:2], "--data", "my scene", "--output-dir", "a b"]
    config = as_asked(parse(method, *options[:place], *asked, *options[place:]))
    assert as_asked(parse(*written(config, tmp_path))) == config


def test_further_options_count_more_and_are_the_pipelines(tmp_path: Path) -> None:
    config = as_asked(parse("pds-splat", "--max-num-iterations", "5", "colmap", "--eval-mode", "all"))
    config.pipeline.tgt_prompt = "a dog"
    again = parse(*written(config, tmp_path, "--max-num-iterations", "9", "--pipeline.tgt-prompt", "a cow"))
    assert again.max_num_iterations == 9 and again.pipeline.tgt_prompt == "a cow"
    assert again.pipeline.datamanager.dataparser.eval_mode == "all"


@pytest.mark.parametrize("start", [["--load-dir", "a/b"], ["--load-checkpoint", "c.ckpt"], ["--load-ply", "d.ply"]])
def test_another_start_takes_the_place_of_the_runs_own(start: list[str], tmp_path: Path) -> None:
    config = as_asked(parse("pds-splat", *start))
    again = parse(*written(config, tmp_path))
    assert (again.load_dir, again.load_checkpoint, again.load_ply) == (
        config.load_dir,
        config.load_checkpoint,
        config.load_ply,
    )
    again = parse(*written(config, tmp_path, "--load-dir", "e"))
    assert (again.load_dir, again.load_checkpoint, again.load_ply) == (Path("e"), None, None)


def test_parts_of_a_list_are_options_and_what_is_none_is_told(make_config: Any, tmp_path: Path) -> None:
    config = make_config("nerf")
    model = config.pipeline.model
    assert parse(*written(config, tmp_path)).pipeline.model.proposal_net_args_list == model.proposal_net_args_list
    model.proposal_net_args_list = model.proposal_net_args_list[:1]
    assert parse(*written(config, tmp_path)).pipeline.model.num_levels == 4
    assert "pipeline.model.proposal_net_args_list" in (tmp_path / NAME).read_text()


def test_a_run_that_goes_on_in_its_folder_keeps_what_began_it(make_config: Any, tmp_path: Path) -> None:
    config = make_config("splat")
    config.save_config()
    began = (config.get_base_dir() / NAME).read_text()
    config.load_dir = config.get_checkpoint_dir()
    config.save_config()
    assert (config.get_base_dir() / NAME).read_text() == began and "load_dir" in (
        config.get_base_dir() / "config.yml"
    ).read_text()


def test_a_finished_edit_can_be_opened_to_steer_it_further(
    finished: Any, make_config: Any, prepare: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = finished("splat")
    monkeypatch.setattr(EditTrainer, "stays_open", property(lambda self: True))
    trainer = prepare(config := make_config("splat", load_dir=begun.checkpoint_dir, show_edit=True))
    watch.progress.clear()
    trainer.session.ask(Request("edit", {"tgt_prompt": "a cow", "round": "here"}))
    watch.before = lambda call: trainer.session.ask(Request("stop")) if call == 1 else None
    trainer.train()
    opened = config.get_base_dir()
    assert (opened / "report.html").exists() and trainer.base_dir != opened
    assert trainer.next_step == begun.next_step + 2 and trainer.pipeline.settings["tgt_prompt"] == "a cow"
    assert "a cow" in (trainer.base_dir / NAME).read_text() and "a dog" in (opened / NAME).read_text()


@pytest.mark.slow
def test_it_runs(finished: Any, tmp_path: Path, differences: Any, last_state: Any) -> None:
    trainer = finished("splat")
    script = trainer.base_dir / NAME
    where = ["--output-dir", str(tmp_path), "--timestamp", "again", "--show-edit", "False"]
    done = subprocess.run(["sh", script, *where], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (folder,) = tmp_path.glob("*/*/again")
    (checkpoint,) = (folder / "nerfstudio_models").iterdir()
    assert checkpoint.name == next(trainer.checkpoint_dir.iterdir()).name
    said = done.stdout
    for title in ("the same again", "other words", "more steps", "steer it"):
        line = next(line for line in said.splitlines() if line.startswith(f"  {title}")).removeprefix(f"  {title}")
        assert shlex.split(line)[:2] == ["sh", str(folder / NAME)]
    assert FURTHER_OPTIONS in script.read_text()
