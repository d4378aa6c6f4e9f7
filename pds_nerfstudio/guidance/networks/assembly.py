"""A diffusers pipeline from its files: each part in its precision, with what people bring."""

from typing import Any

import torch

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.adapters import fuse_loras, load_embeddings, replace_autoencoder
from pds_nerfstudio.guidance.networks.card import UNUSED, ModelCard
from pds_nerfstudio.guidance.networks.folders import check_complete, variant_of
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.quantization import large_text_encoders, text_quantization


def load_pipeline(card: ModelCard, options: LoadOptions, kind: str | None = None) -> Any:
    """Return the pipeline of a model (on the CPU), loaded without chatter.

    Weights are read in the precision that they run in. Text encoders other than CLIP run in bfloat16 where the network
    runs in 16 bits: T5 overflows in float16.

    Args:
        card: Of the model, which is on this machine.
        options: Precisions, and what is brought along.
        kind: Class of the pipeline, if not the model's own.

    Raises:
        UserError: If a part cannot be read, or what is brought along does not fit.
    """
    # Imported here because it takes seconds, and whoever only reads the configuration should not wait.
    import diffusers

    pipeline_class = getattr(diffusers, kind or card.kind, None)
    if pipeline_class is None:
        raise UserError(
            f"diffusers {diffusers.__version__} has no {card.kind}, which '{card.name}' needs: "
            "pip install --upgrade diffusers."
        )
    if card.only_network:
        _check_network_class(card)
    if card.checkpoint is None or card.only_network:
        unused = (*UNUSED, card.network_part) if card.only_network else UNUSED
        check_complete(card.folder, str(card.folder) if card.only_network else card.name, card.index, unused)
    quantized = text_quantization(card, options.text_encoders, options.dtype)
    with quiet_libraries(progress_bars=False):
        try:
            pipeline = _read(pipeline_class, card, options, quantized)
        except Exception as error:  # Any reader of any part may fail in its own way; the way out is the same.
            raise UserError(
                f"The model '{card.name}' cannot be loaded ({first_line(error)}): {_way_out(card, bool(quantized))}."
            ) from error
        load_embeddings(pipeline, options.embeddings)
        if options.vae is not None:
            replace_autoencoder(pipeline, options.vae, options.vae_dtype)
    fuse_loras(pipeline, options.loras)
    return pipeline


def _read(pipeline_class: Any, card: ModelCard, options: LoadOptions, quantized: dict[str, Any]) -> Any:
    """Return the pipeline from a folder, from one file, or from a folder with the denoising model from a file."""
    if card.checkpoint is not None and not card.only_network:
        return pipeline_class.from_single_file(
            str(card.checkpoint), config=str(card.folder), torch_dtype=options.dtype, local_files_only=True
        )
    given: dict[str, Any] = {name: None for name, part in card.index.items() if part == [None, None]}
    given |= dict.fromkeys(part for part in UNUSED if part in card.index)
    if "safety_checker" in card.index:
        given["requires_safety_checker"] = False
    unused: tuple[str, ...] = UNUSED
    if card.only_network:
        part = card.network_part
        unused = (*UNUSED, part)
        given[part] = _network_class(card).from_single_file(
            str(card.checkpoint),
            config=str(card.folder),
            subfolder=part,
            torch_dtype=options.dtype,
            local_files_only=True,
        )
    return pipeline_class.from_pretrained(
        card.folder,
        torch_dtype=_dtypes(card, options),
        variant=variant_of(card.folder, unused),
        local_files_only=True,
        **given,
        **quantized,
    )


def _way_out(card: ModelCard, quantized: bool) -> str:
    """Return what to do about a model that cannot be loaded."""
    if quantized:
        return "leave text_encoders full"
    if card.only_network:
        return f"give the {card.network_part} of a {card.kind}, or the model_config of its own kind"
    if card.checkpoint is not None:
        return f"give a file with all parts of a {card.kind}, or the model_config of its own kind"
    return "download or save it again"


def _network_class(card: ModelCard) -> Any:
    import diffusers

    return getattr(diffusers, card.part_class(card.network_part) or "", None)


def _check_network_class(card: ModelCard) -> None:
    """Refuse a file of a denoising model whose class diffusers reads from folders only (UserError)."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    if card.part_class(card.network_part) not in SINGLE_FILE_LOADABLE_CLASSES:
        raise UserError(
            f"'{card.name}' holds the {card.network_part} of a {card.kind} alone, which diffusers doesn't read from a "
            "file: give a folder in diffusers' layout."
        )


def _dtypes(card: ModelCard, options: LoadOptions) -> dict[str, torch.dtype]:
    """Return what each part is loaded in."""
    dtypes = {"default": options.dtype, "vae": options.vae_dtype}
    if options.dtype.itemsize == 2:
        dtypes |= dict.fromkeys(large_text_encoders(card), torch.bfloat16)
    return dtypes
