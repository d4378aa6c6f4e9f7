"""From a model's name to its network, with every way this can fail told in one line."""

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol, cast, runtime_checkable

import torch

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.card import INDEX, UNUSED, ModelCard, card_of_folder
from pds_nerfstudio.guidance.networks.checkpoint import card_of_checkpoint
from pds_nerfstudio.guidance.networks.folders import needed_variant
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.network import Network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.hub import hub_if_it_answers

EMBEDDED_MODEL = "toyworld"
"""The model name that stands for the small model inside this package."""

EMBEDDED_MODELS = {EMBEDDED_MODEL: "model", "toyworld-flow": "flow_model"}
"""The folders of the small models inside this package, under `toyworld`, by the names that stand for them."""

ENTRY_POINTS = "pds_nerfstudio.networks"
"""The group in which other packages name architectures of their own, each after its pipeline's class."""

_TOYWORLD = Path(__file__).resolve().parents[2] / "toyworld"
_HERE = "pds_nerfstudio.guidance.networks."
_ARCHITECTURES = {
    pipeline: _HERE + network
    for network, pipelines in {
        "stable_diffusion:StableDiffusion": (
            "StableDiffusionPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionControlNetPipeline",
        ),
        "unets:InstructPix2Pix": ("StableDiffusionInstructPix2PixPipeline",),
        "unets:Inpainting": ("StableDiffusionInpaintPipeline",),
        "unets:StableDiffusionXL": ("StableDiffusionXLPipeline",),
        "unets:StableDiffusionXLInstructPix2Pix": ("StableDiffusionXLInstructPix2PixPipeline",),
        "unets:StableDiffusionXLInpainting": ("StableDiffusionXLInpaintPipeline",),
        "stable_diffusion_3:StableDiffusion3": ("StableDiffusion3Pipeline",),
        "flux:Flux": ("FluxPipeline",),
        "flux:FluxKontext": ("FluxKontextPipeline",),
        "flux:Chroma": ("ChromaPipeline",),
        "flux_2:Flux2": ("Flux2Pipeline", "Flux2KleinPipeline"),
        "z_image:ZImage": ("ZImagePipeline",),
        "qwen_image:QwenImage": ("QwenImagePipeline",),
        "qwen_image:QwenImageEdit": ("QwenImageEditPipeline",),
        "sana:Sana": ("SanaPipeline",),
        "lumina_2:Lumina2": ("Lumina2Pipeline",),
        "pixart:PixArtSigma": ("PixArtSigmaPipeline",),
    }.items()
    for pipeline in pipelines
}
"""Where the network of a pipeline's class is."""

_FAMILIES = (
    "Stable Diffusion 1, 2, XL, 3 and 3.5, InstructPix2Pix, FLUX.1 and 2, FLUX.1 Kontext, Chroma, Z-Image, Qwen-Image, "
    "Sana, Lumina 2 or PixArt-Σ"
)


@runtime_checkable
class Architecture(Protocol):
    """The class of a network, as far as loading needs it."""

    HALF: torch.dtype
    """The precision of 16 bits that it can run in."""

    def check(self, card: ModelCard) -> None:
        """Refuse a model of another kind by its small files, before gigabytes are fetched (UserError)."""

    def load(self, card: ModelCard, options: LoadOptions) -> Network:
        """Load a model that is on this machine (UserError if that fails)."""


def load_network(model: str, options_for: Callable[[torch.dtype], LoadOptions], config: str | None = None) -> Network:
    """Load a model: an embedded one, a local folder, a single file, or a hub id.

    Args:
        model: Its name.
        options_for: How to load it, given the precision of 16 bits that its architecture can run in.
        config: Folder of a model of the same kind, for a single file.

    Raises:
        UserError: If it is not found, cannot be loaded, or is of a kind that there is no network for.
    """
    card = find_card(model, config)
    architecture = _architecture(card)
    try:
        return architecture.load(card, options_for(architecture.HALF))
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # a value of another type than it should have
        raise UserError(
            f"The model '{card.name}' cannot be loaded, something in its files is wrong ({first_line(error)}): "
            "download or save it again."
        ) from error


def find_model(model: str) -> Path:
    """Return the local folder of a model; arguments and errors as of `find_card`."""
    return find_card(model).folder


def find_card(model: str, config: str | None = None) -> ModelCard:
    """Return what is known of a model whose files are on this machine, downloaded if they were not.

    Args:
        model: The name of an embedded model, a folder, a single file, or a hub id.
        config: Folder of a model of the same kind, for a single file.

    Raises:
        UserError: If there is no such model, no network, or it is another kind of pipeline.
    """
    if model in EMBEDDED_MODELS:
        folder = _TOYWORLD / EMBEDDED_MODELS[model]
        if not folder.is_dir():
            raise UserError(
                f"The embedded model '{model}' is missing from this installation: reinstall pds_nerfstudio, or give "
                "another model."
            )
        return _checked(card_of_folder(folder))
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(card_of_folder(path))
    if path.is_file():
        return _checked(card_of_checkpoint(path, config))
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model) or path.suffix in (".safetensors", ".ckpt"):
        raise UserError(
            f"There is no model folder or file '{model}': give an existing one, a hub id such as "
            f"'stable-diffusion-v1-5/stable-diffusion-v1-5', or '{EMBEDDED_MODEL}'."
        )
    return _checked(card_of_folder(_download(model), model))


def _architecture(card: ModelCard) -> Architecture:
    """Return the class of network for a pipeline."""
    others = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    name = {**others, **_ARCHITECTURES}.get(card.kind)
    if name is None:
        raise UserError(
            f"'{card.name}' is a {card.kind}, which there is no network for: choose a model of {_FAMILIES}."
        )
    return cast(Architecture, resolve_name(name))


def _checked(card: ModelCard) -> ModelCard:
    """Return a card, if it is one of a known architecture."""
    _architecture(card).check(card)
    return card


def _download(model: str) -> Path:
    """Return the folder of a hub model, downloaded if it is not there yet."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def locate(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(model, file))
        except EntryNotFoundError as error:
            if file == INDEX and isinstance(error, LocalEntryNotFoundError):  # which says nothing about the hub
                raise
            return None

    try:
        with quiet_libraries(progress_bars=True), hub_if_it_answers(model):
            # The small files first: they tell a wrong kind of model before gigabytes are fetched.
            card = _checked(ModelCard.read(model, locate))
            return _fetch(card)
    except UserError:
        raise
    except Exception as error:  # Network, authorisation, disk: libraries differ in what they raise.
        raise UserError(
            f"The model '{model}' is not on this machine and cannot be downloaded ({first_line(error)}): "
            f"check its name and the network, or give a local folder or '{EMBEDDED_MODEL}'."
        ) from error


def _fetch(card: ModelCard) -> Path:
    """Return the folder that a hub model was fetched into, without what no edit needs."""
    import diffusers

    pipeline: Any = getattr(diffusers, card.kind, diffusers.DiffusionPipeline)
    unused = dict.fromkeys(part for part in UNUSED if part in card.index)
    return Path(pipeline.download(card.name, variant=_variant_on_hub(card.name), **unused))


def _variant_on_hub(model: str) -> str | None:
    """Return the variant of weights that a hub model has to be fetched in, None also where the hub can't be asked.

    It can't where there is no network; then whatever was fetched before is on this machine, or the fetch says why not.
    """
    from huggingface_hub import list_repo_files

    try:
        return needed_variant(list_repo_files(model), UNUSED)
    except Exception:  # Network, authorisation: libraries differ in what they raise.
        return None
