"""PixArt-Σ (Chen et al. 2024): a transformer that predicts noise, under T5."""

from typing import Any

import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks.pipeline import Embedding, MaskedText
from pds_nerfstudio.guidance.networks.process import read_process, training_time
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule


class PixArtSigma(MaskedText):
    """PixArt-Σ. Half of its answer is a variance, which samplers of this kind don't use."""

    HALF = torch.float16

    def default_guidance(self, pipeline: Any) -> float:
        """See `PipelineNetwork`."""
        return 4.5

    def _process(self, scheduler: Any) -> tuple[Parametrization, Schedule]:
        return read_process(scheduler)

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        time = training_time(self.parametrization, time, self.schedule)
        nothing = {"resolution": None, "aspect_ratio": None}
        answer: Tensor = self._model(latent, timestep=time, added_cond_kwargs=nothing, **condition).sample
        return answer[:, : latent.shape[1]]
