"""Qwen-Image (Alibaba 2025) and Qwen-Image-Edit: flows over packed tokens, under a model of language and pictures."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.guidance.cache import BoundedCache
from pds_nerfstudio.guidance.networks.network import Prompt
from pds_nerfstudio.guidance.networks.pipeline import BesideSource, Embedding, Latents, PipelineNetwork, pack, unpack

_REMEMBERED_BYTES = 8 * 2**30
_Seen = tuple[Prompt, int]
"""A prompt, and the digest of the picture that it was read beside."""


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

    The text encoder sees it as the autoencoder decodes it. Each prompt is encoded once for each picture, and what comes
    of it is remembered in the machine's memory, as far as `_REMEMBERED_BYTES` reach: some 10 MB for a prompt and a
    picture of a megapixel. The views of a larger scene are encoded anew each time that their turn comes.
    """

    def condition(self, prompts: Any) -> Any:
        """See `Network`. The prompts themselves: what they mean depends on the picture."""
        return list(prompts)

    def predict_beside(self, latent: Latents, time: Tensor, condition: Any, source: Latents) -> Tensor:
        """See `LooksAtSource`."""
        digests = [_digest(one) for one in source]
        asked = [(prompt, digests[i % len(source)]) for i, prompt in enumerate(condition)]
        with torch.no_grad():
            seen = self._seen(asked, dict(zip(digests, source, strict=True)))
        together = {name: x.to(self.device) for name, x in self._collate([seen[key] for key in asked]).items()}
        return super().predict_beside(latent, time, together, source)

    def _seen(self, asked: list[_Seen], sources: dict[int, Tensor]) -> dict[_Seen, Embedding]:
        """Return what the text encoder makes of prompts and pictures; for all new ones it visits the device once.

        Args:
            asked: Prompts, each with the digest of its picture.
            sources: Latents of the pictures, by their digests.
        """
        kept = {key: found for key in asked if (found := self._embeddings.get(key)) is not None}
        new = [key for key in dict.fromkeys(asked) if key not in kept]
        if new:
            digests = dict.fromkeys(digest for _, digest in new)
            pictures = {digest: _as_bytes(self.decode(sources[digest][None])[0]) for digest in digests}
            with self._text_encoders():
                for prompt, digest in new:
                    given = {"image": pictures[digest], "device": self.device}
                    embedding = self._masked(self._pipeline.encode_prompt(prompt or " ", **given))
                    kept[prompt, digest] = {name: x.cpu() for name, x in embedding.items()}
                    self._remember((prompt, digest), kept[prompt, digest])
        return kept

    def _remember(self, key: _Seen, embedding: Embedding) -> None:
        if not len(self._embeddings):  # only now is it known how large one is
            size = sum(x.nbytes for x in embedding.values())
            self._embeddings = BoundedCache(max(1, _REMEMBERED_BYTES // size))
        self._embeddings.put(key, embedding)

    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        answer = self._tokens([latent, condition["source"]], time, condition)
        return unpack(answer[:, : answer.shape[1] // 2], latent)


def _digest(latent: Tensor) -> int:
    """Return a number that tells one latent from another."""
    return hash(latent.float().cpu().numpy().tobytes())


def _as_bytes(image: Tensor) -> Image.Image:
    """Return an image in [0, 1] as the text encoder's processor takes it."""
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).cpu().numpy())
