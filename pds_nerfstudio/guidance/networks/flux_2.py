"""FLUX.2 (Black Forest Labs 2025), dev and klein: flows over latents of 128 channels, under a language model."""

from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import Embedding, PipelineNetwork


class Flux2(PipelineNetwork):
    """FLUX.2 dev, which takes a guidance, and klein, distilled or base."""

    PATCH = 1  # the autoencoder has made patches already
    DISTILLED_GUIDANCE = 4.0

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`: only klein's base models are guided by a second prediction."""
        takes_guidance = pipeline.transformer.config.guidance_embeds
        return 1.0 if takes_guidance or pipeline.config.get("is_distilled") else 4.0

    def trained_size(self) -> int:
        """See `PipelineNetwork`: 1024 pixels."""
        return int(self._pipeline.default_sample_size) // 2

    def _embed(self, prompt: Prompt) -> Embedding:
        tokens, _ = self._pipeline.encode_prompt(prompt or "", device=self.device)
        return {"encoder_hidden_states": tokens}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        text = condition["encoder_hidden_states"]
        guidance = self._distilled_guidance or self.DISTILLED_GUIDANCE
        answer: Tensor = self._model(
            latent.flatten(2).transpose(1, 2),
            timestep=time,
            guidance=torch.full_like(time, guidance) if self._model.config.guidance_embeds else None,
            encoder_hidden_states=text,
            txt_ids=_positions(1, 1, text.shape[1], latent).expand(len(latent), -1, -1),
            img_ids=_positions(latent.shape[-2], latent.shape[-1], 1, latent).expand(len(latent), -1, -1),
        ).sample
        return answer.transpose(1, 2).reshape(latent.shape)


def _positions(height: int, width: int, layers: int, like: Tensor) -> Tensor:
    """Return FLUX.2's positions of tokens: the picture's number, row, column, and the word's number."""
    ranges = (torch.arange(size, device=like.device) for size in (1, height, width, layers))
    return torch.stack(torch.meshgrid(*ranges, indexing="ij"), dim=-1).flatten(0, 3)[None]
