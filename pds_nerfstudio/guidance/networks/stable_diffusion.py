"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): a UNet under one CLIP text encoder, and a KL autoencoder."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.acceleration.sharing import SharedStart
from pds_nerfstudio.guidance.networks.across_views import KeyViews
from pds_nerfstudio.guidance.networks.assembly import load_pipeline
from pds_nerfstudio.guidance.networks.attention import WordAttention
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.pipeline import Answers, Embedding, Latents
from pds_nerfstudio.guidance.networks.process import refuse_consistency_model
from pds_nerfstudio.guidance.networks.prompts import PromptEncoder, read_known_words
from pds_nerfstudio.guidance.networks.unets import UNetNetwork

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_USUAL_SIZE = 64  # of latents, for UNets that don't say theirs: 512 pixels
_TEXT = "encoder_hidden_states"
_ADVICE = "choose a Stable Diffusion 1.x or 2.x text-to-image model"

Embeddings = Float[Tensor, "questions tokens width_of_text"]
"""What this network makes of prompts."""


class StableDiffusion(UNetNetwork):
    """A network of the Stable Diffusion 1.x or 2.x type.

    Its UNet computes what comes before the first cross-attention once for all prompts (see `acceleration`), and where
    it looks for words can be asked.

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
        offload: See `LoadOptions`.

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
        offload: bool = False,
    ) -> None:
        parts = SimpleNamespace(
            unet=unet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            default_sample_size=_USUAL_SIZE,
        )
        super().__init__(parts, LoadOptions(device, dtype, vae_dtype, compiled, merged=merged, offload=offload))
        self._shared_start = SharedStart(unet)
        self._encoder = PromptEncoder(tokenizer, text_encoder)
        self._readers = [self._encoder.reader]
        self._known_words = known_words

    @classmethod
    def check(cls, card: ModelCard) -> None:
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
            offload=options.offload,
        )

    def _place(self, options: LoadOptions) -> None:
        # Convolutions want channels last, on tensor cores and on a CPU.
        for module in (self._model, self._pipeline.text_encoder):
            # The plain method: diffusers' own warns of parts to keep in float32 when there are none.
            nn.Module.to(module, dtype=self.dtype)
            nn.Module.to(module, memory_format=torch.channels_last)
            module.eval().requires_grad_(False)
        super()._place(options)

    def _embed(self, prompt: Prompt) -> Embedding:
        """Return what the text encoder makes of a prompt; no prompt is the empty text."""
        return {_TEXT: self._encoder(prompt or "")[None]}

    def _collate(self, embeddings: list[Embedding]) -> Embeddings:
        return torch.cat([one[_TEXT] for one in embeddings])

    def predict(self, latent: Latents, time: Shaped[Tensor, " batch"], condition: Embeddings) -> Answers:
        """See `Network`."""
        return super().predict(latent, time, {_TEXT: condition})

    def _answer_flat(self, latent: Tensor, time: Tensor, *values: Tensor) -> Tensor:
        # An attribute is set in place of a context opened: that can be compiled.
        self._shared_start.prompts = len(values[0]) // len(latent)
        return super()._answer_flat(latent, time, *values)

    def predict_across(
        self, latent: Latents, time: Shaped[Tensor, " batch"], condition: Embeddings, views: int, key_views: int
    ) -> Answers:
        """See `AttendsAcrossViews`. Never compiled: compiled layers have the processors that they had then."""
        with KeyViews(self._model, views, key_views):
            return self._ask(self._answer_flat, latent, time, {_TEXT: condition})

    def changed_words(self, prompts: Sequence[str], others: Sequence[str]) -> Bool[Tensor, "prompts tokens"]:
        """See `AttendsToWords`."""
        changed = (self._encoder.changed_words(*pair) for pair in zip(prompts, others, strict=True))
        return torch.stack(list(changed)).to(self.device)

    def predict_and_attend(
        self,
        latent: Latents,
        time: Shaped[Tensor, " batch"],
        condition: Embeddings,
        words: Bool[Tensor, "questions tokens"],
    ) -> tuple[Answers, Float[Tensor, "questions 1 height width"]]:
        """See `AttendsToWords`. Never compiled: compiled layers have no hooks."""
        with WordAttention(self._model, words.to(self.device)) as attention:
            prediction = self._ask(self._answer_flat, latent, time, {_TEXT: condition})
        return prediction, attention.map((latent.shape[-2], latent.shape[-1])).to(self.result_dtype)
