"""A small scene, a miniature diffusion model, and runs of the real methods on them."""

import copy
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.engine import trainer as host_trainer
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import ModelConfig
from nerfstudio.utils import profiler, writer

from pds_nerfstudio.guidance.gradient import GuidanceOutput
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes import compat
from pds_nerfstudio.scenes.trainer import EditTrainer, EditTrainerConfig
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes
from tests.guidance.miniature import save_pipeline

WIDTH, HEIGHT, VIEWS = 48, 32, 10


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nerfstudio data set of a man in a meadow. Shared by all tests: copy it to change it."""
    folder = tmp_path_factory.mktemp("scenes") / "man"
    target = Attributes(arms="raised")
    for _ in write_scene(folder, Attributes(), target, VIEWS, WIDTH, HEIGHT, seed_points=200):
        pass
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Stable Diffusion pipeline for 32-pixel images, as the guidance's tests build it."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "sd1", {}, {})


def set_option(owner: Any, path: list[str], value: Any) -> None:
    """Set an option of a configuration, or of one inside it, which may be frozen."""
    name, *rest = path
    assert hasattr(owner, name), name
    if not rest:
        setattr(owner, name, value)
    elif len(rest) == 1 and getattr(owner, name).__dataclass_params__.frozen:
        setattr(owner, name, replace(getattr(owner, name), **{rest[0]: value}))
    else:
        set_option(getattr(owner, name), rest, value)


def shrink(model: ModelConfig) -> None:
    """Make a nerfacto or splatfacto so small that a step takes milliseconds."""
    small = {
        "sh_degree": 1,
        "strewn_gaussians": 40,
        "fog_steps": 2,
        "implementation": "torch",
        "num_levels": 4,
        "log2_hashmap_size": 10,
        "max_res": 64,
        "hidden_dim": 16,
        "hidden_dim_color": 16,
        "num_proposal_samples_per_ray": (8, 8),
        "num_nerf_samples_per_ray": 8,
        "appearance_embed_dim": 4,
        "eval_num_rays_per_chunk": 2048,
        "proposal_net_args_list": [
            {"hidden_dim": 8, "log2_hashmap_size": 8, "num_levels": 2, "max_res": 16, "use_linear": False},
            {"hidden_dim": 8, "log2_hashmap_size": 8, "num_levels": 2, "max_res": 32, "use_linear": False},
        ],
    }
    for name, value in small.items():
        if hasattr(model, name):
            setattr(model, name, value)


class MakeConfig(Protocol):
    def __call__(
        self, kind: str, name: str = "run", steps: int = 3, reconstruct: int = 2, **options: Any
    ) -> EditTrainerConfig: ...


@pytest.fixture(scope="session")
def config_in(scene: Path, model_folder: Path) -> Callable[..., EditTrainerConfig]:
    """Makes a method's config, shrunk, that writes into a given folder; see `make_config`."""

    def make(
        folder: Path, kind: str, name: str = "run", steps: int = 3, reconstruct: int = 2, **options: Any
    ) -> EditTrainerConfig:
        config = copy.deepcopy({"splat": pds_splat, "nerf": pds_nerf}[kind].config)
        assert isinstance(config, EditTrainerConfig)
        config.data = config.pipeline.datamanager.data = scene
        config.output_dir, config.experiment_name, config.timestamp = folder, "test", name
        config.vis, config.viewer.quit_on_train_completion = "tensorboard", True
        config.logging.local_writer.enable = False
        config.machine.device_type = "cpu"
        config.max_num_iterations, config.pipeline.reconstruct_steps = steps, reconstruct
        config.pipeline.src_prompt, config.pipeline.tgt_prompt = "a cat", "a dog"
        config.pipeline.guidance = replace(config.pipeline.guidance, model=str(model_folder))
        config.pipeline.turntable_frames = 3
        config.show_edit = False
        shrink(config.pipeline.model)
        if kind == "nerf":
            datamanager: Any = config.pipeline.datamanager
            datamanager.train_num_rays_per_batch = 64
        for option, value in options.items():
            set_option(config, option.split("__"), value)
        return config

    return make


@pytest.fixture
def make_config(config_in: Callable[..., EditTrainerConfig], tmp_path: Path) -> MakeConfig:
    """Makes the config of "splat" or "nerf", shrunk.

    Options are named by their path: pipeline__guidance__seed=1. Runs of other names go to other folders.
    """

    def make(kind: str, name: str = "run", steps: int = 3, reconstruct: int = 2, **options: Any) -> EditTrainerConfig:
        return config_in(tmp_path / "outputs", kind, name, steps, reconstruct, **options)

    return make


@contextmanager
def _own_writers() -> Iterator[None]:
    """Nerfstudio's writers and profilers are global and pile up; each run gets none of the last one's."""
    for pile in (writer.EVENT_WRITERS, writer.EVENT_STORAGE, writer.GLOBAL_BUFFER, profiler.PROFILER):
        pile.clear()
    yield


@pytest.fixture(scope="session")
def prepare() -> Callable[[EditTrainerConfig], EditTrainer]:
    """Sets a trainer up as ns-train does, from its seed on."""

    def prepared(config: EditTrainerConfig) -> EditTrainer:
        with _own_writers():
            random.seed(config.machine.seed)
            np.random.seed(config.machine.seed)
            torch.manual_seed(config.machine.seed)
            config.save_config()
            trainer = config.setup()
            trainer.setup()
        return trainer

    return prepared


@pytest.fixture(scope="session")
def run(prepare: Callable[[EditTrainerConfig], EditTrainer]) -> Callable[[EditTrainerConfig], EditTrainer]:
    """Trains as ns-train does, and returns the trainer."""

    def ran(config: EditTrainerConfig) -> EditTrainer:
        trainer = prepare(config)
        trainer.train()
        return trainer

    return ran


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    config_in: Callable[..., EditTrainerConfig],
    run: Callable[[EditTrainerConfig], EditTrainer],
) -> Callable[[str], EditTrainer]:
    """A run of "splat" or "nerf" from nothing to its results: 2 steps that reconstruct, 3 that edit.

    Each is run once: look at it, don't change it.
    """
    runs: dict[str, EditTrainer] = {}

    def get(kind: str) -> EditTrainer:
        if kind not in runs:
            runs[kind] = run(config_in(tmp_path_factory.mktemp("finished"), kind, show_edit=True))
        return runs[kind]

    return get


@pytest.fixture
def plain_run(scene: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder that a run of nerfstudio's own nerfacto or splatfacto leaves; returns that of its checkpoint."""

    def make(kind: str, step: int = 7, **model_options: Any) -> Path:
        config = copy.deepcopy(method_configs[{"splat": "splatfacto", "nerf": "nerfacto"}[kind]])
        assert isinstance(config, TrainerConfig)
        if kind == "nerf":
            theirs: Any = config.pipeline.datamanager
            config.pipeline.datamanager = VanillaDataManagerConfig(dataparser=theirs.dataparser)
        config.pipeline.datamanager.data = scene
        config.output_dir, config.experiment_name, config.timestamp = tmp_path, "plain", kind
        shrink(config.pipeline.model)
        for name, value in model_options.items():
            setattr(config.pipeline.model, name, value)
        config.save_config()
        torch.manual_seed(5)
        with compat.offline_lpips(), compat.cpu_splatfacto(True):
            pipeline = config.pipeline.setup(device="cpu", test_mode="val")
        optimizers = Optimizers(config.optimizers.copy(), pipeline.get_param_groups())
        for group in optimizers.parameters.values():
            for parameter in group:
                parameter.grad = torch.randn_like(parameter)
        optimizers.optimizer_step_all()
        state = {
            "step": step,
            "pipeline": pipeline.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in optimizers.schedulers.items()},
            "scalers": {},
        }
        folder = config.get_checkpoint_dir()
        folder.mkdir(parents=True)
        torch.save(state, folder / f"step-{step:09d}.ckpt")
        return folder

    return make


@pytest.fixture
def own_scene(scene: Path, tmp_path: Path) -> Path:
    """A copy of the scene that a test may change."""
    return Path(shutil.copytree(scene, tmp_path / "own_scene"))


class Watch:
    """What the guidance was asked, and hooks into it."""

    def __init__(self) -> None:
        self.progress: list[float] = []
        self.keys: list[Any] = []
        self.before: Callable[[int], None] = lambda call: None
        """Is called with the number of each call, from 0, before it is answered."""
        self.after: Callable[[int, GuidanceOutput], GuidanceOutput] = lambda call, output: output
        """May change what is answered."""

    @property
    def calls(self) -> int:
        return len(self.progress)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Watches, and may disturb, each call of the guidance: one is made in each edit step."""
    seen, ask = Watch(), Guidance.__call__

    def watched(self: Guidance, image: Any, source: Any, progress: float, keys: Any = None) -> GuidanceOutput:
        call = seen.calls
        seen.before(call)
        seen.progress.append(progress)
        seen.keys.append(keys)
        return seen.after(call, ask(self, image, source, progress, keys))

    monkeypatch.setattr(Guidance, "__call__", watched)
    return seen


@pytest.fixture(params=["1.1.5", "main"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nerfstudio's two ways to count: 1.1.5 trains max_num_iterations more steps, its main branch up to that step."""
    if request.param == "main":
        # 1.1.5's loop is range(start, start + max); its main branch's is range(start, max).
        monkeypatch.setattr(host_trainer, "range", lambda start, end: range(start, end - start), raising=False)
    return request.param


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.fixture(scope="session")
def last_state() -> Callable[[EditTrainer], dict[str, Any]]:
    """The newest checkpoint of a run."""
    return lambda trainer: _load(max(trainer.checkpoint_dir.glob("step-*.ckpt")))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            yield from _leaves(item, f"{name}/{key}")
    else:
        yield name, value


@pytest.fixture(scope="session")
def differences() -> Callable[[Any, Any], list[str]]:
    """Names of the numbers in which two checkpoints differ, by the last bit."""

    def compare(one: Any, other: Any) -> list[str]:
        left, right = dict(_leaves(one)), dict(_leaves(other))
        different = sorted(left.keys() ^ right.keys())
        for name in left.keys() & right.keys():
            a, b = left[name], right[name]
            same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
            if not same:
                different.append(name)
        return different

    return compare


@pytest.fixture(scope="session")
def fails() -> Callable[[Callable[[], Any]], str]:
    """Runs something that must end the process with one line; returns it."""

    def message(action: Callable[[], Any]) -> str:
        with pytest.raises(SystemExit) as ended:
            action()
        text = ended.value.code
        assert isinstance(text, str) and text.startswith("Error: ") and "\n" not in text, text
        assert text.endswith((".", "?")), text
        return text

    return message
