"""Reading a checkpoint to start from: one of this method, or of the plain nerfacto or splatfacto under it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import ModelConfig

from pds_nerfstudio.errors import UserError

_EXTRA_STATE = "_extra_state"


@dataclass(frozen=True)
class Checkpoint:
    """A nerfstudio checkpoint on disk.

    Attributes:
        path: The file.
        state: What it holds: step, pipeline, optimizers, schedulers, scalers.
        is_edit: Whether one of this package's methods wrote it.
    """

    path: Path
    state: dict[str, Any]
    is_edit: bool

    @property
    def step(self) -> int:
        """Last step that was run."""
        return self.state["step"]

    @property
    def kind(self) -> str:
        """What sort of scene it holds: "splat", "nerf" or "other"."""
        names = self.state["pipeline"]
        if any(name.endswith(("gauss_params.means", "_model.means")) for name in names):
            return "splat"
        if any("_model.field." in name or "_model.module.field." in name for name in names):
            return "nerf"
        return "other"


def find_checkpoint(load_dir: Path | None, load_step: int | None, load_checkpoint: Path | None) -> Path | None:
    """The file that nerfstudio's options name, or None if they name none.

    Raises:
        UserError: If it is not there.
    """
    if load_checkpoint is not None:
        if not load_checkpoint.is_file():
            raise UserError(f"--load-checkpoint {load_checkpoint}: there is no such file.")
        return load_checkpoint
    if load_dir is None:
        return None
    steps = {
        int(match[1]): path
        for path in load_dir.glob("step-*.ckpt")
        if (match := re.fullmatch(r"step-(\d+)", path.stem))
    }
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
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} can't be read as a checkpoint ({reason}): was it cut off while being saved?") from None
    if not isinstance(state, dict) or not {"step", "pipeline", "optimizers"} <= set(state):
        raise UserError(f"{path} is no checkpoint of nerfstudio: it lacks a step, a pipeline or optimizers.")
    return Checkpoint(path, state, is_edit=_EXTRA_STATE in state["pipeline"])


def adopt_architecture(model: ModelConfig, checkpoint: Checkpoint) -> None:
    """Give `model` the shape that a checkpoint's weights have, in place.

    A run writes its config.yml beside the folder of its checkpoints; its model's settings are taken over, so that hash
    grids, appearance embeddings and pose corrections fit. Without that file, the weights say whether there is an
    appearance embedding.
    """
    written = checkpoint.path.parent.parent / "config.yml"
    if written.is_file():
        config = yaml.load(written.read_text(), Loader=yaml.Loader)  # as nerfstudio reads its own configs
        if isinstance(config, TrainerConfig):
            theirs = config.pipeline.model
            for field in fields(theirs):
                ours_only = field.name == "_target" or field.name.startswith("edit_")
                if not ours_only and hasattr(model, field.name) and field.name in _ARCHITECTURE:
                    setattr(model, field.name, getattr(theirs, field.name))
            return
    if hasattr(model, "use_appearance_embedding"):
        embedding = [
            v for k, v in checkpoint.state["pipeline"].items() if k.endswith("embedding_appearance.embedding.weight")
        ]
        model.use_appearance_embedding = bool(embedding)
        if embedding:
            model.appearance_embed_dim = embedding[0].shape[1]


_ARCHITECTURE = frozenset(
    """
    hidden_dim hidden_dim_color hidden_dim_transient num_levels base_res max_res log2_hashmap_size features_per_level
    num_proposal_iterations use_same_proposal_network proposal_net_args_list use_appearance_embedding
    use_average_appearance_embedding appearance_embed_dim disable_scene_contraction predict_normals implementation
    background_color near_plane far_plane proposal_initial_sampler sh_degree rasterize_mode camera_optimizer
    use_bilateral_grid grid_shape
    """.split()
)
"""Settings of nerfacto and splatfacto that decide what the weights are and how they look."""
