"""What people bring to a model: low-rank adaptations, words learned by textual inversion, another autoencoder."""

import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.autoencoders import halvings
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.lora_files import family_of, is_kohya_for_sd3, said_family
from pds_nerfstudio.hub import hub_if_it_answers

_EXCHANGEABLE = {"AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderTiny"}
"""Kinds of autoencoders that stand in for each other: what they say is a latent but for a shift and a scale."""


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
        if is_kohya_for_sd3(path):
            raise UserError(
                f"The LoRA '{path}' is one of Stable Diffusion 3 in kohya's format, which diffusers can't translate: "
                "give it in the format of diffusers or peft, whose layers are called transformer.transformer_blocks."
            )
        own, said = family_of(pipeline), said_family(path)
        another = f"says that it is for {said}" if said and own and said != own else ""
        try:
            with quiet_libraries(progress_bars=False):
                fits = _fuse_lora(pipeline, path, weight)
        except Exception as error:  # Files of other models fail in many ways; the way out is the same.
            raise UserError(
                f"The LoRA '{path}' does not fit a {type(pipeline).__name__} ({another or first_line(error)}): give "
                "one that was trained for this model."
            ) from error
        if not fits:
            raise UserError(
                f"The LoRA '{path}' holds nothing for the {_lora_parts(pipeline)[0]} of a {type(pipeline).__name__}"
                f"{another and f', and {another}'}: give one that was trained for this model."
            )
        if another:
            warnings.warn(
                f"The LoRA '{path}' {another}, and the model is one of {own}: its layers fit, and may do anything.",
                stacklevel=2,
            )


def _fuse_lora(pipeline: Any, path: Path, weight: float) -> bool:
    """Fuse a LoRA into a pipeline, and return whether it held something for the denoising model.

    One of another model may fit a text encoder that both have, and that alone would be half of it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    parts = _lora_parts(pipeline)
    fits = any(isinstance(layer, BaseTunerLayer) for layer in getattr(pipeline, parts[0]).modules())
    pipeline.fuse_lora(components=parts, lora_scale=weight)
    pipeline.unload_lora_weights()
    return fits


def _lora_parts(pipeline: Any) -> list[str]:
    """Return the parts of a pipeline that a LoRA may change, the denoising model first."""
    return list(pipeline._lora_loadable_modules)


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

    Args:
        pipeline: A diffusers pipeline. Each of its CLIP encoders learns the word.
        files: One for each word: see `read_inversion`.

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
            word, vectors = read_inversion(path)
            _teach(pipeline, word, vectors)
        except Exception as error:
            raise UserError(
                f"The textual inversion '{path}' does not fit a {type(pipeline).__name__} ({first_line(error)}): give "
                "one that was trained for this model."
            ) from error


def read_inversion(path: Path) -> tuple[str, list[Float[Tensor, "vectors width"]]]:
    """Return the word of a textual inversion, and its vectors for each text encoder.

    The word is the one that the file names, else the file's own name in pointed brackets. Files for Stable Diffusion XL
    hold vectors for both of its encoders, by the names clip_l and clip_g.

    Raises:
        ValueError: If the file holds something else.
    """
    state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    own_name = f"<{path.stem}>"
    if isinstance(state, Tensor):
        word, tensors = own_name, [state]
    elif "string_to_param" in state:  # of AUTOMATIC1111's web UI
        word, tensors = state.get("name") or own_name, [state["string_to_param"]["*"]]
    elif "clip_g" in state:
        word, tensors = own_name, [state["clip_l"], state["clip_g"]]
    elif len(state) == 1:
        ((key, tensor),) = state.items()
        word, tensors = own_name if key == "emb_params" else key, [tensor]
    else:
        raise ValueError("it holds more than the vectors of a word")
    return word, [torch.atleast_2d(tensor.detach()) for tensor in tensors]


def _teach(pipeline: Any, word: str, vectors: list[Tensor]) -> None:
    """Add a word to a pipeline's CLIP encoders and their tokenizers.

    Raises:
        ValueError: If there are vectors for more or fewer encoders, of another width, or it has such a word.
    """
    suffixes = [end for end in ("", "_2") if "CLIP" in type(getattr(pipeline, f"text_encoder{end}", None)).__name__]
    if len(suffixes) != len(vectors):
        raise ValueError(f"it is for {len(vectors)} CLIP encoders, of which the model has {len(suffixes)}")
    for end, some in zip(suffixes, vectors, strict=True):
        encoder = getattr(pipeline, f"text_encoder{end}")
        width = encoder.get_input_embeddings().weight.shape[1]
        if some.shape[1] != width:
            raise ValueError(f"its vectors have {some.shape[1]} numbers where the model's have {width}")
        pipeline.load_textual_inversion(
            some, token=word, text_encoder=encoder, tokenizer=getattr(pipeline, f"tokenizer{end}")
        )


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
        with hub_if_it_answers(name):
            kind = str(diffusers.AutoencoderKL.load_config(name).get("_class_name"))
        if "Autoencoder" not in kind:
            raise ValueError(f"it is a {kind}")
        with hub_if_it_answers(name):
            vae = getattr(diffusers, kind).from_pretrained(name, torch_dtype=dtype)
    except Exception as error:
        raise UserError(
            f"The autoencoder '{name}' cannot be loaded ({first_line(error)}): give a diffusers folder or hub id."
        ) from error
    kinds = {type(part).__name__ for part in (vae, pipeline.vae)}
    if len(kinds) > 1 and not kinds <= _EXCHANGEABLE:
        raise UserError(
            f"The autoencoder '{name}' is a {type(vae).__name__} where the model has a {type(pipeline.vae).__name__}: "
            "give one that was made for this model."
        )
    (channels, factor), (wanted, wanted_factor) = (_size(part.config) for part in (vae, pipeline.vae))
    if (channels, factor) != (wanted, wanted_factor):
        raise UserError(
            f"The autoencoder '{name}' has latents of {channels} channels for {factor} pixels where the model has "
            f"{wanted} for {wanted_factor}: give one that was made for this model."
        )
    pipeline.vae = vae


def _size(config: Any) -> tuple[int, int]:
    """Return the channels of an autoencoder's latents, and the pixels along one side of a place."""
    return config.get("latent_channels") or config.z_dim, 2 ** halvings(config)
