"""Finding and reading checkpoints to start from, and taking over what their models looked like."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.data.scene_box import SceneBox

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpoints import (
    ARCHITECTURE,
    Checkpoint,
    adopt_architecture,
    find_checkpoint,
    read_checkpoint,
)
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from tests.scenes.conftest import shrink


def state_of(*names: str) -> dict[str, Any]:
    return {"step": 3, "pipeline": {name: torch.ones(2, 4) for name in names}, "optimizers": {}}


@pytest.fixture
def refusal() -> Callable[[Callable[[], Any]], str]:
    def message(action: Callable[[], Any]) -> str:
        with pytest.raises(UserError) as refused:
            action()
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return message


class TestFindCheckpoint:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for step in (9, 100, 20):
            (tmp_path / f"step-{step:09d}.ckpt").touch()
        (tmp_path / "unfinished").mkdir()
        (tmp_path / "step-new.ckpt").touch()
        return tmp_path

    def test_nothing_is_asked_for(self) -> None:
        assert find_checkpoint(None, None, None) is None

    def test_the_newest_of_a_folder(self, folder: Path) -> None:
        assert find_checkpoint(folder, None, None) == folder / "step-000000100.ckpt"

    def test_a_step_of_a_folder(self, folder: Path, refusal: Any) -> None:
        assert find_checkpoint(folder, 9, None) == folder / "step-000000009.ckpt"
        assert "it has 9, 20, 100" in refusal(lambda: find_checkpoint(folder, 10, None))

    def test_a_file(self, folder: Path, refusal: Any) -> None:
        assert find_checkpoint(None, None, folder / "step-000000009.ckpt") == folder / "step-000000009.ckpt"
        assert "--load-checkpoint" in refusal(lambda: find_checkpoint(None, None, folder / "none.ckpt"))

    def test_the_folder_of_a_run_stands_for_that_of_its_checkpoints(self, tmp_path: Path) -> None:
        models = tmp_path / "nerfstudio_models"
        models.mkdir()
        for step in (9, 20):
            (models / f"step-{step:09d}.ckpt").touch()
        assert find_checkpoint(tmp_path, None, None) == models / "step-000000020.ckpt"
        assert find_checkpoint(tmp_path, 9, None) == models / "step-000000009.ckpt"

    def test_a_folder_that_holds_none(self, tmp_path: Path, refusal: Any) -> None:
        for folder in (tmp_path, tmp_path / "missing"):
            assert "nerfstudio_models" in refusal(lambda folder=folder: find_checkpoint(folder, None, None))


class TestReadCheckpoint:
    def test_what_it_says_of_itself(self, tmp_path: Path) -> None:
        state = state_of("_model.field.w")
        state["pipeline"]["_extra_state"] = {"edit_start": 2}
        torch.save(state, tmp_path / "a.ckpt")
        checkpoint = read_checkpoint(tmp_path / "a.ckpt")
        assert (checkpoint.step, checkpoint.kind, checkpoint.is_edit) == (3, "nerf", True)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("_model.gauss_params.means", "splat"),
            ("_model.means", "splat"),
            ("_model.module.gauss_params.means", "splat"),
            ("module._model.gauss_params.means", "splat"),
            ("_model.field.mlp_base.w", "nerf"),
            ("_model.module.field.mlp_base.w", "nerf"),
            ("_model.field_coarse.w", "other"),
            ("_model.proposal_networks.0.means", "other"),
        ],
    )
    def test_kind(self, name: str, kind: str) -> None:
        checkpoint = Checkpoint(Path("a.ckpt"), state_of(name), is_edit=False)
        assert checkpoint.kind == kind and not checkpoint.is_edit

    def test_model_weights_have_the_models_names(self) -> None:
        state = state_of("_model.means", "_model.module.field.w", "module._model.a.b", "datamanager.x", "_extra_state")
        assert set(Checkpoint(Path("a"), state, False).model_weights) == {"gauss_params.means", "field.w", "a.b"}

    @pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 cut off"])
    def test_a_broken_file(self, content: bytes, tmp_path: Path, refusal: Any) -> None:
        (tmp_path / "a.ckpt").write_bytes(content)
        said = refusal(lambda: read_checkpoint(tmp_path / "a.ckpt"))
        assert str(tmp_path / "a.ckpt") in said and "cut off" in said

    @pytest.mark.parametrize("state", [[1, 2], {"state_dict": {}}, {"step": 1, "pipeline": {}}])
    def test_a_foreign_file(self, state: Any, tmp_path: Path, refusal: Any) -> None:
        torch.save(state, tmp_path / "a.ckpt")
        assert "is no checkpoint of nerfstudio" in refusal(lambda: read_checkpoint(tmp_path / "a.ckpt"))

    @pytest.mark.parametrize(
        "change",
        [
            *({"step": step} for step in ("5", None, float("nan"), -1, 2.5, 10**30, [1], torch.ones(1), True)),
            *({"pipeline": pipeline} for pipeline in (None, [1], "weights", {1: torch.ones(1)}, {"_model.means": "x"})),
            *({"optimizers": some} for some in (None, 3, "x")),
            *({"pipeline": {"_extra_state": extra}} for extra in (3, {"edit_start": 10**15}, {"edit_start": "x"})),
        ],
    )
    def test_values_of_wrong_types(self, change: dict[str, Any], tmp_path: Path, refusal: Any) -> None:
        torch.save(state_of("_model.means") | change, tmp_path / "a.ckpt")
        assert str(tmp_path / "a.ckpt") in refusal(lambda: read_checkpoint(tmp_path / "a.ckpt"))

    @pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
    def test_code_in_a_file_is_not_run(self, write: Any, tmp_path: Path, refusal: Any) -> None:
        class Malice:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "owned",))

        write(state_of("_model.means") | {"extra": Malice()}, tmp_path / "a.ckpt")
        said = refusal(lambda: read_checkpoint(tmp_path / "a.ckpt"))
        assert str(tmp_path / "a.ckpt") in said and "could run code" in said and "weights_only" not in said
        assert not (tmp_path / "owned").exists()


class TestAdoptArchitecture:
    @staticmethod
    def beside(folder: Path, config: str | None, **weights: torch.Tensor) -> Checkpoint:
        (folder / "nerfstudio_models").mkdir()
        if config is not None:
            (folder / "config.yml").write_text(config)
        state = {"step": 1, "pipeline": {f"_model.{name}": w for name, w in weights.items()}, "optimizers": {}}
        return Checkpoint(folder / "nerfstudio_models" / "step-000000001.ckpt", state, is_edit=False)

    def test_from_a_runs_own_config(self, plain_run: Any) -> None:
        folder = plain_run(
            "nerf",
            average_init_density=0.01,
            camera_optimizer=CameraOptimizerConfig(mode="off"),
            eval_num_rays_per_chunk=7,
        )
        model = EditNerfModelConfig(edit_rays_per_chunk=123)
        target = model._target
        adopt_architecture(model, read_checkpoint(next(folder.iterdir())))
        assert (model.num_levels, model.average_init_density) == (4, 0.01)
        assert model.proposal_net_args_list[1]["max_res"] == 32
        assert model.camera_optimizer == CameraOptimizerConfig(mode="off")
        # What is ours, or decides nothing about the weights, stays.
        assert model._target is target and model.edit_rays_per_chunk == 123
        assert model.eval_num_rays_per_chunk != 7 and isinstance(model.num_nerf_samples_per_ray, int)

    def test_tuples_stay_tuples(self, plain_run: Any) -> None:
        folder = plain_run("splat", grid_shape=(4, 5, 6))
        model = EditSplatModelConfig()
        adopt_architecture(model, read_checkpoint(next(folder.iterdir())))
        assert model.grid_shape == (4, 5, 6)

    def test_a_config_of_classes_that_are_not_installed(self, tmp_path: Path) -> None:
        config = (
            "!!python/object:a_plugin.Config\npipeline: !!python/object:a_plugin.Pipeline\n"
            "  model: !!python/object:a_plugin.Model\n    _target: !!python/name:a_plugin.M ''\n    num_levels: 5\n"
        )
        model = EditNerfModelConfig()
        adopt_architecture(model, self.beside(tmp_path, config))
        assert model.num_levels == 5

    def test_a_config_that_would_run_code(self, tmp_path: Path) -> None:
        config = f"pipeline:\n  model:\n    num_levels: !!python/object/apply:os.mkdir ['{tmp_path / 'owned'}']\n"
        with pytest.raises(UserError, match="num_levels"):
            adopt_architecture(EditNerfModelConfig(), self.beside(tmp_path, config))
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("model", [EditNerfModelConfig, EditSplatModelConfig])
    @pytest.mark.parametrize("value", ["three", None, 1.5, -1, 10**13, [], {}, [1], [{"hidden_dim": "x"}], {"mode": 1}])
    def test_settings_that_no_model_has_are_refused_by_their_name(self, model: Any, value: Any, tmp_path: Path) -> None:
        for i, name in enumerate(sorted(ARCHITECTURE & {field.name for field in fields(model)})):
            (tmp_path / str(i)).mkdir()
            checkpoint = self.beside(tmp_path / str(i), yaml.dump({"pipeline": {"model": {name: value}}}))
            config = model(num_random=9) if model is EditSplatModelConfig else model()
            shrink(config)
            before, said = copy.deepcopy(config), ""
            try:
                adopt_architecture(config, checkpoint)
            except UserError as error:
                said = str(error)
            if not said:  # then it makes a model
                config.setup(scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=3, metadata={})
            else:
                assert f"{i}/config.yml has pipeline.model.{name}" in said and config == before

    @pytest.mark.parametrize("config", [None, "", "- 1\n", "pipeline: 3\n", "pipeline: {model: 3}\n", "a: [", "\0"])
    def test_without_a_config_the_weights_tell(self, config: str | None, tmp_path: Path) -> None:
        embedding = torch.zeros(9, 12)
        checkpoint = self.beside(tmp_path, config, **{"field.embedding_appearance.embedding.weight": embedding})
        model = EditNerfModelConfig(use_appearance_embedding=False)
        adopt_architecture(model, checkpoint)
        assert model.use_appearance_embedding and model.appearance_embed_dim == 12
        assert model.camera_optimizer.mode == "off"

    def test_weights_without_an_embedding(self, tmp_path: Path) -> None:
        weights = {"field.w": torch.zeros(1), "camera_optimizer.pose_adjustment": torch.zeros(9, 6)}
        model = EditNerfModelConfig(camera_optimizer=CameraOptimizerConfig(mode="SO3xR3"))
        adopt_architecture(model, self.beside(tmp_path, None, **weights))
        assert not model.use_appearance_embedding and model.camera_optimizer.mode == "SO3xR3"

    @pytest.mark.parametrize("degree", [0, 1, 2, 3])
    def test_harmonics_of_a_splat(self, degree: int, tmp_path: Path) -> None:
        rest = torch.zeros(7, (degree + 1) ** 2 - 1, 3)
        model = EditSplatModelConfig()
        adopt_architecture(model, self.beside(tmp_path, None, **{"gauss_params.features_rest": rest}))
        assert model.sh_degree == degree
