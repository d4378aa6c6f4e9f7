"""Qwen-Image (Alibaba 2025) and Qwen-Image-Edit: flows over packed tokens, under a model of language and pictures."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import BesideSource, Embedding, Latents, PipelineNetwork, pack, unpack


class QwenImage(PipelineNetwork):
    """Qwen-Image. Guidance is plain: the pipeline's rescaling of it belongs to its sampler, and isn't linear."""

    def trained_size(self) -> int:
        """See `PipelineNetwork`: 1024 pixels; it was trained with several sizes up to 1664."""
        return 1024 // self._autoencoder.factor

    def _embed(self, prompt: Prompt) -> Embedding:
        return self._masked(self._pipeline.encode_prompt(prompt or " ", device=self.device))

    @staticmethod
    def _masked(embedding: tuple[Tensor, Tensor | None]) -> Embedding:
        """Return tokens with their mask, also where the pipeline has none, because prompts differ in length."""
        tokens, mask = embedding
        return {"tokens": tokens, "mask": torch.ones_like(tokens[..., 0], dtype=torch.bool) if mask is None else mask}

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        return unpack(self._tokens([latent], time, condition), latent)

    def _tokens(self, pictures: list[Latents], time: Tensor, condition: Embedding) -> Tensor:
        """Return the transformer's answer for the tokens of pictures, one after the other."""
        shapes = [(1, picture.shape[-2] // 2, picture.shape[-1] // 2) for picture in pictures]
        answer: Tensor = self._model(
            torch.cat([pack(picture) for picture in pictures], dim=1),
            timestep=time,
            encoder_hidden_states=condition["tokens"],
            encoder_hidden_states_mask=condition["mask"].bool(),
            img_shapes=[shapes] * len(time),
        ).sample
        return answer


class QwenImageEdit(BesideSource, QwenImage):
    """Qwen-Image-Edit: network and text encoder both look at the source picture.

    The text encoder sees it as the autoencoder decodes it. Each prompt is encoded anew for each picture, and what comes
    of it is remembered for the newest ones: it is for few views and pictures rather than for a scene of hundreds.
    """

    def condition(self, prompts: Any) -> Any:
        """See `Network`. The prompts themselves: what they mean depends on the picture."""
        return list(prompts)

    def predict_beside(self, latent: Latents, time: Tensor, condition: Any, source: Latents) -> Tensor:
        """See `LooksAtSource`."""
        keys = [(prompt, i % len(source)) for i, prompt in enumerate(condition)]
        digests = [_digest(one) for one in source]
        with torch.no_grad():
            kept = {key: self._seen(key[0], source[key[1]], digests[key[1]]) for key in keys}
        return super().predict_beside(latent, time, self._collate([kept[key] for key in keys]), source)

    def _seen(self, prompt: Prompt, source: Latents, digest: int) -> Embedding:
        """Return what the text encoder makes of a prompt and a picture."""
        found = self._embeddings.get((prompt, digest))
        if found is None:
            picture = _as_bytes(self.decode(source[None])[0])
            with self._text_encoders():
                found = self._masked(self._pipeline.encode_prompt(prompt or " ", image=picture, device=self.device))
            self._embeddings.put((prompt, digest), found)
        return found

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer = self._tokens([latent, condition["source"]], time, condition)
        return unpack(answer[:, : answer.shape[1] // 2], latent)


def _digest(latent: Tensor) -> int:
    """Return a number that tells one latent from another."""
    return hash(latent.float().cpu().numpy().tobytes())


def _as_bytes(image: Tensor) -> Image.Image:
    """Return an image in [0, 1] as the text encoder's processor takes it."""
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).cpu().numpy())
