"""Lumina-Image 2.0 (Qin et al. 2025): a flow in one stream of text and picture, under Gemma."""

from torch import Tensor

from pds_nerfstudio.guidance.networks.pipeline import Embedding, MaskedText


class Lumina2(MaskedText):
    """Lumina-Image 2.0. It takes 1−τ for the time, and predicts x − ε."""

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer: Tensor = self._model(latent, timestep=1 - time, **condition).sample
        return -answer
