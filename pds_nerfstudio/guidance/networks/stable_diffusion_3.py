"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a flow of MMDiT type under two CLIP encoders and, if there, T5."""

from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import Embedding, PipelineNetwork


class StableDiffusion3(PipelineNetwork):
    """Stable Diffusion 3 medium, and 3.5 medium, large and large turbo."""

    HALF = torch.float16

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`."""
        return 7.0

    def _embed(self, prompt: Prompt) -> Embedding:
        text = prompt or ""
        tokens, _, pooled, _ = self._pipeline.encode_prompt(
            text, text, text, do_classifier_free_guidance=False, device=self.device
        )
        return {"encoder_hidden_states": tokens, "pooled_projections": pooled}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer: Tensor = self._model(latent, timestep=1000 * time, **condition).sample
        return answer
