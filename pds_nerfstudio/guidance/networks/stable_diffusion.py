"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): a UNet under one CLIP text encoder, and a KL autoencoder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.guidance.networks.acceleration.compilation import CompiledNetwork
from pds_nerfstudio.guidance.networks.acceleration.fusible import make_fusible
from pds_nerfstudio.guidance.networks.acceleration.merging import merge_projections
from pds_nerfstudio.guidance.networks.acceleration.sharing import SharedStart
from pds_nerfstudio.guidance.networks.attention import WordAttention
from pds_nerfstudio.guidance.networks.folders import check_complete, variant_of
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.process import read_process, refuse_consistency_model
from pds_nerfstudio.guidance.networks.prompts import PromptEncoder

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
_USUAL_SIZE = 64  # of latents, for UNets that don't say theirs: 512 pixels

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
    ) -> None:
        from diffusers.models.attention_processor import AttnProcessor  # here, because it takes seconds

        self.parametrization, self.schedule = read_process(scheduler)
        self.device, self.dtype, self.vae_dtype = device, dtype, vae_dtype
        self.result_dtype = torch.promote_types(torch.promote_types(dtype, vae_dtype), torch.float32)
        merge_projections(unet)
        # One head as wide as all its channels: fused attention kernels were not made for that, least of all backward.
        vae.set_attn_processor(AttnProcessor())
        # Convolutions on tensor cores want channels last; on the CPU it changes nothing for the better.
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        if compiled and layout == torch.channels_last:
            make_fusible(vae.encoder)  # the UNet, which has no backward pass, gains nothing by it
        if vae_dtype == torch.float16 and vae.config.get("force_upcast"):
            self.vae_dtype = vae_dtype = torch.bfloat16  # it overflows in float16, as those of most models do
        for module, precision in ((unet, dtype), (vae, vae_dtype), (text_encoder, dtype)):
            # The plain method: diffusers' own warns of parts to keep in float32 when there are none.
            nn.Module.to(module, device=device, dtype=precision)
            nn.Module.to(module, memory_format=layout)
            module.eval().requires_grad_(False)
        self._unet, self._vae, self._layout = unet, vae, layout
        self._shared_start = SharedStart(unet)
        self._encode_mode: Callable[[Tensor], Tensor] = lambda image: vae.encode(image).latent_dist.mode()
        self._predict_fast: Callable[..., Tensor] = self._predict
        if compiled:
            self._predict_fast = CompiledNetwork(self._predict, "UNet", device)
            self._encode_mode = CompiledNetwork(self._encode_mode, "VAE's encoder", device, differentiable=True)
        self._encode_prompts = PromptEncoder(tokenizer, text_encoder, known_words)
        self._latent_scale: float = vae.config.scaling_factor
        self._latent_shift: float = vae.config.get("shift_factor") or 0.0

        self.latent_channels: int = vae.config.latent_channels
        self.vae_scale_factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        # So that the latent halves evenly down to the UNet's bottom.
        self.size_multiple: int = self.vae_scale_factor * 2 ** (len(unet.config.block_out_channels) - 1)
        size = unet.config.sample_size or _USUAL_SIZE
        self.resolution: int = (size if isinstance(size, int) else min(size)) * self.vae_scale_factor

    ADVICE = "choose a Stable Diffusion 1.x or 2.x text-to-image model"
    """For those whose model it is not."""

    @staticmethod
    def check_index(index: dict[str, Any], model: str) -> None:
        """Refuse an index that names a second text encoder.

        Raises:
            UserError: Naming the model.
        """
        if "text_encoder_2" in index:
            advice = StableDiffusion.ADVICE
            raise UserError(f"'{model}' has two text encoders (as Stable Diffusion XL): {advice}.")

    @staticmethod
    def check_folder(index: dict[str, Any], folder: Path) -> None:
        """Refuse a folder that lacks parts.

        Raises:
            UserError: Naming what is missing.
        """
        missing = [part for part in _PARTS if index.get(part, [None])[0] is None or not (folder / part).is_dir()]
        if missing:
            advice = StableDiffusion.ADVICE
            raise UserError(f"The model in '{folder}' lacks its {' and '.join(missing)}: {advice}.")

    @staticmethod
    def download(model: str) -> Path:
        """Fetch a hub model without its safety checker, and return its folder."""
        from diffusers import StableDiffusionPipeline

        return Path(StableDiffusionPipeline.download(model, safety_checker=None, feature_extractor=None))

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, vae_dtype: torch.dtype, compiled: bool
    ) -> "StableDiffusion":
        """Load the model in a diffusers folder.

        Raises:
            UserError: If a part cannot be read, or is of another kind.
        """
        pipeline = load_pipeline(folder)
        parts = {part: getattr(pipeline, part) for part in _PARTS}
        words = read_known_words(folder)
        return cls(**parts, device=device, dtype=dtype, vae_dtype=vae_dtype, known_words=words, compiled=compiled)

    def encode(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """See `Network`."""
        mode = self._encode_mode(self._input(image, self.vae_dtype) * 2 - 1)
        return (mode.to(self.result_dtype) - self._latent_shift) * self._latent_scale

    def decode(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """See `Network`."""
        latents = latents.to(self.device, self.result_dtype) / self._latent_scale + self._latent_shift
        image: Tensor = self._vae.decode(latents.to(self.vae_dtype)).sample
        return (image.to(self.result_dtype) / 2 + 0.5).clamp(0, 1)

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
        latent, time = latent.repeat(prompts, 1, 1, 1), time.repeat(prompts)
        if self.parametrization == "flow":
            time = time * self.schedule.num_steps
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


def load_pipeline(folder: Path) -> Any:
    """Return the diffusers pipeline in `folder` (on the CPU), without safety checker, loaded without chatter.

    Raises:
        UserError: If a part cannot be read, or is not of the kind that Stable Diffusion 1.x and 2.x use.
    """
    # Imported here because it takes seconds, and whoever only reads the configuration should not wait.
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

    advice = StableDiffusion.ADVICE
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    check_complete(folder, str(folder), index, _UNUSED)
    with quiet_libraries(progress_bars=False):
        try:
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder,
                **dict.fromkeys(_UNUSED),
                requires_safety_checker=False,
                variant=variant_of(folder, _UNUSED),
                local_files_only=True,
            )
        except Exception as error:  # Any reader of any part may fail in its own way; the way out is the same.
            raise UserError(
                f"The model in '{folder}' cannot be loaded ({first_line(error)}): download or save it again."
            ) from error
    for part, kind in ((pipeline.unet, UNet2DConditionModel), (pipeline.vae, AutoencoderKL)):
        if not isinstance(part, kind):
            raise UserError(f"The model in '{folder}' has a {type(part).__name__} for a {kind.__name__}: {advice}.")
    unet, vae = pipeline.unet.config, pipeline.vae.config
    refuse_consistency_model(unet, str(folder))
    if unet.in_channels != vae.latent_channels:
        raise UserError(
            f"The model in '{folder}' takes {unet.in_channels} channels where its latents have "
            f"{vae.latent_channels} (an inpainting or instruction-editing model?): {advice}."
        )
    text_channels = pipeline.text_encoder.config.hidden_size
    if unet.addition_embed_type or unet.cross_attention_dim != text_channels:
        raise UserError(f"The model in '{folder}' needs other conditions than one text encoder's: {advice}.")
    return pipeline


def read_known_words(folder: Path) -> frozenset[str] | None:
    """Return the words in the optional `words.txt` of `folder` (one a line), or None if it has no such file."""
    path = folder / "words.txt"
    return frozenset(path.read_text(encoding="utf-8").lower().split()) if path.is_file() else None
