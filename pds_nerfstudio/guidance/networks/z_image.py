"""Z-Image (Alibaba 2025): a flow in one stream of text and picture, under a language model."""

from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import Embedding, PipelineNetwork
from pds_nerfstudio.guidance.networks.process import is_called_turbo


class ZImage(PipelineNetwork):
    """Z-Image and Z-Image-Turbo. It takes prompts of their own lengths, 1−τ for the time, and predicts x − ε."""

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`: the distilled model is told by its name alone."""
        return 1.0 if is_called_turbo(pipeline) else 5.0

    def trained_size(self) -> int:
        """See `PipelineNetwork`: 1024 pixels."""
        return 1024 // self._autoencoder.factor

    def _embed(self, prompt: Prompt) -> Embedding:
        (tokens,), _ = self._pipeline.encode_prompt(prompt or "", device=self.device, do_classifier_free_guidance=False)
        return {"tokens": tokens}

    def _collate(self, embeddings: list[Embedding]) -> Embedding:
        return {f"prompt {number}": one["tokens"] for number, one in enumerate(embeddings)}

    def _count(self, condition: Embedding) -> int:
        return len(condition)

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        pictures = list(latent.unsqueeze(2).unbind(0))
        (answers,) = self._model(pictures, 1 - time, list(condition.values()), return_dict=False)
        return -torch.stack(list(answers)).squeeze(2)
