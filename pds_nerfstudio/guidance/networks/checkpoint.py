"""Models in a single file, as they are shared beside diffusers' folders."""

import re
from pathlib import Path

from safetensors import safe_open

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.card import INDEX, ModelCard, card_of_folder
from pds_nerfstudio.hub import hub_if_it_answers

_OTHER_PARTS = re.compile(r"first_stage_model\.|cond_stage_model\.|conditioner\.|vae\.|text_encoders?\.|te\d?\.")
"""How the names of an autoencoder's and of text encoders' weights begin in files that hold several parts."""


def card_of_checkpoint(path: Path, config: str | None) -> ModelCard:
    """Return the card of a model whose weights are in one file.

    A file holds no configuration: that is taken from a model of the same kind.

    Args:
        path: A .safetensors or .ckpt.
        config: Folder of a model in diffusers' layout, of which weights are read only if the file holds the denoising
            model alone; None finds out which kind the file is, and fetches the few small files of that kind's own
            model.

    Raises:
        UserError: If it is no such file or can't be read, or its kind's configuration can't be had.
    """
    if path.suffix not in (".safetensors", ".ckpt"):
        raise UserError(
            f"'{path}' is no model: give a .safetensors or .ckpt file, a folder in diffusers' layout, or a hub id."
        )
    alone = _holds_network_alone(path)
    if config is not None:
        folder = Path(config).expanduser()
        if not (folder / INDEX).is_file():
            raise UserError(
                f"model_config is '{folder}', which is no diffusers model (it has no {INDEX}): give the folder of a "
                f"model of the same kind as '{path}'; its weights aren't needed."
            )
        return card_of_folder(folder, str(path), path, alone)
    if alone:
        raise UserError(
            f"'{path}' holds a denoising model alone: give by model_config the folder of a whole model of the same "
            "kind, whose text encoders and autoencoder it is to have."
        )
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint
    from huggingface_hub import snapshot_download

    try:
        source = fetch_diffusers_config(load_single_file_checkpoint(str(path), local_files_only=True))
        known = source["pretrained_model_name_or_path"]
        small = ["*.json", "*.txt", "*.model"]
        with hub_if_it_answers(known):
            folder = Path(snapshot_download(known, allow_patterns=[INDEX, *(f"**/{name}" for name in small)]))
    except Exception as error:
        raise UserError(
            f"What kind of model '{path}' is can't be found out here ({first_line(error)}): give the folder of a model "
            "of the same kind by model_config; its weights aren't needed."
        ) from error
    return card_of_folder(folder, str(path), path)


def _holds_network_alone(path: Path) -> bool:
    """Return whether a file has weights of a denoising model, and none of another part. A .ckpt is taken for whole."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except Exception:  # damaged: whoever loads it says so
        return False
    return bool(names) and not any(_OTHER_PARTS.match(name) for name in names)
