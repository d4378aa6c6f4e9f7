"""A diffusers pipeline behind one noise prediction, whatever it was trained to predict."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.attention import WordAttention
from pds_nerfstudio.guidance.compilation import CompiledNetwork
from pds_nerfstudio.guidance.fusible import make_fusible
from pds_nerfstudio.guidance.loading import find_model, load_pipeline, read_known_words
from pds_nerfstudio.guidance.merging import merge_projections
from pds_nerfstudio.guidance.objectives import Schedule
from pds_nerfstudio.guidance.prompts import PromptEncoder
from pds_nerfstudio.guidance.sharing import SharedStart


class Denoiser:
    """A frozen latent diffusion model of the Stable Diffusion 1.x / 2.x type.

    Deliberately no ``nn.Module``: held by a model, its gigabytes would end up in every checkpoint.

    Tensors go in on any device and in any float dtype. Results are on ``device``, in at least float32,
    whatever precision the networks run in. An autocast region of the caller has no effect inside: it would
    override the dtype that was chosen for the networks.

    Args:
        unet: diffusers UNet, conditioned on time and text.
        vae: diffusers KL autoencoder.
        text_encoder: transformers text encoder.
        tokenizer: its tokenizer.
        scheduler: any diffusers scheduler that holds the training noise schedule and the prediction type.
        device: where the networks run.
        dtype: what the networks run in.
        known_words: the only words the model was trained with, or None.
        compiled: whether the UNet and the VAE's encoder are compiled (see ``compilation``).
        vae_dtype: what the VAE runs in, if in something else.

    Raises:
        UserError: if the model predicts neither the noise nor the velocity, or has no discrete noise
        schedule.
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
        known_words: frozenset[str] | None = None,
        compiled: bool = False,
        vae_dtype: torch.dtype | None = None,
    ) -> None:
        from diffusers.models.attention_processor import AttnProcessor  # here, because it takes seconds

        self.prediction_type: str = scheduler.config.get("prediction_type", "epsilon")
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise UserError(
                f"The model predicts '{self.prediction_type}': choose one whose scheduler says 'epsilon' or "
                "'v_prediction'."
            )
        self.schedule = Schedule.from_scheduler(scheduler)
        self.device = device
        self.dtype = dtype
        self.vae_dtype = vae_dtype or dtype
        self.result_dtype = torch.promote_types(torch.promote_types(dtype, self.vae_dtype), torch.float32)
        self.alphas_cumprod = self.schedule.alphas_cumprod.to(self.result_dtype).to(device)
        merge_projections(unet)
        # One head as wide as all its channels: fused attention kernels were not made for that, least of all backward.
        vae.set_attn_processor(AttnProcessor())
        # Convolutions on tensor cores want channels last; on the CPU it changes nothing for the better.
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        if compiled and layout == torch.channels_last:
            make_fusible(vae.encoder)  # the UNet, which has no backward pass, gains nothing by it
        for module, precision in ((unet, dtype), (vae, self.vae_dtype), (text_encoder, dtype)):
            # The plain method: diffusers' own warns of parts to keep in float32 when there are none.
            nn.Module.to(module, device=device, dtype=precision)
            nn.Module.to(module, memory_format=layout)
            module.eval().requires_grad_(False)
        self._vae = vae
        self._unet = unet
        self._shared_start = SharedStart(unet)
        self._encode_mode: Callable[[Tensor], Tensor] = lambda image: vae.encode(image).latent_dist.mode()
        self._predict: Callable[..., Tensor] = self._predict_uncompiled
        if compiled:
            self._predict = CompiledNetwork(self._predict_uncompiled, "UNet", device)
            self._encode_mode = CompiledNetwork(self._encode_mode, "VAE's encoder", device, differentiable=True)
        self._layout = layout
        self._encode_prompts = PromptEncoder(tokenizer, text_encoder, known_words)
        self._latent_scale: float = vae.config.scaling_factor
        self._latent_shift: float = vae.config.get("shift_factor") or 0.0

        self.latent_channels: int = vae.config.latent_channels
        """Channels of a latent."""
        self.vae_scale_factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        """Pixels along one side of a latent pixel."""
        self.size_multiple: int = self.vae_scale_factor * 2 ** (len(unet.config.block_out_channels) - 1)
        """Image sides must be multiples of this for the latent to halve evenly down to the UNet's bottom."""
        size = unet.config.sample_size
        self.resolution: int = (size if isinstance(size, int) else min(size)) * self.vae_scale_factor
        """Side in pixels of the square images that the model was trained with."""

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        device: torch.device | str,
        dtype: torch.dtype,
        compiled: bool = False,
        vae_dtype: torch.dtype | None = None,
    ) -> "Denoiser":
        """Load a model.

        Args:
            model: 'toyworld' (the embedded one), a local diffusers folder, or a hub id.
            device: where to run it.
            dtype: what to run it in.
            compiled: whether to compile it.
            vae_dtype: what to run the VAE in, if in something else.

        Raises:
            UserError: if the model is not found, cannot be loaded, or is of another kind.
        """
        folder = find_model(model)
        pipeline = load_pipeline(folder)
        return cls(
            unet=pipeline.unet,
            vae=pipeline.vae,
            text_encoder=pipeline.text_encoder,
            tokenizer=pipeline.tokenizer,
            scheduler=pipeline.scheduler,
            device=torch.device(device),
            dtype=dtype,
            known_words=read_known_words(folder),
            compiled=compiled,
            vae_dtype=vae_dtype,
        )

    def encode_image(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """Latents of images with values in [0, 1], differentiable with respect to the image.

        The mode of the VAE's posterior, never a sample: equal images have equal latents. Sides should be
        multiples of ``size_multiple``.
        """
        with self._no_autocast():
            mode = self._encode_mode(self._input(image, self.vae_dtype) * 2 - 1)
            return (mode.to(self.result_dtype) - self._latent_shift) * self._latent_scale

    @torch.no_grad()
    def decode_latents(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images in [0, 1] of latents. Not differentiable."""
        latents = latents.to(self.device, self.result_dtype) / self._latent_scale + self._latent_shift
        with self._no_autocast():
            image = self._vae.decode(latents.to(self.vae_dtype)).sample
        return (image.to(self.result_dtype) / 2 + 0.5).clamp(0, 1)

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "prompts tokens channels"]:
        """Text embeddings, in the model's dtype; each prompt is encoded once and remembered.

        Warns of a prompt that is longer than the model reads, and of words it does not know.
        """
        with self._no_autocast():
            return self._encode_prompts(prompts)

    def changed_words(self, prompts: Sequence[str], others: Sequence[str]) -> Bool[Tensor, "prompts tokens"]:
        """For each prompt, which of its tokens are not in the other one that it is paired with."""
        changed = (self._encode_prompts.changed_words(*pair) for pair in zip(prompts, others, strict=True))
        return torch.stack(list(changed)).to(self.device)

    def add_noise(
        self,
        x: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """x_t = √ᾱ_t·x + √(1−ᾱ_t)·ε, each element with its own t; all on the denoiser's device."""
        alpha_bar = self.alphas_cumprod[t][:, None, None, None]
        return alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        embeddings: Float[Tensor, "prompts*batch tokens channels"],
    ) -> Float[Tensor, "prompts*batch channels height width"]:
        """ε̂, the noise that the model sees in x_t. Not differentiable.

        With several prompts for each element, ``embeddings`` holds all elements' first prompts, then all second ones,
        and so on, and so does the result. What doesn't depend on the prompt is computed once.
        """
        return self._noise(self._predict, x_t, t, embeddings)

    def predict_noise_differentiably(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        embeddings: Float[Tensor, "prompts*batch tokens channels"],
    ) -> Float[Tensor, "prompts*batch channels height width"]:
        """ε̂ as ``predict_noise`` gives it, with gradients that flow back to x_t. Never compiled."""
        return self._noise(self._predict_uncompiled, x_t, t, embeddings)

    def _noise(
        self,
        predict: Callable[[Tensor, Tensor, Tensor], Tensor],
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        embeddings: Float[Tensor, "prompts*batch tokens channels"],
    ) -> Float[Tensor, "prompts*batch channels height width"]:
        """What the UNet predicts, as noise.

        A velocity v = √ᾱ_t·ε − √(1−ᾱ_t)·x (Salimans and Ho 2022, appendix D) is turned into noise by
        ε = √ᾱ_t·v + √(1−ᾱ_t)·x_t.
        """
        x_t, t = x_t.to(self.device), t.to(self.device)
        with self._no_autocast():
            embeddings = embeddings.to(self.device, self.dtype)
            prediction = predict(self._input(x_t, self.dtype), t, embeddings).to(self.result_dtype)
        if self.prediction_type == "epsilon":
            return prediction
        alpha_bar = self.alphas_cumprod[t][:, None, None, None]
        velocity = prediction.unflatten(0, (-1, len(x_t)))
        return (alpha_bar.sqrt() * velocity + (1 - alpha_bar).sqrt() * x_t.to(self.result_dtype)).flatten(0, 1)

    def _predict_uncompiled(self, x_t: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """What the UNet predicts. (An attribute is set in place of a context opened: that can be compiled.)"""
        prompts = len(embeddings) // len(x_t)
        self._shared_start.prompts = prompts
        x_t, t = x_t.repeat(prompts, 1, 1, 1), t.repeat(prompts)
        return self._unet(x_t, t, encoder_hidden_states=embeddings).sample

    @torch.no_grad()
    def predict_noise_and_attention(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        embeddings: Float[Tensor, "prompts*batch tokens channels"],
        words: Bool[Tensor, "prompts*batch tokens"],
    ) -> tuple[Float[Tensor, "prompts*batch channels height width"], Float[Tensor, "prompts*batch 1 height width"]]:
        """ε̂ as ``predict_noise`` gives it, and how much each place attends to ``words`` (see ``attention``)."""
        with WordAttention(self._unet, words.to(self.device)) as attention:
            prediction = self._noise(self._predict_uncompiled, x_t, t, embeddings)
        return prediction, attention.map((x_t.shape[-2], x_t.shape[-1])).to(self.result_dtype)

    def _input(self, x: Float[Tensor, "batch channels height width"], dtype: torch.dtype) -> Tensor:
        """Pixels or latents as the networks take them."""
        return x.to(self.device, dtype, memory_format=self._layout)

    def _no_autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, enabled=False)
