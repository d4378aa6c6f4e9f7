"""From a model's name to its network, with every way this can fail told in one line."""

import json
import re
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol, cast, runtime_checkable

import torch

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.network import Network

EMBEDDED_MODEL = "toyworld"
"""The model name that stands for the small model inside this package."""

ENTRY_POINTS = "pds_nerfstudio.networks"
"""The group in which other packages name architectures of their own, each after its pipeline's class."""

_STABLE_DIFFUSION = "pds_nerfstudio.guidance.networks.stable_diffusion:StableDiffusion"
_ARCHITECTURES = {"StableDiffusionPipeline": _STABLE_DIFFUSION}
"""Where the network of a pipeline's class is."""

_EMBEDDED_FOLDER = Path(__file__).resolve().parents[2] / "toyworld" / "model"
_INDEX = "model_index.json"


@runtime_checkable
class Architecture(Protocol):
    """The class of a network, as far as loading needs it."""

    ADVICE: str
    """Which models it can be, for those who chose another."""

    def check_index(self, index: dict[str, Any], model: str) -> None:
        """Refuse a pipeline's index that shows another kind of model, before gigabytes are fetched (UserError)."""

    def check_folder(self, index: dict[str, Any], folder: Path) -> None:
        """Refuse a folder that lacks parts (UserError)."""

    def download(self, model: str) -> Path:
        """Fetch what is needed of a hub model, and return its folder."""

    def load(
        self, folder: Path, device: torch.device, dtype: torch.dtype, vae_dtype: torch.dtype, compiled: bool
    ) -> Network:
        """Load the model in a folder (UserError if that fails)."""


def load_network(
    model: str, device: torch.device, dtype: torch.dtype, vae_dtype: torch.dtype, compiled: bool = False
) -> Network:
    """Load a model: 'toyworld', a local folder, or a hub id.

    Args:
        model: Its name.
        device: Where it runs.
        dtype: What it runs in.
        vae_dtype: What its autoencoder runs in.
        compiled: Whether to compile it, if its architecture can be.

    Raises:
        UserError: If it is not found, cannot be loaded, or is of a kind that there is no network for.
    """
    folder = find_model(model)
    return _architecture(_read_index(folder / _INDEX, model)).load(folder, device, dtype, vae_dtype, compiled)


def find_model(model: str) -> Path:
    """Return the local folder of a model: the embedded one, a folder given as such, or a hub id's (downloaded) copy.

    Raises:
        UserError: If there is no such folder or hub model, no network, or it is another kind of pipeline.
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


def _architecture(index: dict[str, Any]) -> Architecture:
    """Return the class of network for a pipeline; that of Stable Diffusion, which says what it lacks, if none is."""
    name = str(index.get("_class_name"))
    others = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    return cast(Architecture, resolve_name({**others, **_ARCHITECTURES}.get(name, _STABLE_DIFFUSION)))


def _checked_folder(folder: Path) -> Path:
    """Return `folder` itself, if its index and subfolders are those of a known architecture."""
    index = _read_index(folder / _INDEX, str(folder))
    _architecture(index).check_folder(index, folder)
    return folder


def _read_index(path: Path, model: str) -> dict[str, Any]:
    """Return the index of a pipeline, if it is one that can be used."""
    if not path.is_file():
        advice = _architecture({}).ADVICE
        raise UserError(f"'{model}' is no diffusers model (it has no {_INDEX}): {advice}.")
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"The {_INDEX} of '{model}' is damaged: download or save the model again.") from error
    _architecture(index).check_index(index, model)
    return index


def _download(model: str) -> Path:
    """Return the local copy of a hub model, downloaded if it is not there yet."""
    from huggingface_hub import hf_hub_download

    try:
        with quiet_libraries(progress_bars=True):
            # The index first: it is small, and tells a wrong kind of model before gigabytes are fetched.
            index = _read_index(Path(hf_hub_download(model, _INDEX)), model)
            return _architecture(index).download(model)
    except UserError:
        raise
    except Exception as error:  # Network, authorisation, disk: libraries differ in what they raise.
        raise UserError(
            f"The model '{model}' is not on this machine and cannot be downloaded ({first_line(error)}): "
            f"check its name and the network, or give a local folder or '{EMBEDDED_MODEL}'."
        ) from error
