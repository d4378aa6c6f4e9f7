"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a flow of MMDiT type under two CLIP encoders and, if there, T5."""

from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import Embedding, PipelineNetwork
from pds_nerfstudio.guidance.networks.process import is_called_turbo


class StableDiffusion3(PipelineNetwork):
    """Stable Diffusion 3 medium, and 3.5 medium, large and large turbo."""

    HALF = torch.float16

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`: the distilled one is told by its name alone."""
        return 1.0 if is_called_turbo(pipeline) else 7.0

    @property
    def flow_edit_scales(self) -> tuple[float, float] | None:
        """See `KnowsFlowEdit`: those of FlowEdit's paper (Kulikov et al. 2024), except for models of few words."""
        return (13.5, 3.5) if self._known_words is None else None

    def _embed(self, prompt: Prompt) -> Embedding:
        text = prompt or ""
        tokens, _, pooled, _ = self._pipeline.encode_prompt(
            text, text, text, do_classifier_free_guidance=False, device=self.device
        )
        return {"encoder_hidden_states": tokens, "pooled_projections": pooled}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer: Tensor = self._model(latent, timestep=1000 * time, **condition).sample
        return answer
