"""Models in a single file, as they are shared beside diffusers' folders."""

from pathlib import Path

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.card import INDEX, ModelCard, card_of_folder


def card_of_checkpoint(path: Path, config: str | None) -> ModelCard:
    """Return the card of a model whose weights are in one file.

    A file holds no configuration: that is taken from a model of the same kind.

    Args:
        path: A .safetensors or .ckpt.
        config: Folder of a model in diffusers' layout, of which no weights are read; None finds out which kind the file
            is, and fetches the few small files of that kind's own model.

    Raises:
        UserError: If it is no such file or can't be read, or its kind's configuration can't be had.
    """
    if path.suffix not in (".safetensors", ".ckpt"):
        raise UserError(
            f"'{path}' is no model: give a .safetensors or .ckpt file, a folder in diffusers' layout, or a hub id."
        )
    if config is not None:
        folder = Path(config).expanduser()
        if not (folder / INDEX).is_file():
            raise UserError(
                f"model_config is '{folder}', which is no diffusers model (it has no {INDEX}): give the folder of a "
                f"model of the same kind as '{path}'; its weights aren't needed."
            )
        return card_of_folder(folder, str(path), path)
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint
    from huggingface_hub import snapshot_download

    try:
        source = fetch_diffusers_config(load_single_file_checkpoint(str(path), local_files_only=True))
        known = source["pretrained_model_name_or_path"]
        small = ["*.json", "*.txt", "*.model"]
        folder = Path(snapshot_download(known, allow_patterns=[INDEX, *(f"**/{name}" for name in small)]))
    except Exception as error:
        raise UserError(
            f"What kind of model '{path}' is can't be found out here ({first_line(error)}): give the folder of a model "
            "of the same kind by model_config; its weights aren't needed."
        ) from error
    return card_of_folder(folder, str(path), path)
