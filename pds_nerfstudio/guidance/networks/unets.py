"""Networks of UNet type beyond Stable Diffusion 1 and 2: SDXL, and those that look at the source picture."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.acceleration.merging import merge_projections
from pds_nerfstudio.guidance.networks.across_views import KeyViews
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.pipeline import Answers, BesideSource, Embedding, Latents, PipelineNetwork
from pds_nerfstudio.guidance.networks.process import (
    read_process,
    refuse_consistency_model,
    takes_few_steps,
    training_time,
)
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule


class UNetNetwork(PipelineNetwork):
    """What networks of UNet type have in common: discrete times, and one latent channel more than one to look at."""

    HALF = torch.float16
    MODEL = "unet"
    SHOWN = 0
    """Channels of what the UNet is shown beside the noisy latent."""

    def __init__(self, pipeline: Any, options: LoadOptions) -> None:
        if options.merged:
            merge_projections(pipeline.unet)
        super().__init__(pipeline, options)
        # So that the latent halves evenly down to the UNet's bottom.
        self.size_multiple = self.vae_scale_factor * 2 ** (len(self._model.config.block_out_channels) - 1)

    @classmethod
    def check(cls, card: ModelCard) -> None:
        """See `PipelineNetwork`."""
        unet, vae = card.config("unet"), card.config("vae")
        refuse_consistency_model(unet, card.name)
        wanted = vae.get("latent_channels", 4) + cls.SHOWN
        if unet.get("in_channels", 4) != wanted:
            raise UserError(
                f"'{card.name}' has a UNet of {unet.get('in_channels')} channels where a {card.kind} has {wanted}: "
                "choose another model."
            )

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`."""
        return 1.0 if takes_few_steps(pipeline.scheduler) else 7.5

    def trained_size(self) -> int:
        """See `PipelineNetwork`."""
        size = self._model.config.sample_size or self._pipeline.default_sample_size
        return int(size if isinstance(size, int) else min(size))

    def _process(self, scheduler: Any) -> tuple[Parametrization, Schedule]:
        return read_process(scheduler)

    def _ask(self, answer: Callable[..., Tensor], latent: Latents, time: Tensor, condition: Embedding) -> Answers:
        return super()._ask(answer, latent, training_time(self.parametrization, time, self.schedule), condition)

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer: Tensor = self._model(latent, time, **condition).sample
        return answer


class StableDiffusionXL(UNetNetwork):
    """Stable Diffusion XL (Podell et al. 2023), base, turbo and lightning: two text encoders, and a picture's size.

    Of the whole: a picture as large as the latent, not cropped.
    """

    def _embed(self, prompt: Prompt) -> Embedding:
        tokens, none_tokens, pooled, none_pooled = self._pipeline.encode_prompt(
            prompt or "", device=self.device, do_classifier_free_guidance=prompt is None
        )
        if prompt is None:  # zeros, where the pipeline says so
            tokens, pooled = none_tokens, none_pooled
        return {"encoder_hidden_states": tokens, "text_embeds": pooled}

    def predict_across(
        self, latent: Latents, time: Tensor, condition: Embedding, views: int, key_views: int
    ) -> Answers:
        """See `AttendsAcrossViews`. Never compiled: compiled layers have the processors that they had then."""
        with KeyViews(self._model, views, key_views):
            return self._ask(self._answer_flat, latent, time, condition)

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        height, width = (side * self.vae_scale_factor for side in latent.shape[-2:])
        ids = torch.tensor([height, width, 0, 0, height, width], device=latent.device, dtype=latent.dtype)
        added = {"text_embeds": condition["text_embeds"], "time_ids": ids.expand(len(latent), -1)}
        tokens = condition["encoder_hidden_states"]
        answer: Tensor = self._model(latent, time, encoder_hidden_states=tokens, added_cond_kwargs=added).sample
        return answer


class _Clip(UNetNetwork):
    """One CLIP text encoder."""

    def _embed(self, prompt: Prompt) -> Embedding:
        encode = getattr(self._pipeline, "encode_prompt", None) or self._pipeline._encode_prompt
        answer = encode(prompt or "", self.device, 1, False)
        return {"encoder_hidden_states": answer[0] if isinstance(answer, tuple) else answer}


class _Concatenated(BesideSource, UNetNetwork):
    """What the UNet is shown of the source lies in channels after those of the noisy latent."""

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        rest = {name: x for name, x in condition.items() if name != "source"}
        return super()._answer(torch.cat([latent, condition["source"]], dim=1), time, rest)


class _AsItIs(_Concatenated):
    """It is shown the source's latent unscaled.

    The target prompt is an instruction; the source prompt may be empty, which asks for the picture as it is.

    Guidance by the picture c_I and the text c_T (Brooks et al. 2023, equation 3) is

        ε̂(∅, ∅) + s_I·(ε̂(c_I, ∅) − ε̂(∅, ∅)) + s_T·(ε̂(c_I, c_T) − ε̂(c_I, ∅))

    which is classifier-free guidance of ε̂(c_I, ·) + (s_I − 1)·(ε̂(c_I, ∅) − ε̂(∅, ∅)) by the text: with the same added
    to the answer to every prompt, as it is here.
    """

    SHOWN = 4

    def __init__(self, pipeline: Any, options: LoadOptions) -> None:
        super().__init__(pipeline, options)
        self._image_guidance = options.image_guidance

    def predict_beside(self, latent: Latents, time: Tensor, condition: Embedding, source: Latents) -> Answers:
        """See `LooksAtSource`."""
        answers = super().predict_beside(latent, time, condition, source)
        if self._image_guidance == 1:
            return answers
        shown = self._shown(source.to(self.device))
        unprompted = self.condition([None] * (2 * len(latent)))
        twice = {**unprompted, "source": torch.cat([shown, torch.zeros_like(shown)])}
        seen, unseen = self.predict(latent.repeat(2, 1, 1, 1), time.repeat(2), twice).chunk(2)
        return answers + (self._image_guidance - 1) * (seen - unseen).repeat(len(answers) // len(latent), 1, 1, 1)

    def _shown(self, source: Latents) -> Latents:
        return self._autoencoder.unscaled(source)


class _Inpainting(_Concatenated):
    """It is shown a mask, and what lies outside it (Rombach et al. 2022).

    All of the picture lies inside: what may change is said by the masks of an edit, not by the network's.
    """

    SHOWN = 5

    def __init__(self, pipeline: Any, options: LoadOptions) -> None:
        super().__init__(pipeline, options)
        self._hidden: dict[tuple[int, int], Tensor] = {}

    def _shown(self, source: Latents) -> Latents:
        size = (source.shape[-2], source.shape[-1])
        if size not in self._hidden:
            with torch.no_grad():
                grey = source.new_full((1, 3, *(side * self.vae_scale_factor for side in size)), 0.5)
                self._hidden[size] = torch.cat([source.new_ones(1, 1, *size), self.encode(grey)], dim=1)
        return self._hidden[size].expand(len(source), -1, -1, -1)


class InstructPix2Pix(_AsItIs, _Clip):
    """InstructPix2Pix (Brooks et al. 2023)."""


class StableDiffusionXLInstructPix2Pix(_AsItIs, StableDiffusionXL):
    """InstructPix2Pix on Stable Diffusion XL."""


class Inpainting(_Inpainting, _Clip):
    """Inpainting models on Stable Diffusion 1 and 2."""


class StableDiffusionXLInpainting(_Inpainting, StableDiffusionXL):
    """Inpainting models on Stable Diffusion XL."""
