"""A low-rank adaptation (Hu et al. 2022) of a network's attention layers: given to it, trained, saved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.network import Adaptable, LooksAtSource, Network
from pds_nerfstudio.whole_files import whole_file

_ATTENTION = re.compile(r"(?:^|\.)(?:to_(?:q|k|v|qkv_mlp_proj|out|out\.0|add_out)|add_[qkv]_proj)$")
"""The names that diffusers gives to the projections of its attention layers, in all architectures."""


def saver_of(card: ModelCard) -> Any:
    """Return the class of diffusers that writes a LoRA as files for this model are written.

    Raises:
        UserError: If none does.
    """
    import diffusers  # here, because it takes seconds

    saver = getattr(diffusers, card.kind, None)
    if not hasattr(saver, "save_lora_weights"):
        raise UserError(
            f"'{card.name}' is a {card.kind}, which no LoRA can be saved for: choose a model of Stable Diffusion 1, 2, "
            "XL or 3, FLUX, Chroma, Z-Image, Qwen-Image, Sana or Lumina 2."
        )
    return saver


class Lora:
    """An adapter of a network's attention layers. Until it is trained, it changes nothing.

    Its scale is 1 (alpha equals the rank), so that a file means the same to all who read it.

    Args:
        network: Loaded without merging layers. Its own weights stay as they are.
        rank: Of the two factors of each layer's change.
        seed: Of the factor that begins with random numbers; the other begins with zeros.
        recompute: Whether activations are computed again on the way back, which takes less memory and more time.

    Raises:
        UserError: If the network looks at the source picture, or is not one of diffusers.
    """

    def __init__(self, network: Network, rank: int, seed: int, recompute: bool = False) -> None:
        from peft import LoraConfig  # here, because it takes seconds

        if isinstance(network, LooksAtSource):
            raise UserError(
                f"A {type(network).__name__} looks at a source picture, and a subject is learnt without any: choose a "
                "text-to-image model of the same family."
            )
        if not isinstance(network, Adaptable):
            raise UserError(f"A {type(network).__name__} is no model of diffusers: it takes no LoRA.")
        self._model = network.adaptable_model
        names = [
            name
            for name, layer in self._model.named_modules()
            if isinstance(layer, nn.Linear) and _ATTENTION.search(name)
        ]
        with torch.random.fork_rng(devices=[]), quiet_libraries(progress_bars=False):
            torch.random.default_generator.manual_seed(seed)
            self._model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=names))
        self.parameters: list[nn.Parameter] = [p for p in self._model.parameters() if p.requires_grad]
        """What is trained: in float32, whatever the network runs in, because a step is too small for 16 bits."""
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        if recompute:
            self._model.enable_gradient_checkpointing()
            self._model.train()  # or diffusers recomputes nothing; there is no dropout

    def layers(self) -> dict[str, Tensor]:
        """Return the trained numbers by the names that peft gives them, which the loaders of all models read."""
        from peft.utils import get_peft_model_state_dict

        layers: dict[str, Tensor] = get_peft_model_state_dict(self._model)
        return layers

    def save(self, file: Path, card: ModelCard) -> None:
        """Write a file that the option `guidance.lora` takes; one that is there is replaced as a whole.

        Raises:
            UserError: If no LoRA can be saved for such a model.
        """
        part = "unet" if card.has("unet") else "transformer"
        options = {f"{part}_lora_layers": self.layers()}
        with whole_file(file) as unfinished:
            saver_of(card).save_lora_weights(str(unfinished.parent), weight_name=unfinished.name, **options)
