"""Sana (Xie et al. 2025): a flow with linear attention over latents 32 times smaller, under Gemma."""

import inspect
from typing import Any

from torch import Tensor

from pds_nerfstudio.guidance.networks.pipeline import Embedding, MaskedText


class Sana(MaskedText):
    """Sana and Sana 1.5."""

    PATCH = 1

    def _text_options(self) -> dict[str, Any]:
        call = inspect.signature(self._pipeline.__call__)
        return {"complex_human_instruction": call.parameters["complex_human_instruction"].default}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        time = 1000 * time * self._model.config.timestep_scale
        answer: Tensor = self._model(latent, timestep=time, **condition).sample
        return answer
