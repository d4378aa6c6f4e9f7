"""FLUX.1 (Black Forest Labs 2024) and those made from it: flows over latents in packed tokens, under T5."""

from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import (
    BesideSource,
    Embedding,
    Latents,
    PipelineNetwork,
    image_ids,
    pack,
    unpack,
)


class Flux(PipelineNetwork):
    """FLUX.1 dev and schnell. Both are distilled to go without classifier-free guidance; dev takes a guidance."""

    DISTILLED_GUIDANCE = 3.5
    """What the pipeline gives to a model that takes a guidance."""

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`."""
        return 1.0

    def trained_size(self) -> int:
        """See `PipelineNetwork`: 1024 pixels."""
        return int(self._pipeline.default_sample_size)

    def _embed(self, prompt: Prompt) -> Embedding:
        tokens, pooled, _ = self._pipeline.encode_prompt(prompt or "", device=self.device)
        return {"encoder_hidden_states": tokens, "pooled_projections": pooled}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        return unpack(self._tokens(pack(latent), self._ids(latent), time, condition), latent)

    def _tokens(self, tokens: Tensor, ids: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        """Return the transformer's answer for tokens at positions."""
        guidance = self._distilled_guidance or self.DISTILLED_GUIDANCE
        answer: Tensor = self._model(
            tokens,
            timestep=time,
            guidance=torch.full_like(time, guidance) if self._model.config.guidance_embeds else None,
            img_ids=ids,
            txt_ids=ids.new_zeros(condition["encoder_hidden_states"].shape[1], 3),
            **condition,
        ).sample
        return answer

    @staticmethod
    def _ids(latent: Latents, first: int = 0) -> Tensor:
        """Return the positions of a latent's tokens, as those of picture number `first`."""
        return image_ids(latent.shape[-2] // 2, latent.shape[-1] // 2, latent, first)


class FluxKontext(BesideSource, Flux):
    """FLUX.1 Kontext: it looks at the source picture, whose tokens follow those of the latent."""

    DISTILLED_GUIDANCE = 2.5

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        source = condition.pop("source")
        tokens = torch.cat([pack(latent), pack(source)], dim=1)
        ids = torch.cat([self._ids(latent), self._ids(source, first=1)])
        answer = self._tokens(tokens, ids, time, condition)
        return unpack(answer[:, : answer.shape[1] // 2], latent)


class Chroma(PipelineNetwork):
    """Chroma: FLUX.1 schnell without its distillation and pooled text, and with a mask over the text's tokens."""

    def trained_size(self) -> int:
        """See `PipelineNetwork`: 1024 pixels."""
        return int(self._pipeline.default_sample_size)

    def _embed(self, prompt: Prompt) -> Embedding:
        tokens, _, mask, *_ = self._pipeline.encode_prompt(
            prompt or "", device=self.device, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": tokens, "attention_mask": mask}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        tokens, text = pack(latent), condition["encoder_hidden_states"]
        mask = condition["attention_mask"]
        answer: Tensor = self._model(
            tokens,
            encoder_hidden_states=text,
            timestep=time,
            img_ids=image_ids(latent.shape[-2] // 2, latent.shape[-1] // 2, latent),
            txt_ids=text.new_zeros(text.shape[1], 3),
            attention_mask=self._pipeline._prepare_attention_mask(len(tokens), tokens.shape[1], tokens.dtype, mask),
        ).sample
        return unpack(answer, latent)
