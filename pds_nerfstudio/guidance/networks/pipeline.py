"""What the networks of all architectures behind diffusers' pipelines have in common."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pds_nerfstudio.guidance.cache import BoundedCache
from pds_nerfstudio.guidance.networks.acceleration.compilation import CompiledNetwork
from pds_nerfstudio.guidance.networks.assembly import load_pipeline
from pds_nerfstudio.guidance.networks.autoencoders import Autoencoder
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.guidance.networks.network import Condition, Prompt
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.prompts import read_known_words, warn_of_lost_text, warn_of_unknown_words
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule

Embedding = dict[str, Tensor]
"""What a network makes of one prompt: by the names of the network's arguments, each with a batch of one."""
Latents = Float[Tensor, "batch channels height width"]
Answers = Float[Tensor, "questions channels height width"]

_CACHED_PROMPTS = 64
_TEXT_PARTS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}


class PipelineNetwork(ABC):
    """A network that lets a pipeline of diffusers do what is particular about prompts.

    Text encoders stay in the machine's memory, and visit the device when there is a new prompt. What a step needs is
    the denoising model and the autoencoder.

    Args:
        pipeline: Loaded, on the CPU.
        options: Where and how it runs.
    """

    ADVICE: ClassVar[str] = "choose another model"
    """Which models it can be, for those who chose another."""
    HALF: ClassVar[torch.dtype] = torch.bfloat16
    """The precision of 16 bits that it can run in: its numbers leave float16's range, unless it says otherwise."""
    MODEL: ClassVar[str] = "transformer"
    """The denoising model's name in the pipeline."""
    PATCH: ClassVar[int] = 2
    """Side of the patches that the denoising model makes of a latent."""

    def __init__(self, pipeline: Any, options: LoadOptions) -> None:
        self.device, self.dtype = options.device, options.dtype
        self.result_dtype = torch.promote_types(torch.promote_types(options.dtype, options.vae_dtype), torch.float32)
        self.parametrization, self.schedule = self._process(pipeline.scheduler)
        self.guidance_scale: float = self.default_guidance(pipeline)
        self._distilled_guidance = options.distilled_guidance
        self._pipeline = pipeline
        self._model: Any = getattr(pipeline, self.MODEL)
        self._autoencoder = Autoencoder(
            pipeline.vae,
            self.device,
            options.vae_dtype,
            self.result_dtype,
            compiled=options.compiled and not options.offload,
            recomputes=options.offload,
        )
        self._offload = options.offload
        self._place(options)
        self._embeddings: BoundedCache[Embedding] = BoundedCache(_CACHED_PROMPTS)
        self._readers = text_readers(pipeline)
        self._known_words: frozenset[str] | None = None
        self._keys: tuple[str, ...] = ()
        self._answer_fast: Callable[..., Tensor] = self._answer_flat
        if options.compiled and not options.offload:
            self._answer_fast = CompiledNetwork(self._answer_flat, type(self._model).__name__, self.device)

        self.latent_channels: int = self._autoencoder.channels
        self.vae_scale_factor: int = self._autoencoder.factor
        self.size_multiple: int = self.vae_scale_factor * self.PATCH
        self.resolution: int = self.trained_size() * self.vae_scale_factor

    # ---- loading

    @classmethod
    def check(cls, card: ModelCard) -> None:
        """Refuse a model of another kind by its index and small files (UserError): here, if the latter are missing."""
        card.config(cls.MODEL)
        card.config("vae")

    @classmethod
    def load(cls, card: ModelCard, options: LoadOptions) -> "PipelineNetwork":
        """Load a model that is on this machine (UserError if that fails)."""
        network = cls(load_pipeline(card, options), options)
        network._known_words = read_known_words(card.folder)
        return network

    def _place(self, options: LoadOptions) -> None:
        """Put the denoising model where it runs; with offloading, let it and the text encoders visit that place."""
        self._model.eval().requires_grad_(False)
        if not options.offload:
            nn.Module.to(self._model, device=self.device)
            return
        from diffusers.hooks import apply_group_offloading  # here, because it takes seconds

        for part in (self._model, *self._readers_of_text()):
            apply_group_offloading(
                part,
                onload_device=self.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                # A layer's weights are copied while the one before it computes.
                use_stream=self.device.type == "cuda",
            )

    def default_guidance(self, pipeline: Any) -> float:
        """Return the scale of classifier-free guidance that suits the model: 1 is none."""
        return 4.0

    def _process(self, scheduler: Any) -> tuple[Parametrization, Schedule]:
        """Return what the model predicts, and the levels of noise that it knows."""
        # A scheduler's shift says which times a sampler visits; those that an edit visits are said by their noise.
        return "flow", Schedule.rectified_flow()

    def trained_size(self) -> int:
        """Return the side, in places, of the latents that the model was trained with."""
        return int(self._model.config.sample_size)

    @property
    def adaptable_model(self) -> Any:
        """See `Adaptable`."""
        return self._model

    # ---- pictures

    def encode(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """See `Network`."""
        return self._autoencoder.encode(image)

    def decode(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """See `Network`."""
        return self._autoencoder.decode(latents)

    # ---- prompts

    @torch.no_grad()
    def condition(self, prompts: Sequence[Prompt]) -> Condition:
        """See `Network`."""
        keys = [(prompt,) for prompt in prompts]
        kept = {key: found for key in keys if (found := self._embeddings.get(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in kept]
        if missing:
            for (prompt,) in missing:
                self._warn(prompt or "")
            with self._text_encoders(), quiet_libraries(progress_bars=False):
                for key in missing:
                    kept[key] = {name: x.to(self.device) for name, x in self._embed(key[0]).items()}
                    self._embeddings.put(key, kept[key])
        return self._collate([kept[key] for key in keys])

    def _warn(self, prompt: str) -> None:
        """Warn of what a prompt says in vain."""
        warn_of_unknown_words(prompt, self._known_words)
        warn_of_lost_text(prompt, self._readers)

    @abstractmethod
    def _embed(self, prompt: Prompt) -> Embedding:
        """Return what the network makes of one prompt."""

    def _collate(self, embeddings: list[Embedding]) -> Condition:
        """Return the embeddings of several prompts as one condition; those of shorter ones are filled up with zeros."""
        return {name: _stack([one[name] for one in embeddings]) for name in embeddings[0]}

    def _readers_of_text(self) -> list[nn.Module]:
        return [part for name in _TEXT_PARTS if isinstance(part := getattr(self._pipeline, name, None), nn.Module)]

    @contextmanager
    def _text_encoders(self) -> Iterator[None]:
        """Have the text encoders on the device; where weights are offloaded, their layers come by themselves."""
        encoders = [] if self._offload else self._readers_of_text()
        for encoder in encoders:
            encoder.to(self.device)
        try:
            yield
        finally:
            if self.device.type != "cpu":
                for encoder in encoders:
                    encoder.to("cpu")
                torch.cuda.empty_cache()

    # ---- predictions

    def predict(self, latent: Latents, time: Tensor, condition: Condition) -> Answers:
        """See `Network`. With gradients enabled it is never compiled: CUDA graphs would keep no activations."""
        answer = self._answer_flat if torch.is_grad_enabled() else self._answer_fast
        return self._ask(answer, latent, time, condition)

    def _ask(self, answer: Callable[..., Tensor], latent: Latents, time: Tensor, condition: Embedding) -> Answers:
        """Return what `predict` does, by `_answer_flat` or its compiled form."""
        self._keys = tuple(condition)
        values = [x.to(self.device, self.dtype if x.is_floating_point() else x.dtype) for x in condition.values()]
        return answer(latent.to(self.device, self.dtype), time.to(self.device), *values).to(self.result_dtype)

    def _count(self, condition: Embedding) -> int:
        """Return how many prompts a condition is of."""
        return len(next(iter(condition.values())))

    def _answer_flat(self, latent: Tensor, time: Tensor, *values: Tensor) -> Tensor:
        """Return what `_answer` does, of latents given once; a compiled function takes no dictionary of tensors."""
        condition = dict(zip(self._keys, values, strict=True))
        rounds = self._count(condition) // len(latent)
        return self._answer(latent.repeat(rounds, 1, 1, 1), time.repeat(rounds), condition)

    @abstractmethod
    def _answer(self, latent: Tensor, time: Tensor, condition: Embedding) -> Tensor:
        """Return the network's answer for each latent, with a time and a condition for each."""


class MaskedText(PipelineNetwork):
    """A network that is given prompts as tokens with a mask, both of which its pipeline says for none as well."""

    def _embed(self, prompt: Prompt) -> Embedding:
        tokens, mask, *none = self._pipeline.encode_prompt(
            prompt or "", prompt is None, negative_prompt="", device=self.device, **self._text_options()
        )
        if prompt is None:
            tokens, mask = none
        return {"encoder_hidden_states": tokens, "encoder_attention_mask": mask}

    def _text_options(self) -> dict[str, Any]:
        """Return what else the pipeline is told of a prompt."""
        return {}


class BesideSource(PipelineNetwork):
    """A network that is shown the source picture beside the noisy latent: it finds its latent under "source"."""

    def predict_beside(self, latent: Latents, time: Tensor, condition: Embedding, source: Latents) -> Answers:
        """See `LooksAtSource`."""
        rounds = self._count(condition) // len(latent)
        shown = self._shown(source.to(self.device)).repeat(rounds, 1, 1, 1)
        return self.predict(latent, time, {**condition, "source": shown})

    def _shown(self, source: Latents) -> Latents:
        """Return the source's latent as the network is shown it."""
        return source


def text_readers(pipeline: Any) -> list[tuple[Any, int]]:
    """Return the tokenizer of each of a pipeline's text encoders, and how many tokens it reads of a prompt.

    CLIP reads as many as its tokenizer says; the pipeline says it of others.
    """
    encode = getattr(pipeline, "encode_prompt", None)
    length = encode and inspect.signature(encode).parameters.get("max_sequence_length")
    longest = length and length.default
    readers = []
    for part, name in _TEXT_PARTS.items():
        encoder, tokenizer = getattr(pipeline, part, None), getattr(pipeline, name, None)
        if encoder is not None and tokenizer is not None:
            limits = [tokenizer.model_max_length, None if "CLIP" in type(encoder).__name__ else longest]
            readers.append((tokenizer, min(limit for limit in limits if limit is not None)))
    return readers


def pack(latent: Latents) -> Float[Tensor, "batch tokens features"]:
    """Return a latent as tokens of 2×2 places each, row by row."""
    return F.pixel_unshuffle(latent, 2).flatten(2).transpose(1, 2)


def unpack(tokens: Float[Tensor, "batch tokens features"], latent: Latents) -> Latents:
    """Return tokens as `pack` makes them as a latent of the size of another."""
    height, width = latent.shape[-2:]
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2)), 2)


def image_ids(height: int, width: int, like: Tensor, first: int = 0) -> Float[Tensor, "tokens 3"]:
    """Return FLUX's positions of tokens: the picture's number, the row, and the column."""
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.cat([torch.full_like(grid[:, :1], first), grid], dim=1)


def _stack(some: list[Tensor]) -> Tensor:
    """Return tensors with a batch of one as one batch; the second dimension of all gets the length of the longest."""
    if some[0].ndim < 2:
        return torch.cat(some)
    longest = max(x.shape[1] for x in some)
    fill = [0] * (2 * (some[0].ndim - 2))
    return torch.cat([F.pad(x, (*fill, 0, longest - x.shape[1])) for x in some])
