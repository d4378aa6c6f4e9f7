"""Reading a checkpoint to start from: one of this method, or of the plain nerfacto or splatfacto under it."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.plain_types import misfits
from pds_nerfstudio.scenes.config_files import not_of_type

_EXTRA_STATE = "_extra_state"
_MORE_THAN_NUMBERS = ("Unsupported class", "Unsupported global", "pickle protocol")
"""What torch says of files that hold more."""
_MOST_STEPS = 10**9
"""More than any run has."""
_GAUSSIAN = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")


@dataclass(frozen=True)
class Checkpoint:
    """A nerfstudio checkpoint on disk."""

    path: Path
    """The file."""
    state: dict[str, Any]
    """What it holds: step, pipeline, optimizers, schedulers, scalers."""
    is_edit: bool
    """Whether one of this package's methods wrote it."""

    @property
    def step(self) -> int:
        """Last step that was run."""
        return self.state["step"]

    @property
    def kind(self) -> str:
        """What sort of scene it holds: "splat", "nerf" or "other"."""
        if "gauss_params.means" in self.model_weights:
            return "splat"
        return "nerf" if any(name.startswith("field.") for name in self.model_weights) else "other"

    @property
    def model_weights(self) -> dict[str, Tensor]:
        """The model's weights by their names in the model, whichever version wrote them on however many GPUs."""
        pattern = re.compile(r"(?:module\.)?_model\.(?:module\.)?(.+)")
        weights = {match[1]: w for name, w in self.state["pipeline"].items() if (match := pattern.fullmatch(name))}
        # Early versions of splatfacto kept its parameters under shorter names, which it still loads.
        return {f"gauss_params.{name}" if name in _GAUSSIAN else name: w for name, w in weights.items()}


def _checkpoints_in(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their steps."""
    return {
        int(match[1]): path for path in folder.glob("step-*.ckpt") if (match := re.fullmatch(r"step-(\d+)", path.stem))
    }


def find_checkpoint(load_dir: Path | None, load_step: int | None, load_checkpoint: Path | None) -> Path | None:
    """Return the file that nerfstudio's options name, or None if they name none.

    Raises:
        UserError: If it is not there.
    """
    if load_checkpoint is not None:
        if not load_checkpoint.is_file():
            raise UserError(f"--load-checkpoint {load_checkpoint}: there is no such file.")
        return load_checkpoint
    if load_dir is None:
        return None
    # Also the folder of the run itself may be named: that is what people copy.
    steps = _checkpoints_in(load_dir) or _checkpoints_in(load_dir / "nerfstudio_models")
    if not steps:
        raise UserError(
            f"--load-dir {load_dir} holds no step-*.ckpt: give the folder nerfstudio_models of a finished run."
        )
    if load_step is not None and load_step not in steps:
        raise UserError(f"--load-step {load_step} is not in {load_dir}: it has {', '.join(map(str, sorted(steps)))}.")
    return steps[max(steps) if load_step is None else load_step]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running any code that it may carry.

    Raises:
        UserError: If the file is broken, unsafe, or no checkpoint of nerfstudio.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a broken file
        if any(word in str(error) for word in _MORE_THAN_NUMBERS):
            raise UserError(
                f"{path} holds more than numbers, and could run code when it is read, as no checkpoint of nerfstudio "
                "does: it is not read."
            ) from None
        reason = "" if "weights_only" in str(error) else f" ({first_line(error)})"
        raise UserError(f"{path} can't be read as a checkpoint{reason}: was it cut off while being saved?") from None
    if not isinstance(state, dict) or not {"step", "pipeline", "optimizers"} <= set(state):
        raise UserError(f"{path} is no checkpoint of nerfstudio: it lacks a step, a pipeline or optimizers.")
    step, pipeline = state["step"], state["pipeline"]
    if not _is_step(step):
        raise UserError(f"{path} is no checkpoint of nerfstudio: its step is {step!r:.30}.")
    if not isinstance(pipeline, dict) or not all(isinstance(name, str) for name in pipeline):
        raise UserError(f"{path} is no checkpoint of nerfstudio: its pipeline is no weights by their names.")
    extra = pipeline.get(_EXTRA_STATE, {})
    if not all(torch.is_tensor(value) for name, value in pipeline.items() if name != _EXTRA_STATE):
        raise UserError(f"{path} is no checkpoint of nerfstudio: some of its weights are none.")
    if not isinstance(extra, dict) or not _is_step(extra.get("edit_start", 0)):
        raise UserError(f"{path} is damaged: what it holds of its edit can't be read.")
    if not isinstance(state["optimizers"], dict):
        raise UserError(f"{path} is no checkpoint of nerfstudio: its optimizers are none.")
    return Checkpoint(path, state, is_edit=_EXTRA_STATE in state["pipeline"])


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_STEPS


def adopt_architecture(model: ModelConfig, checkpoint: Checkpoint) -> None:
    """Give `model` the shape that a checkpoint's weights have, in place.

    A run writes its config.yml beside the folder of its checkpoints; its model's settings are taken over, so that hash
    grids, appearance embeddings and pose corrections fit. Without that file, the weights say what they can.

    Raises:
        UserError: If that file has a value of a wrong type.
    """
    path = checkpoint.path.parent.parent / "config.yml"
    theirs = _read_model_settings(path)
    if theirs is None:
        theirs = _settings_in_weights(checkpoint.model_weights)
    adopted = copy.copy(model)
    for name in ARCHITECTURE & theirs.keys() & {field.name for field in fields(model)}:
        ours, value = getattr(model, name), theirs[name]
        if isinstance(value, dict) and is_dataclass(ours):
            known = {field.name for field in fields(ours)} - {"_target"}
            value = replace(ours, **{key: value[key] for key in known & value.keys()})  # type: ignore[type-var]
        setattr(adopted, name, tuple(value) if isinstance(ours, tuple) and isinstance(value, list) else value)
    for name, value, kind in misfits(adopted):
        raise UserError(not_of_type(path, f"pipeline.model.{name}", value, kind))
    for name in ARCHITECTURE & theirs.keys() & {field.name for field in fields(model)}:
        if not _makes_a_model(name, getattr(adopted, name), getattr(model, name)):
            raise UserError(f"{path} has pipeline.model.{name} as {theirs[name]!r:.40}, which no model has: mend it.")
    vars(model).update(vars(adopted))


def _makes_a_model(name: str, value: Any, usual: Any) -> bool:
    """Return whether a setting of the right type can be that of a model, or would only fill the memory."""
    if type(value) is int:
        return (name not in _MAY_BE_0) <= value <= _MOST.get(name, _MOST_OF_OTHERS)
    if name != "proposal_net_args_list":
        return True
    types = {key: type(number) for net in usual for key, number in net.items()}
    return bool(value) and all(types.get(key) is type(number) for net in value for key, number in net.items())


def read_method_name(path: Path) -> str | None:
    """Return the name of the method that wrote a config.yml; None if there is none to be read."""
    name = _read_config(path).get("method_name")
    return name if isinstance(name, str) else None


def _read_model_settings(path: Path) -> dict[str, Any] | None:
    """Return the model's settings in a config.yml, read as plain data; None if there are none to be read."""
    pipeline = _read_config(path).get("pipeline")
    settings = pipeline.get("model") if isinstance(pipeline, dict) else None
    return settings if isinstance(settings, dict) else None


def _read_config(path: Path) -> dict[str, Any]:
    """Return a config.yml as plain data; empty if there is none to be read."""
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


class _PlainLoader(yaml.SafeLoader):
    """Reads nerfstudio's configs without importing or running what they name: an object becomes its attributes."""

    def plain(self, _: str, node: yaml.Node) -> Any:
        """Return a Python object as what it is written with: a dictionary, a list or a string."""
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return self.construct_scalar(cast(yaml.ScalarNode, node))


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _PlainLoader.plain)


def _settings_in_weights(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return what the weights of a model tell about its settings."""
    settings: dict[str, Any] = {}
    embedding = weights.get("field.embedding_appearance.embedding.weight")
    settings["use_appearance_embedding"] = embedding is not None
    if embedding is not None:
        settings["appearance_embed_dim"] = embedding.shape[1]
    harmonics = weights.get("gauss_params.features_rest")
    if harmonics is not None:
        settings["sh_degree"] = math.isqrt(harmonics.shape[1] + 1) - 1
    if not any(name.startswith("camera_optimizer.") for name in weights):
        settings["camera_optimizer"] = {"mode": "off"}
    return settings


ARCHITECTURE = frozenset(
    """
    hidden_dim hidden_dim_color hidden_dim_transient num_levels base_res max_res log2_hashmap_size features_per_level
    num_proposal_iterations use_same_proposal_network proposal_net_args_list use_appearance_embedding
    use_average_appearance_embedding appearance_embed_dim disable_scene_contraction predict_normals implementation
    background_color near_plane far_plane proposal_initial_sampler sh_degree rasterize_mode camera_optimizer
    use_bilateral_grid grid_shape average_init_density
    """.split()
)
"""Settings of nerfacto and splatfacto that decide what the weights are and how they look."""
_MAY_BE_0 = frozenset({"appearance_embed_dim", "sh_degree"})
_MOST = {"log2_hashmap_size": 30, "num_levels": 64, "num_proposal_iterations": 16, "sh_degree": 4}
"""Of these settings, the largest that a model can have."""
_MOST_OF_OTHERS = 1 << 16
