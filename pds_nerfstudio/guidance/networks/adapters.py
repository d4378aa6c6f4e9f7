"""What people bring to a model: low-rank adaptations, words learned by textual inversion, another autoencoder."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pds_nerfstudio.errors import UserError, first_line


def fuse_loras(pipeline: Any, specs: tuple[str, ...]) -> None:
    """Add low-rank adaptations (Hu et al. 2022) to a pipeline's weights, where they cost nothing at a step.

    Args:
        pipeline: A diffusers pipeline. Of its parts, those change that a file has something for.
        specs: FILE or FILE:WEIGHT each, in the format of diffusers, peft or kohya. A folder stands for the file
            pytorch_lora_weights.safetensors inside.

    Raises:
        UserError: If a file is not there, or is for another kind of model.
    """
    if specs and find_spec("peft") is None:
        raise UserError("A LoRA needs the package peft: pip install peft.")
    for spec in specs:
        path, weight = parse_lora(spec)
        if not hasattr(pipeline, "load_lora_weights"):
            raise UserError(f"No LoRA can be loaded into a {type(pipeline).__name__}: leave lora empty.")
        before = _fingerprint(pipeline)
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
            pipeline.fuse_lora(components=list(pipeline._lora_loadable_modules), lora_scale=weight)
            pipeline.unload_lora_weights()
        except Exception as error:  # Files of other models fail in many ways; the way out is the same.
            raise UserError(
                f"The LoRA '{path}' does not fit a {type(pipeline).__name__} ({first_line(error)}): give one that was "
                "trained for this model."
            ) from error
        if weight != 0 and _fingerprint(pipeline) == before:
            raise UserError(
                f"The LoRA '{path}' holds nothing for a {type(pipeline).__name__}: give one that was trained for this "
                "model."
            )


def parse_lora(spec: str) -> tuple[Path, float]:
    """Return the file and the weight of FILE:WEIGHT; without a weight it is 1.

    Raises:
        UserError: If there is no such file.
    """
    path, weight = Path(spec).expanduser(), 1.0
    match = re.fullmatch(r"(.+):([-+]?[0-9]*\.?[0-9]+)", spec)
    if match and not path.exists():
        path, weight = Path(match[1]).expanduser(), float(match[2])
    if path.is_dir():
        path = path / "pytorch_lora_weights.safetensors"
    if not path.is_file():
        raise UserError(f"There is no LoRA file '{path}': give FILE, or FILE:WEIGHT such as style.safetensors:0.8.")
    return path, weight


def load_embeddings(pipeline: Any, files: tuple[str, ...]) -> None:
    """Teach a pipeline the words of textual inversions (Gal et al. 2023).

    The word is the one that the file names, else the file's own name in pointed brackets.

    Raises:
        UserError: If a file is not there, or is for another kind of model.
    """
    for file in files:
        path = Path(file).expanduser()
        if not path.is_file():
            raise UserError(f"There is no file '{path}' of a textual inversion: give a .safetensors, .pt or .bin.")
        if not hasattr(pipeline, "load_textual_inversion"):
            raise UserError(f"A {type(pipeline).__name__} takes no textual inversion: leave embeddings empty.")
        try:
            pipeline.load_textual_inversion(str(path.parent), weight_name=path.name, local_files_only=True)
        except Exception as error:
            raise UserError(
                f"The textual inversion '{path}' does not fit a {type(pipeline).__name__} ({first_line(error)}): give "
                "one that was trained for this model."
            ) from error


def replace_autoencoder(pipeline: Any, name: str, dtype: torch.dtype) -> None:
    """Give a pipeline another autoencoder for the same latents, such as a tiny one (TAESD, TAEF1).

    Args:
        pipeline: A diffusers pipeline.
        name: A folder or a hub id.
        dtype: What it is loaded in.

    Raises:
        UserError: If it cannot be loaded, or its latents are others.
    """
    import diffusers

    try:
        kind = str(diffusers.AutoencoderKL.load_config(name).get("_class_name"))
        vae = getattr(diffusers, kind).from_pretrained(name, torch_dtype=dtype)
    except Exception as error:
        raise UserError(
            f"The autoencoder '{name}' cannot be loaded ({first_line(error)}): give a diffusers folder or hub id."
        ) from error
    channels, wanted = (part.config.get("latent_channels") for part in (vae, pipeline.vae))
    if channels != wanted:
        raise UserError(
            f"The autoencoder '{name}' has latents of {channels} channels where the model has {wanted}: give one "
            "that was made for this model."
        )
    pipeline.vae = vae


def _fingerprint(pipeline: Any) -> list[float]:
    """Return numbers that change with the weights of what a LoRA may change."""
    parts = (getattr(pipeline, name, None) for name in pipeline._lora_loadable_modules)
    return [float(weight.float().abs().sum()) for part in parts if part is not None for weight in part.parameters()]
