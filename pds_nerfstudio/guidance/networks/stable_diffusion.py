"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): a UNet under one CLIP text encoder, and a KL autoencoder."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.acceleration.compilation import CompiledNetwork
from pds_nerfstudio.guidance.networks.acceleration.merging import merge_projections
from pds_nerfstudio.guidance.networks.acceleration.sharing import SharedStart
from pds_nerfstudio.guidance.networks.assembly import load_pipeline
from pds_nerfstudio.guidance.networks.attention import WordAttention
from pds_nerfstudio.guidance.networks.autoencoders import Autoencoder
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.process import (
    read_process,
    refuse_consistency_model,
    takes_few_steps,
    training_time,
)
from pds_nerfstudio.guidance.networks.prompts import PromptEncoder, read_known_words

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_USUAL_SIZE = 64  # of latents, for UNets that don't say theirs: 512 pixels
_ADVICE = "choose a Stable Diffusion 1.x or 2.x text-to-image model"

Embeddings = Float[Tensor, "questions tokens width_of_text"]
"""What this network makes of prompts."""


class StableDiffusion:
    """A network of the Stable Diffusion 1.x or 2.x type.

    Its UNet has projections merged, computes what comes before the first cross-attention once for all prompts, and may
    be compiled together with the encoder (see `acceleration`); where it looks for words can be asked.

    Args:
        unet: A diffusers UNet, conditioned on time and text.
        vae: A diffusers KL autoencoder.
        text_encoder: A transformers text encoder.
        tokenizer: Its tokenizer.
        scheduler: Any diffusers scheduler that tells what the model predicts and its noise: see `read_process`.
        device: Where the network runs.
        dtype: What the UNet and the text encoder run in.
        vae_dtype: What the VAE runs in.
        known_words: The only words that the model was trained with, or None.
        compiled: Whether the UNet and the VAE's encoder are compiled.
        merged: Whether projections are merged.

    Raises:
        UserError: If the scheduler doesn't tell.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        device: torch.device,
        dtype: torch.dtype,
        vae_dtype: torch.dtype,
        known_words: frozenset[str] | None = None,
        compiled: bool = False,
        merged: bool = True,
    ) -> None:
        self.parametrization, self.schedule = read_process(scheduler)
        self.device, self.dtype = device, dtype
        self.result_dtype = torch.promote_types(torch.promote_types(dtype, vae_dtype), torch.float32)
        self.guidance_scale: float = 1.0 if takes_few_steps(scheduler) else 7.5
        if merged:
            merge_projections(unet)
        self._autoencoder = Autoencoder(vae, device, vae_dtype, self.result_dtype, compiled)
        # Convolutions on tensor cores want channels last; on the CPU it changes nothing for the better.
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        for module in (unet, text_encoder):
            # The plain method: diffusers' own warns of parts to keep in float32 when there are none.
            nn.Module.to(module, device=device, dtype=dtype)
            nn.Module.to(module, memory_format=layout)
            module.eval().requires_grad_(False)
        self._unet, self._layout = unet, layout
        self._shared_start = SharedStart(unet)
        self._predict_fast: Callable[..., Tensor] = self._predict
        if compiled:
            self._predict_fast = CompiledNetwork(self._predict, "UNet", device)
        self._encode_prompts = PromptEncoder(tokenizer, text_encoder, known_words)

        self.latent_channels: int = self._autoencoder.channels
        self.vae_scale_factor: int = self._autoencoder.factor
        # So that the latent halves evenly down to the UNet's bottom.
        self.size_multiple: int = self.vae_scale_factor * 2 ** (len(unet.config.block_out_channels) - 1)
        size = unet.config.sample_size or _USUAL_SIZE
        self.resolution: int = (size if isinstance(size, int) else min(size)) * self.vae_scale_factor

    HALF = torch.float16
    """Eight times as fine as bfloat16, and wide enough for what this network computes."""

    @staticmethod
    def check(card: ModelCard) -> None:
        """Refuse a model that lacks parts, takes other latents or other conditions.

        Raises:
            UserError: Naming the model and what is missing.
        """
        if card.has("text_encoder_2"):
            raise UserError(f"'{card.name}' has two text encoders (as Stable Diffusion XL): {_ADVICE}.")
        missing = [part for part in _PARTS if not card.has(part)]
        if missing:
            raise UserError(f"The model '{card.name}' lacks its {' and '.join(missing)}: {_ADVICE}.")
        unet, vae = card.config("unet"), card.config("vae")
        refuse_consistency_model(unet, card.name)
        channels, latent_channels = unet.get("in_channels", 4), vae.get("latent_channels", 4)
        if channels != latent_channels:
            raise UserError(
                f"The model '{card.name}' takes {channels} channels where its latents have {latent_channels} (an "
                f"inpainting, depth or upscaling model?): {_ADVICE}."
            )
        if unet.get("addition_embed_type") or unet.get("cross_attention_dim") != card.config("text_encoder").get(
            "hidden_size"
        ):
            raise UserError(f"The model '{card.name}' needs other conditions than one text encoder's: {_ADVICE}.")

    @classmethod
    def load(cls, card: ModelCard, options: LoadOptions) -> "StableDiffusion":
        """Load a model that is on this machine (UserError if that fails)."""
        pipeline = load_pipeline(card, options, kind="StableDiffusionPipeline")
        parts = {part: getattr(pipeline, part) for part in _PARTS}
        return cls(
            **parts,
            device=options.device,
            dtype=options.dtype,
            vae_dtype=options.vae_dtype,
            known_words=read_known_words(card.folder),
            compiled=options.compiled,
            merged=options.merged,
        )

    @property
    def adaptable_model(self) -> Any:
        """See `Adaptable`."""
        return self._unet

    def encode(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """See `Network`."""
        return self._autoencoder.encode(image)

    def decode(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """See `Network`."""
        return self._autoencoder.decode(latents)

    def condition(self, prompts: Sequence[Prompt]) -> Embeddings:
        """Return text embeddings, in the model's dtype; no prompt is the empty text."""
        return self._encode_prompts([prompt or "" for prompt in prompts])

    def predict(
        self,
        latent: Float[Tensor, "batch channels height width"],
        time: Shaped[Tensor, " batch"],
        condition: Embeddings,
    ) -> Float[Tensor, "questions channels height width"]:
        """See `Network`. With gradients enabled it is never compiled: CUDA graphs would keep no activations."""
        predict = self._predict if torch.is_grad_enabled() else self._predict_fast
        condition = condition.to(self.device, self.dtype)
        answer: Tensor = predict(self._input(latent, self.dtype), time, condition)
        return answer.to(self.result_dtype)

    def _predict(self, latent: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Return what the UNet predicts. An attribute is set in place of a context opened: that can be compiled."""
        prompts = len(condition) // len(latent)
        self._shared_start.prompts = prompts
        time = training_time(self.parametrization, time, self.schedule)
        latent, time = latent.repeat(prompts, 1, 1, 1), time.repeat(prompts)
        sample: Tensor = self._unet(latent, time, encoder_hidden_states=condition).sample
        return sample

    def changed_words(self, prompts: Sequence[str], others: Sequence[str]) -> Bool[Tensor, "prompts tokens"]:
        """See `AttendsToWords`."""
        changed = (self._encode_prompts.changed_words(*pair) for pair in zip(prompts, others, strict=True))
        return torch.stack(list(changed)).to(self.device)

    def predict_and_attend(
        self,
        latent: Float[Tensor, "batch channels height width"],
        time: Shaped[Tensor, " batch"],
        condition: Embeddings,
        words: Bool[Tensor, "questions tokens"],
    ) -> tuple[Float[Tensor, "questions channels height width"], Float[Tensor, "questions 1 height width"]]:
        """See `AttendsToWords`."""
        condition = condition.to(self.device, self.dtype)
        with WordAttention(self._unet, words.to(self.device)) as attention:
            prediction = self._predict(self._input(latent, self.dtype), time, condition).to(self.result_dtype)
        return prediction, attention.map((latent.shape[-2], latent.shape[-1])).to(self.result_dtype)

    def _input(self, x: Float[Tensor, "batch channels height width"], dtype: torch.dtype) -> Tensor:
        """Pixels or latents as the modules take them."""
        return x.to(self.device, dtype, memory_format=self._layout)
