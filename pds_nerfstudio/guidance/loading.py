"""From a model's name to its loaded parts, with every way this can fail told in one line."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pds_nerfstudio.errors import UserError

EMBEDDED_MODEL = "toyworld"
"""The model name that stands for the small model inside this package."""

_EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "toyworld" / "model"
_INDEX = "model_index.json"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_ADVICE = "choose a Stable Diffusion 1.x or 2.x text-to-image model"


def find_model(model: str) -> Path:
    """The local folder of a model: the embedded one, a folder given as such, or a hub id's (downloaded) copy.

    Raises:
        UserError: if there is no such folder or hub model, no network, or it is another kind of pipeline.
    """
    if model == EMBEDDED_MODEL:
        if not _EMBEDDED_FOLDER.is_dir():
            raise UserError(
                f"The embedded model '{EMBEDDED_MODEL}' is missing from this installation: reinstall "
                "pds_nerfstudio, or give another model."
            )
        return _checked_folder(_EMBEDDED_FOLDER)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _checked_folder(folder)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model):
        raise UserError(
            f"There is no model folder '{model}': give an existing folder, a hub id such as "
            f"'stable-diffusion-v1-5/stable-diffusion-v1-5', or '{EMBEDDED_MODEL}'."
        )
    return _checked_folder(_download(model))


def load_pipeline(folder: Path) -> Any:
    """The diffusers pipeline in ``folder`` (on the CPU), without safety checker, loaded without chatter.

    Raises:
        UserError: if a part cannot be read, or is not of the kind that Stable Diffusion 1.x and 2.x use.
    """
    # Imported here because it takes seconds, and whoever only reads the configuration should not wait.
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

    with _quiet(progress_bars=False):
        try:
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
                local_files_only=True,
            )
        except Exception as error:  # Any reader of any part may fail in its own way; the way out is the same.
            raise UserError(
                f"The model in '{folder}' cannot be loaded ({_one_line(error)}): download or save it again."
            ) from error
    for part, kind in ((pipeline.unet, UNet2DConditionModel), (pipeline.vae, AutoencoderKL)):
        if not isinstance(part, kind):
            raise UserError(f"The model in '{folder}' has a {type(part).__name__} for a {kind.__name__}: {_ADVICE}.")
    unet, vae = pipeline.unet.config, pipeline.vae.config
    if unet.in_channels != vae.latent_channels:
        raise UserError(
            f"The model in '{folder}' takes {unet.in_channels} channels where its latents have "
            f"{vae.latent_channels} (an inpainting or instruction-editing model?): {_ADVICE}."
        )
    text_channels = pipeline.text_encoder.config.hidden_size
    if unet.addition_embed_type or unet.cross_attention_dim != text_channels:
        raise UserError(f"The model in '{folder}' needs other conditions than one text encoder's: {_ADVICE}.")
    return pipeline


def read_known_words(folder: Path) -> frozenset[str] | None:
    """The words in ``folder``'s optional ``words.txt`` (one a line), or None if it has no such file."""
    path = folder / "words.txt"
    return frozenset(path.read_text(encoding="utf-8").lower().split()) if path.is_file() else None


def _checked_folder(folder: Path) -> Path:
    """``folder`` itself, if its index and subfolders are those of a Stable Diffusion pipeline."""
    index = _read_index(folder / _INDEX, str(folder))
    missing = [part for part in _PARTS if index.get(part, [None])[0] is None or not (folder / part).is_dir()]
    if missing:
        raise UserError(f"The model in '{folder}' lacks its {' and '.join(missing)}: {_ADVICE}.")
    return folder


def _read_index(path: Path, model: str) -> dict[str, Any]:
    """The index of a pipeline, refused if it names a second text encoder."""
    if not path.is_file():
        raise UserError(f"'{model}' is no diffusers model (it has no {_INDEX}): {_ADVICE}.")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"The {_INDEX} of '{model}' is damaged: download or save the model again.") from error
    if "text_encoder_2" in index:
        raise UserError(f"'{model}' has two text encoders (as Stable Diffusion XL): {_ADVICE}.")
    return index


def _download(model: str) -> Path:
    """The local copy of a hub model, downloaded if it is not there yet."""
    from diffusers import StableDiffusionPipeline
    from huggingface_hub import hf_hub_download

    try:
        with _quiet(progress_bars=True):
            # The index first: it is small, and tells a wrong kind of model before gigabytes are fetched.
            index = Path(hf_hub_download(model, _INDEX))
            _read_index(index, model)
            return Path(StableDiffusionPipeline.download(model, safety_checker=None, feature_extractor=None))
    except UserError:
        raise
    except Exception as error:  # Network, authorisation, disk: libraries differ in what they raise.
        raise UserError(
            f"The model '{model}' is not on this machine and cannot be downloaded ({_one_line(error)}): "
            f"check its name and the network, or give a local folder or '{EMBEDDED_MODEL}'."
        ) from error


def _one_line(error: Exception) -> str:
    """The first line of an error's text, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".: ") if lines else type(error).__name__


@contextmanager
def _quiet(progress_bars: bool) -> Iterator[None]:
    """Keep warnings, and progress bars unless wanted, of diffusers and transformers off the screen."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            if not progress_bars:
                library.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, (verbosity, had_bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if had_bars and not progress_bars:
                library.enable_progress_bar()
