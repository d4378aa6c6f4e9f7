"""The mends to nerfstudio: that each mends, and leaves no trace."""

import contextlib
import io
import pickle
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers, RAdamOptimizerConfig
from nerfstudio.engine.schedulers import (
    CosineDecaySchedulerConfig,
    ExponentialDecaySchedulerConfig,
    MultiStepSchedulerConfig,
)
from nerfstudio.models import splatfacto
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from plyfile import PlyData, PlyElement
from torch import Tensor, nn
from torchmetrics.image import lpip

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes import compat
from pds_nerfstudio.splat_rasterizer.rasterizer import rasterization


class TestAllowCheckpointTypes:
    @pytest.fixture(autouse=True)
    def allow(self) -> Iterator[None]:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        compat.allow_checkpoint_types()
        compat.allow_checkpoint_types()  # idempotent
        yield
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)

    @staticmethod
    def checkpoint() -> dict[str, Any]:
        """What nerfstudio's trainer saves, after a few steps with each of its optimisers and schedulers."""
        config = {
            "means": {
                "optimizer": AdamOptimizerConfig(lr=1e-2),
                "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=10, warmup_steps=2),
            },
            "fields": {
                "optimizer": RAdamOptimizerConfig(),
                "scheduler": CosineDecaySchedulerConfig(max_steps=10),
            },
            "scales": {"optimizer": AdamOptimizerConfig(), "scheduler": MultiStepSchedulerConfig()},
            "quats": {"optimizer": AdamOptimizerConfig(), "scheduler": None},
        }
        params = {name: [nn.Parameter(torch.ones(3))] for name in config}
        optimizers = Optimizers(config, params)
        for step in range(3):
            torch.stack([group[0].square().sum() for group in params.values()]).sum().backward()
            optimizers.optimizer_step_all()
            optimizers.scheduler_step_all(step)
        return {
            "step": 2,
            "pipeline": nn.Linear(2, 2).state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in optimizers.schedulers.items()},
            "scalers": torch.amp.GradScaler("cpu").state_dict(),
        }

    def test_nerfstudios_checkpoint_loads_with_the_check_on(self, tmp_path: Path) -> None:
        saved = self.checkpoint()
        torch.save(saved, tmp_path / "step-000000002.ckpt")
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "step-000000002.ckpt")
        assert not [name for name in unsafe if not name.startswith("numpy.")]
        loaded = torch.load(tmp_path / "step-000000002.ckpt", map_location="cpu", weights_only=True)
        assert loaded["schedulers"] == saved["schedulers"]
        assert loaded["optimizers"]["means"]["param_groups"] == saved["optimizers"]["means"]["param_groups"]
        assert isinstance(loaded["schedulers"]["means"]["_last_lr"][0], np.float64)

    @pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
    def test_scalars_load_whichever_numpy_wrote_them(self, module: str, tmp_path: Path) -> None:
        torch.save({"lr": np.float64(0.25)}, tmp_path / "here.ckpt")
        here = np.float64(0).__reduce__()[0].__module__.encode()
        with zipfile.ZipFile(tmp_path / "here.ckpt") as read, zipfile.ZipFile(tmp_path / "there.ckpt", "w") as written:
            for name in read.namelist():
                written.writestr(name, read.read(name).replace(here, module.encode()))
        assert torch.load(tmp_path / "there.ckpt", weights_only=True) == {"lr": 0.25}

    def test_a_malicious_checkpoint_is_still_refused(self, tmp_path: Path) -> None:
        target = tmp_path / "owned"

        class Malice:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (target,))

        saved = self.checkpoint() | {"extra": Malice()}
        torch.save(saved, tmp_path / "bad.ckpt")
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "bad.ckpt")
        assert not target.exists()

    def test_other_numpy_types_are_still_refused(self) -> None:
        buffer = io.BytesIO()
        torch.save({"objects": np.array([object()], dtype=object)}, buffer)
        buffer.seek(0)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(buffer)


class FakeLpips(nn.Module):
    """A real metric's looks: weights under `net`, and a number out."""

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        assert normalize
        self.net = nn.Linear(3, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs().mean()


class Host(nn.Module):
    """A model with one weight and the metric, built as nerfstudio builds it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.lpips = lpip.LearnedPerceptualImagePatchSimilarity(normalize=True)


class TestOfflineLpips:
    @pytest.fixture(autouse=True)
    def forget(self) -> Iterator[None]:
        compat._lpips_backbone_available.cache_clear()
        compat._warn_of_missing_lpips.cache_clear()
        yield
        compat._lpips_backbone_available.cache_clear()
        compat._warn_of_missing_lpips.cache_clear()

    @pytest.fixture
    def offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError("no network")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", refuse)

    def test_reads_nan_and_says_so_once(self, offline: None) -> None:
        image = torch.rand(1, 3, 8, 8)
        with compat.offline_lpips():
            models = [Host(), Host()]
        with pytest.warns(UserWarning, match="LPIPS reads NaN") as said:
            values = [model.lpips(image, image) for model in models for _ in range(2)]
        assert len(said) == 1
        assert all(value.isnan() and value.shape == () for value in values)

    def test_building_a_model_touches_no_network_and_no_random_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked the network"))
        state = torch.get_rng_state()
        with compat.offline_lpips():
            Host()
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_server_that_never_answers_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        never = threading.Event()

        def hang(*_: Any, **__: Any) -> None:
            never.wait(30)
            raise OSError("timed out")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", hang)
        monkeypatch.setattr(compat, "_DOWNLOAD_PROBE_SECONDS", 0.05)
        assert not compat._lpips_backbone_available()
        never.set()

    def test_weights_on_disk_are_used(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        (tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
        monkeypatch.setattr(compat, "LearnedPerceptualImagePatchSimilarity", FakeLpips)
        with compat.offline_lpips():
            model = Host()
            assert model.lpips(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)) == 1

    def test_a_broken_download_reads_nan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(**_: Any) -> None:
            raise RuntimeError("invalid hash value")

        monkeypatch.setattr(compat, "_lpips_backbone_available", lambda: True)
        monkeypatch.setattr(compat, "LearnedPerceptualImagePatchSimilarity", broken)
        with pytest.warns(UserWarning, match="LPIPS reads NaN"):
            assert compat.OptionalLpips()(torch.ones(1, 3, 8, 8), torch.ones(1, 3, 8, 8)).isnan()

    def test_checkpoints_with_and_without_a_real_lpips_load_strictly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with compat.offline_lpips():
            ours = Host()
        monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", FakeLpips)
        real = Host()
        assert any(name.startswith("lpips.net") for name in real.state_dict())
        ours.load_state_dict(real.state_dict(), strict=True)
        ours.load_state_dict(ours.state_dict(), strict=True)
        assert set(ours.state_dict()) == {"weight"}
        with pytest.raises(RuntimeError, match="weight"):
            ours.load_state_dict({}, strict=True)

    def test_nothing_leaks(self) -> None:
        before = lpip.LearnedPerceptualImagePatchSimilarity
        with contextlib.suppress(KeyError), compat.offline_lpips():
            assert lpip.LearnedPerceptualImagePatchSimilarity is compat.OptionalLpips
            raise KeyError
        assert lpip.LearnedPerceptualImagePatchSimilarity is before


def make_model(points: int = 60) -> SplatfactoModel:
    seeds = (torch.rand(points, 3) - 0.5, torch.randint(0, 256, (points, 3)))
    config = SplatfactoModelConfig(num_downscales=0, background_color="white")
    box = SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    with compat.offline_lpips(), compat.cpu_splatfacto(active=True):
        return config.setup(scene_box=box, num_train_data=2, seed_points=seeds)


def make_camera(size: int = 33) -> Cameras:
    pose = torch.eye(4)[None, :3].clone()
    pose[0, 2, 3] = 2.0
    return Cameras(pose, 40.0, 40.0, size / 2, size / 2, size, size, camera_type=CameraType.PERSPECTIVE)


def patched() -> tuple[Any, ...]:
    return ("cuda" in vars(torch.Tensor), splatfacto.rasterization, splatfacto.get_viewmat)


class TestCpuSplatfacto:
    def test_splatfacto_trains_and_evaluates(self) -> None:
        model = make_model()
        model.train()
        model.step = 1001  # no densification at this step, which would reset what it has gathered
        optimizers = {name: torch.optim.Adam(group) for name, group in model.get_gaussian_param_groups().items()}
        model.optimizers = optimizers
        with compat.cpu_splatfacto(active=True):
            outputs = model.get_outputs(make_camera())
        loss = model.get_loss_dict(outputs, {"image": torch.zeros(33, 33, 3)})["main_loss"]
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.gauss_params.values())
        model.step_post_backward(1001)
        assert model.strategy_state["grad2d"].sum() > 0

        model.eval()
        with compat.cpu_splatfacto(active=True):
            view = model.get_outputs_for_camera(make_camera())
        assert view["rgb"].shape == (33, 33, 3) and view["depth"].shape == (33, 33, 1)
        assert model.info["n_cameras"] == 1

    def test_nothing_is_compiled(self) -> None:
        model = make_model().eval()
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        with compat.cpu_splatfacto(active=True):
            model.get_outputs(make_camera())
        assert not torch._dynamo.utils.counters["stats"]

    def test_nothing_leaks(self) -> None:
        before = patched()
        with compat.cpu_splatfacto(active=True):
            assert splatfacto.rasterization is rasterization
            with compat.cpu_splatfacto(active=True):
                assert torch.ones(1).cuda().device.type == "cpu"
            assert torch.ones(1).cuda(0, non_blocking=True).device.type == "cpu"
        assert patched() == before and not before[0]
        with pytest.raises(KeyError), compat.cpu_splatfacto(active=True):
            raise KeyError
        assert patched() == before

    def test_threads_take_turns(self) -> None:
        before = patched()
        inside, leave = threading.Event(), threading.Event()

        def first() -> None:
            with compat.cpu_splatfacto(active=True):
                inside.set()
                leave.wait(10)

        entered: list[bool] = []

        def second() -> None:
            with compat.cpu_splatfacto(active=True):
                entered.append(leave.is_set())

        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        threads[0].start()
        assert inside.wait(10)
        threads[1].start()
        leave.set()
        for thread in threads:
            thread.join(10)
        assert entered == [True]
        assert patched() == before

    def test_inactive_it_does_nothing(self) -> None:
        before = patched()
        with compat.cpu_splatfacto(active=False):
            assert patched() == before


class TestReadPointsWithoutOpen3d:
    """Through nerfstudio's own data parser, where nothing named open3d can be imported."""

    @pytest.fixture(autouse=True)
    def no_open3d(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open3d", None)
        compat.read_points_without_open3d()

    @staticmethod
    def read(path: Path) -> dict[str, Tensor] | None:
        parser = Nerfstudio.__new__(Nerfstudio)
        move = torch.tensor([[0.0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]])
        return parser._load_3D_points(path, move, 2.0)

    @staticmethod
    def write(path: Path, text: bool, columns: dict[str, np.ndarray]) -> Path:
        vertices = np.zeros(len(columns["x"]), [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            vertices[name] = column
        PlyData([PlyElement.describe(vertices, "vertex")], text=text).write(path)
        return path

    @pytest.mark.parametrize("text", [False, True])
    def test_positions_are_moved_and_colours_stay_to_the_last_bit(self, tmp_path: Path, text: bool) -> None:
        positions = np.random.default_rng(0).normal(size=(256, 3)).astype("f4")
        channels = {name: np.roll(np.arange(256, dtype="u1"), i) for i, name in enumerate(("red", "green", "blue"))}
        normals = {"nx": positions[:, 0]}
        file = self.write(
            tmp_path / "p.ply", text, {**dict(zip("xyz", positions.T, strict=True)), **normals, **channels}
        )
        points = self.read(file)
        assert points is not None
        expected = 2 * (positions[:, [1, 0, 2]] + np.array([1, 0, 0]))
        np.testing.assert_allclose(points["points3D_xyz"].numpy(), expected, atol=1e-6)
        assert points["points3D_rgb"].dtype == torch.uint8
        np.testing.assert_array_equal(points["points3D_rgb"].numpy().T, list(channels.values()))

    def test_double_positions_and_colours_from_0_to_1(self, tmp_path: Path) -> None:
        columns = {name: np.array([1.0, 2.0]) for name in "xyz"} | {
            name: np.array([0.0, 1.0]) for name in ("red", "green", "blue")
        }
        points = self.read(self.write(tmp_path / "p.ply", False, columns))
        assert points is not None
        assert points["points3D_rgb"].tolist() == [[0] * 3, [255] * 3]

    def test_without_colours_it_is_grey(self, tmp_path: Path) -> None:
        points = self.read(self.write(tmp_path / "p.ply", False, {name: np.ones(2, "f4") for name in "xyz"}))
        assert points is not None
        assert points["points3D_rgb"].tolist() == [[127] * 3] * 2

    def test_a_missing_file_is_said_and_gives_none(self, tmp_path: Path) -> None:
        with pytest.warns(UserWarning, match=r"none\.ply are not there"):
            assert self.read(tmp_path / "none.ply") is None

    @pytest.mark.parametrize("content", [b"", b"no ply", b"ply\nformat ascii 1.0\nelement face 0\nend_header\n"])
    def test_a_file_of_another_kind_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.ply").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.ply can't be read"):
            self.read(tmp_path / "bad.ply")

    def test_open3d_itself_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = ModuleType("open3d")
        monkeypatch.setitem(sys.modules, "open3d", real)
        wrapped = Nerfstudio._load_3D_points
        compat.read_points_without_open3d()  # a second time changes nothing
        assert Nerfstudio._load_3D_points is wrapped
        self.read(self.write(tmp_path / "p.ply", False, {name: np.ones(2, "f4") for name in "xyz"}))
        assert sys.modules["open3d"] is real
