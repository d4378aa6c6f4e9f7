"""How a network is loaded: where, in which precision, and what people bring along."""

from dataclasses import dataclass

import torch

from pds_nerfstudio.guidance.networks.quantization import Quantization


@dataclass(frozen=True)
class LoadOptions:
    """Everything that loading a network needs beside the model's folder."""

    device: torch.device
    """Where the network runs."""
    dtype: torch.dtype
    """What it runs in."""
    vae_dtype: torch.dtype
    """What its autoencoder runs in."""
    compiled: bool = False
    """Whether it is compiled, if its architecture can be."""
    loras: tuple[str, ...] = ()
    """Low-rank adaptations, each a file, with its weight after a colon if that isn't 1; fused into the weights."""
    embeddings: tuple[str, ...] = ()
    """Files of textual inversion, whose words prompts may then use."""
    vae: str | None = None
    """Folder of another autoencoder for the same latents."""
    distilled_guidance: float | None = None
    """Guidance that models distilled for it take as an input; None is what their pipeline takes."""
    image_guidance: float = 1.0
    """Scale of the guidance by the source picture of InstructPix2Pix; 1 is none."""
    merged: bool = True
    """Whether layers of one input are merged, where that is faster; an adapter to be trained needs each by itself."""
    text_encoders: Quantization = "full"
    """What the weights of large text encoders are kept in."""
    offload: bool = False
    """Whether the network's weights wait in the machine's memory, and visit the device layer by layer."""
