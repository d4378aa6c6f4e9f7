"""Lumina-Image 2.0 (Qin et al. 2025): a flow in one stream of text and picture, under Gemma."""

from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import Embedding, PipelineNetwork


class Lumina2(PipelineNetwork):
    """Lumina-Image 2.0. It takes 1−τ for the time, and predicts x − ε."""

    def _embed(self, prompt: Prompt) -> Embedding:
        tokens, mask, *none = self._pipeline.encode_prompt(
            prompt or "", prompt is None, negative_prompt="", device=self.device
        )
        if prompt is None:
            tokens, mask = none
        return {"encoder_hidden_states": tokens, "encoder_attention_mask": mask}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer: Tensor = self._model(latent, timestep=1 - time, **condition).sample
        return -answer
