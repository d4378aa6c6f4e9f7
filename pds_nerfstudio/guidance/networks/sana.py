"""Sana (Xie et al. 2025): a flow with linear attention over latents 32 times smaller, under Gemma."""

import inspect

from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import Embedding, PipelineNetwork


class Sana(PipelineNetwork):
    """Sana and Sana 1.5."""

    PATCH = 1

    def _embed(self, prompt: Prompt) -> Embedding:
        pipeline = self._pipeline
        instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
        tokens, mask, *none = pipeline.encode_prompt(
            prompt or "", prompt is None, negative_prompt="", device=self.device, complex_human_instruction=instruction
        )
        if prompt is None:
            tokens, mask = none
        return {"encoder_hidden_states": tokens, "encoder_attention_mask": mask}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        time = 1000 * time * self._model.config.timestep_scale
        answer: Tensor = self._model(latent, timestep=time, **condition).sample
        return answer
