"""Runs of the two methods: how many steps they run, what they keep, and what they say when something is wrong."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from pds_nerfstudio.guidance.gradient import GuidanceOutput
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.output.results import evaluation_decibels
from pds_nerfstudio.scenes.trainer import EditTrainer

KINDS = ["splat", "nerf"]


def checkpoints(trainer: EditTrainer) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in trainer.checkpoint_dir.glob("*"))


def parameters(trainer: EditTrainer) -> dict[str, torch.Tensor]:
    model: Any = trainer.pipeline.model
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def interrupt_at(call: int) -> Callable[[int], None]:
    def interrupt(now: int) -> None:
        if now == call:
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


class TestNumberOfSteps:
    def test_from_nothing(self, host: str, make_config: Any, run: Any, watch: Any) -> None:
        trainer = run(make_config("splat", steps=4, reconstruct=3))
        assert watch.progress == pytest.approx([0, 1 / 3, 2 / 3, 1])
        assert checkpoints(trainer) == [6]
        assert trainer.step == 6
        assert sorted((trainer.base_dir / "reconstruction").iterdir()) == [
            trainer.base_dir / "reconstruction" / "step-000000002.ckpt"
        ]

    @pytest.mark.parametrize("step", [0, 29999])
    def test_from_a_plain_checkpoint(
        self, step: int, host: str, make_config: Any, run: Any, watch: Any, plain_run: Any
    ) -> None:
        trainer = run(make_config("splat", steps=4, load_dir=plain_run("splat", step)))
        assert watch.progress == pytest.approx([0, 1 / 3, 2 / 3, 1])
        assert checkpoints(trainer) == [step + 4]

    def test_resumed(self, host: str, make_config: Any, run: Any, watch: Any) -> None:
        watch.before = interrupt_at(1)
        stopped = run(make_config("splat", steps=5, reconstruct=3))
        assert watch.calls == 2 and checkpoints(stopped) == [4]
        trainer = run(make_config("splat", "resumed", steps=5, reconstruct=3, load_dir=stopped.checkpoint_dir))
        assert watch.progress == pytest.approx([0, 0.25, 0.5, 0.75, 1])
        assert checkpoints(trainer) == [7]

    def test_resumed_while_it_was_still_reconstructing(
        self, make_config: Any, run: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = EditTrainer.train_iteration

        def interrupted(self: EditTrainer, step: int) -> Any:
            if step == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return usual(self, step)

        with monkeypatch.context() as patched:
            patched.setattr(EditTrainer, "train_iteration", interrupted)
            stopped = run(make_config("splat", steps=2, reconstruct=4))
        assert checkpoints(stopped) == [1] and watch.calls == 0
        # The edit begins where the interrupted run had planned it.
        resumed = run(make_config("splat", "resumed", steps=2, reconstruct=9, load_dir=stopped.checkpoint_dir))
        assert checkpoints(resumed) == [5] and watch.calls == 2

    def test_a_finished_edit_goes_on_when_it_is_given_more_steps(
        self, finished: Any, make_config: Any, run: Any, watch: Any
    ) -> None:
        folder = finished("splat").checkpoint_dir
        watch.progress.clear()
        trainer = run(make_config("splat", steps=5, load_dir=folder))
        assert watch.progress == pytest.approx([0.75, 1])
        assert checkpoints(trainer) == [6]

    def test_the_reconstruction_is_a_start_for_another_edit(
        self, finished: Any, make_config: Any, run: Any, watch: Any
    ) -> None:
        folder = finished("splat").base_dir / "reconstruction"
        watch.progress.clear()
        kept = {"pipeline__model__edit_refine_every": 0}  # of what was strewn in vain, too
        trainer = run(make_config("splat", steps=3, reconstruct=99, load_dir=folder, **kept))
        assert watch.calls == 3 and checkpoints(trainer) == [4]
        assert trainer.pipeline.model.num_points == 200 + 40  # strewn once, by this edit


class TestJudgement:
    @pytest.mark.filterwarnings("ignore:LPIPS reads NaN:UserWarning")
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_what_nerfstudio_says_of_the_evaluation_views(self, kind: str, finished: Any) -> None:
        pipeline = finished(kind).pipeline
        decibels = evaluation_decibels(pipeline, 2)
        with torch.no_grad():
            for ours, (camera, batch) in zip(
                decibels, pipeline.datamanager.fixed_indices_eval_dataloader, strict=False
            ):
                outputs = pipeline.model.get_outputs_for_camera(camera)
                metrics, _ = pipeline.model.get_image_metrics_and_images(outputs, batch)
                assert ours == pytest.approx(metrics["psnr"], abs=1e-3)
        assert 0 < len(decibels) <= 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_a_data_set_without_such_views_nothing_is_said(self, kind: str, make_config: Any, prepare: Any) -> None:
        config = make_config(kind, pipeline__datamanager__dataparser__train_split_fraction=1.0)
        assert evaluation_decibels(prepare(config).pipeline, 2) == []

    def test_a_poor_scene_is_called_so_before_it_is_edited(
        self, make_config: Any, run: Any, watch: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any
    ) -> None:
        for decibels, poor in ([12.0, 14.0], True), ([30.0, 31.0], False), ([], False):
            monkeypatch.setattr("pds_nerfstudio.scenes.output.results.evaluation_decibels", lambda *_, d=decibels: d)
            run(make_config("splat", f"judged{len(decibels)}{poor}", steps=1, reconstruct=2))
            said = capsys.readouterr().out
            assert ("a poor scene" in said) == poor
            assert ("Reconstructed: " in said) == bool(decibels)
        assert watch.calls == 3


@pytest.mark.parametrize("kind", KINDS)
class TestRepeatability:
    def test_the_same_seed_gives_the_same_checkpoint(
        self, kind: str, finished: Any, make_config: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        first = last_state(finished(kind))
        assert differences(first, last_state(run(make_config(kind)))) == []

    def test_another_seed_gives_another(
        self, kind: str, finished: Any, make_config: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        other = last_state(run(make_config(kind, pipeline__guidance__seed=1)))
        assert differences(last_state(finished(kind))["pipeline"], other["pipeline"])


class TestInterruption:
    def test_a_resumed_run_ends_as_if_it_had_not_been_interrupted(
        self, make_config: Any, run: Any, watch: Any, last_state: Any, differences: Any
    ) -> None:
        straight = run(make_config("splat", "straight", steps=6))
        keys, watch.keys = watch.keys, []
        watch.progress.clear()
        watch.before = interrupt_at(2)
        stopped = run(make_config("splat", "stopped", steps=6))
        resumed = run(make_config("splat", "resumed", steps=6, load_dir=stopped.checkpoint_dir))
        assert watch.keys == keys
        # Among these: the guidance's random state, edit_start, Adam's moments, and no second strewing.
        assert differences(last_state(straight), last_state(resumed)) == []

    def test_ctrl_c_is_pythons_again_afterwards(self, make_config: Any, run: Any, watch: Any) -> None:
        before = signal.getsignal(signal.SIGINT)
        watch.before = interrupt_at(0)
        run(make_config("splat"))
        assert signal.getsignal(signal.SIGINT) is before

    def test_a_second_ctrl_c_stops_at_once(self, make_config: Any, run: Any, watch: Any) -> None:
        def twice(call: int) -> None:
            # Not os.kill: two signals to a process may be seen as one, raised ones are seen before the call returns.
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        watch.before = twice
        usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        try:
            with pytest.raises(KeyboardInterrupt):
                run(make_config("splat"))
        finally:
            signal.signal(signal.SIGINT, usual)

    def test_before_the_loop_begins_it_is_not_forgotten(
        self, make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = prepare(make_config("splat", reconstruct=5))
        monkeypatch.setattr(trainer, "_init_viewer_state", lambda: os.kill(os.getpid(), signal.SIGINT))
        trainer.train()
        assert not trainer.checkpoint_dir.exists()

    def test_of_a_run_that_was_paused_from_the_start_there_is_nothing_to_save(
        self, make_config: Any, prepare: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = prepare(make_config("splat", start_paused=True))
        monkeypatch.setattr("nerfstudio.engine.trainer.time.sleep", lambda _: os.kill(os.getpid(), signal.SIGINT))
        trainer.train()
        assert not trainer.checkpoint_dir.exists()

    def test_no_results_are_written(self, make_config: Any, run: Any, watch: Any) -> None:
        watch.before = interrupt_at(0)
        trainer = run(make_config("splat", show_edit=True))
        assert not (trainer.base_dir / "edited_views").exists()


class TestPlainCheckpoints:
    @pytest.mark.parametrize("appearance", [True, False])
    @pytest.mark.parametrize("config_beside_it", [True, False])
    def test_nerfacto(
        self, appearance: bool, config_beside_it: bool, make_config: Any, prepare: Any, plain_run: Any
    ) -> None:
        # What the weights can't tell must fit by itself where there is no config.yml.
        own = {"num_levels": 3, "camera_optimizer": make_config("nerf").pipeline.model.camera_optimizer}
        own["appearance_embed_dim"] = 6
        folder = plain_run("nerf", use_appearance_embedding=appearance, **own)
        options = {} if config_beside_it else {"pipeline__model__num_levels": 3}
        if not config_beside_it:
            (folder.parent / "config.yml").unlink()
        trainer = prepare(make_config("nerf", load_dir=folder, **options))
        state = torch.load(next(folder.iterdir()), weights_only=True)["pipeline"]
        ours = trainer.pipeline.state_dict()
        theirs = {name: value for name, value in state.items() if "lpips" not in name}
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        assert (trainer.pipeline.model.field.embedding_appearance is not None) == appearance
        saved = yaml.load((trainer.base_dir / "config.yml").read_text(), yaml.Loader)
        assert saved.pipeline.model.num_levels == 3
        assert saved.pipeline.model.use_appearance_embedding == appearance

    @pytest.mark.parametrize("config_beside_it", [True, False])
    def test_splatfacto(self, config_beside_it: bool, make_config: Any, prepare: Any, plain_run: Any) -> None:
        folder = plain_run("splat", sh_degree=2)
        if not config_beside_it:
            (folder.parent / "config.yml").unlink()
        trainer = prepare(make_config("splat", load_checkpoint=next(folder.iterdir())))
        state = torch.load(next(folder.iterdir()), weights_only=True)["pipeline"]
        model = trainer.pipeline.model
        assert torch.equal(model.means, state["_model.gauss_params.means"])
        assert model.config.sh_degree == 2

    def test_splatfacto_of_another_size_and_with_its_early_names(
        self, make_config: Any, run: Any, plain_run: Any
    ) -> None:
        (path,) = plain_run("splat").iterdir()
        state = torch.load(path, weights_only=True)
        state["pipeline"] = {
            name.replace("gauss_params.", ""): value[:150] if "gauss_params" in name else value
            for name, value in state["pipeline"].items()
        }
        torch.save(state, path)
        trainer = run(make_config("splat", load_checkpoint=path, pipeline__model__strewn_gaussians=0))
        assert trainer.pipeline.model.num_points == 150

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_several_gpus(self, kind: str, make_config: Any, prepare: Any, plain_run: Any) -> None:
        (path,) = plain_run(kind).iterdir()
        state = torch.load(path, weights_only=True)
        state["pipeline"] = {
            name.replace("_model.", "_model.module."): value for name, value in state["pipeline"].items()
        }
        torch.save(state, path)
        trainer = prepare(make_config(kind, load_checkpoint=path))
        weights = {name.replace("module.", ""): value for name, value in state["pipeline"].items()}
        ours = trainer.pipeline.state_dict()
        assert all(torch.equal(ours[name], value) for name, value in weights.items() if "lpips" not in name)

    @pytest.mark.parametrize("kind", KINDS)
    def test_fresh_optimisers_own_the_loaded_parameters(
        self, kind: str, make_config: Any, prepare: Any, plain_run: Any
    ) -> None:
        trainer = prepare(
            make_config(kind, steps=1, load_dir=plain_run(kind), pipeline__model__camera_optimizer__mode="off")
        )
        before = parameters(trainer)
        assert not any(optimizer.state for optimizer in trainer.optimizers.optimizers.values())
        trained = {p for o in trainer.optimizers.optimizers.values() for g in o.param_groups for p in g["params"]}
        assert trained <= set(trainer.pipeline.model.parameters())
        trainer.train()
        after = parameters(trainer)
        if kind == "splat":
            names = ["means", "scales", "quats", "features_dc", "opacities"]
            for name in (f"gauss_params.{n}" for n in names):
                assert not torch.equal(before[name], after[name][: len(before[name])]), name
        else:
            for part in ("field.mlp_base", "field.mlp_head", "proposal_networks.0", "proposal_networks.1"):
                mine = [name for name in before if name.startswith(part)]
                assert mine and any(not torch.equal(before[name], after[name]) for name in mine), part


def spoil(*calls: int) -> Callable[[int, GuidanceOutput], GuidanceOutput]:
    def spoiled(call: int, output: GuidanceOutput) -> GuidanceOutput:
        return dataclasses.replace(output, loss=output.loss * torch.nan) if call in calls else output

    return spoiled


class TestBadGradients:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_step_is_left_out_and_counted(
        self, kind: str, make_config: Any, run: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch.after = spoil(1)
        usual, changed = EditTrainer.train_iteration, []

        def compared(self: EditTrainer, step: int) -> Any:
            before = parameters(self)
            result = usual(self, step)
            after = parameters(self)
            changed.append(any(not torch.equal(before[name], after[name]) for name in before))
            return result

        monkeypatch.setattr(EditTrainer, "train_iteration", compared)
        # Refined at each step: what is not a number must not decide where Gaussians grow, either.
        options = {"pipeline__model__edit_refine_every": 1} if kind == "splat" else {}
        trainer = run(make_config(kind, steps=3, reconstruct=1, **options))
        assert changed == [True, True, False, True]
        assert trainer.optimizers.skipped == 1
        assert all(p.isfinite().all() for p in parameters(trainer).values())

    def test_many_in_a_row_end_the_run_and_the_last_checkpoint_stays(
        self, make_config: Any, prepare: Any, watch: Any, fails: Any, last_state: Any
    ) -> None:
        watch.after = spoil(*range(5, 100))
        trainer = prepare(make_config("splat", steps=60, reconstruct=1, steps_per_save=4))
        message = fails(trainer.train)
        assert "20 steps in a row" in message and "--pipeline.guidance.guidance-scale" in message
        assert watch.calls == 25
        (saved,) = checkpoints(trainer)
        assert saved == 24
        state = last_state(trainer)
        assert all(p.isfinite().all() for name, p in state["pipeline"].items() if "gauss_params" in name)


class TestFullDisk:
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64\nmore")])
    def test_the_last_checkpoint_stays_and_nothing_unfinished_does(
        self, error: Exception, make_config: Any, prepare: Any, fails: Any, monkeypatch: pytest.MonkeyPatch, run: Any
    ) -> None:
        trainer = prepare(make_config("splat", steps=9, reconstruct=1, steps_per_save=2))
        usual, folder = torch.save, trainer.checkpoint_dir

        def fills_up(state: Any, path: Path) -> None:
            if state["step"] < 4:
                return usual(state, path)
            path.write_bytes(b"half a checkpoint")
            # What nerfstudio's viewer, which chokes on anything else, would find at this moment.
            assert [path.name for path in folder.iterdir()] == ["step-000000002.ckpt"]
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(torch, "save", fills_up)
            message = fails(trainer.train)
        assert f"--load-dir {trainer.checkpoint_dir}" in message and "make room" in message
        assert checkpoints(trainer) == [2]
        left = {path.name for path in trainer.base_dir.iterdir() if path.is_dir()}
        assert left == {"nerfstudio_models", "reconstruction", "history"}
        resumed = run(make_config("splat", "resumed", steps=9, load_dir=trainer.checkpoint_dir))
        assert checkpoints(resumed) == [9]

    def test_with_no_checkpoint_yet_none_is_advertised(
        self, make_config: Any, prepare: Any, fails: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = prepare(make_config("splat"))

        def full(state: Any, path: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", full)
        assert "--load-dir" not in fails(trainer.train)

    def test_older_checkpoints_are_kept_on_request(self, make_config: Any, run: Any) -> None:
        config = make_config("splat", steps=4, reconstruct=1, steps_per_save=2, save_only_latest_checkpoint=False)
        assert checkpoints(run(config)) == [2, 4]


class TestBadInput:
    """Each mistake ends with one line before any step is run, and leaves what was there."""

    @pytest.fixture
    def refused(self, prepare: Any, fails: Any, watch: Any) -> Callable[..., str]:
        def message(config: Any) -> str:
            asked = watch.calls
            text = fails(lambda: prepare(config))
            assert watch.calls == asked
            # ns-train itself has written config.yml before; nothing is left of it.
            assert not config.get_base_dir().parent.exists()
            return text

        return message

    def test_no_transforms(self, make_config: Any, refused: Any, tmp_path: Path) -> None:
        config = make_config("splat", data=tmp_path, pipeline__datamanager__data=tmp_path)
        assert f"--data {tmp_path} holds no transforms.json" in refused(config)

    def test_no_data_at_all(
        self, make_config: Any, refused: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        config = make_config("nerf", data=None, pipeline__datamanager__data=None)
        assert "holds no transforms.json" in refused(config)

    def test_a_scene_given_as_its_json(self, make_config: Any, prepare: Any, scene: Path) -> None:
        path = scene / "transforms.json"
        assert len(prepare(make_config("splat", data=path, pipeline__datamanager__data=path)).pipeline.views) == 9

    @pytest.mark.parametrize(("option", "name"), [("src_prompt", "src-prompt"), ("tgt_prompt", "tgt-prompt")])
    @pytest.mark.parametrize("prompt", ["", " \t"])
    def test_a_prompt_is_missing(self, option: str, name: str, prompt: str, make_config: Any, refused: Any) -> None:
        assert f"--pipeline.{name}" in refused(make_config("splat", **{f"pipeline__{option}": prompt}))

    def test_the_embedded_model_is_not_loaded_to_see_that_the_source_prompt_is_missing(
        self, make_config: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Guidance, "from_config", lambda *_: pytest.fail("loaded the model"))
        config = make_config("splat", pipeline__src_prompt="", pipeline__guidance__model="toyworld")
        assert "--pipeline.src-prompt" in refused(config)

    # Of nerfstudio's, which `warns` gives on as its own
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_equal_prompts_are_warned_of(self, make_config: Any, prepare: Any) -> None:
        with pytest.warns(UserWarning, match="prompts are equal"):
            prepare(make_config("splat", pipeline__tgt_prompt="a cat"))

    def test_a_model_folder_that_is_none(self, make_config: Any, refused: Any, tmp_path: Path) -> None:
        folder = tmp_path / "no_model"
        folder.mkdir()
        assert str(folder) in refused(make_config("splat", pipeline__guidance__model=str(folder)))

    def test_reversed_ratios_of_t(self, make_config: Any, refused: Any) -> None:
        config = make_config("splat", pipeline__guidance__t_min=0.9, pipeline__guidance__t_max=0.1)
        assert "t_min (0.9) is above t_max (0.1)" in refused(config)

    def test_images_too_small(self, make_config: Any, prepare: Any, fails: Any, own_scene: Path) -> None:
        for path in (own_scene / "images").iterdir():
            with Image.open(path) as image:
                image.resize((12, 8)).save(path)
        text = (own_scene / "transforms.json").read_text()
        (own_scene / "transforms.json").write_text(text.replace('"w": 48', '"w": 12').replace('"h": 32', '"h": 8'))
        config = make_config("splat", reconstruct=0, data=own_scene, pipeline__datamanager__data=own_scene)
        assert "12×8 pixels" in fails(lambda: prepare(config).train())

    @pytest.mark.parametrize("steps", [0, -5])
    def test_no_steps(self, steps: int, make_config: Any, refused: Any) -> None:
        assert "--max-num-iterations" in refused(make_config("splat", steps=steps))

    @pytest.mark.parametrize(("kind", "other"), [("splat", "nerf"), ("nerf", "splat")])
    def test_a_checkpoint_of_the_other_method(
        self, kind: str, other: str, make_config: Any, refused: Any, plain_run: Any
    ) -> None:
        assert f"use pds-{other}" in refused(make_config(kind, load_dir=plain_run(other)))

    def test_a_checkpoint_of_neither(self, make_config: Any, refused: Any, tmp_path: Path) -> None:
        path = tmp_path / "step-000000001.ckpt"
        torch.save({"step": 1, "pipeline": {"_model.field_coarse.w": torch.ones(1)}, "optimizers": {}}, path)
        assert "neither nerfacto's nor splatfacto's" in refused(make_config("nerf", load_checkpoint=path))

    def test_a_broken_checkpoint(self, make_config: Any, refused: Any, plain_run: Any) -> None:
        (path,) = plain_run("splat").iterdir()
        path.write_bytes(path.read_bytes()[:-1000])
        assert str(path) in refused(make_config("splat", load_checkpoint=path))

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_older_version_lacks_weights(self, kind: str, make_config: Any, refused: Any, plain_run: Any) -> None:
        (path,) = plain_run(kind).iterdir()
        state = torch.load(path, weights_only=True)
        gone = {"splat": "gauss_params.quats", "nerf": "field.mlp_head.layers.0.weight"}[kind]
        del state["pipeline"][f"_model.{gone}"]
        torch.save(state, path)
        assert gone in refused(make_config(kind, load_checkpoint=path))

    def test_weights_of_another_size(self, make_config: Any, refused: Any, plain_run: Any) -> None:
        folder = plain_run("nerf", num_levels=3)
        (folder.parent / "config.yml").unlink()
        assert "config.yml" in refused(make_config("nerf", load_dir=folder))

    def test_a_scene_in_other_coordinates(self, finished: Any, make_config: Any, refused: Any) -> None:
        config = make_config("splat", steps=9, load_dir=finished("splat").checkpoint_dir)
        config.pipeline.datamanager.dataparser.auto_scale_poses = False
        assert "other coordinates" in refused(config)

    def test_a_record_that_is_not_there(self, make_config: Any, refused: Any, tmp_path: Path) -> None:
        assert "--replay" in refused(make_config("splat", replay=tmp_path / "session.jsonl"))

    def test_views_made_for_a_splat_go_too(
        self, finished: Any, make_config: Any, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)  # where there are no data
        nothing = {"data": None, "pipeline__datamanager__data": None, "pipeline__src_prompt": ""}
        config = make_config("splat", load_ply=finished("splat").base_dir / "splat.ply", **nothing)
        config.orbit = dataclasses.replace(config.orbit, views=4, side=16)
        assert "--pipeline.src-prompt" in refused(config)

    def test_nothing_left_to_do(self, finished: Any, make_config: Any, refused: Any, last_state: Any) -> None:
        before = checkpoints(finished("splat"))
        message = refused(make_config("splat", load_dir=finished("splat").checkpoint_dir))
        assert "raise --max-num-iterations" in message
        assert checkpoints(finished("splat")) == before

    def test_optimisers_that_do_not_fit_are_replaced_by_fresh_ones(
        self, finished: Any, make_config: Any, prepare: Any, last_state: Any, tmp_path: Path
    ) -> None:
        state = last_state(finished("splat"))
        state["optimizers"]["another"] = state["optimizers"]["means"]
        path = tmp_path / "step-000000004.ckpt"
        torch.save(state, path)
        trainer = prepare(make_config("splat", steps=9, load_checkpoint=path))
        assert not any(optimizer.state for optimizer in trainer.optimizers.optimizers.values())
