"""One noise prediction for every network, whatever it was trained to predict."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.loading import load_network
from pds_nerfstudio.guidance.networks.network import (
    AttendsAcrossViews,
    AttendsToWords,
    Condition,
    LooksAtSource,
    Network,
    Prompt,
)
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.parametrization import as_noise, shown


class Denoiser:
    """A frozen latent diffusion model.

    Deliberately no `nn.Module`: held by a model, its gigabytes would end up in every checkpoint.

    Tensors go in on any device and in any float dtype. Results are on `device`, in `result_dtype`, whatever precision
    the network runs in. An autocast region of the caller has no effect inside: it would override the dtype that was
    chosen for the network.

    Args:
        network: The model.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.schedule = network.schedule
        self.levels = network.schedule.levels(network.device, network.result_dtype)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        device: torch.device | str,
        dtype: torch.dtype,
        compiled: bool = False,
        vae_dtype: torch.dtype | None = None,
    ) -> "Denoiser":
        """Load a model.

        Args:
            model: 'toyworld' (the embedded one), a local diffusers folder, a single file, or a hub id.
            device: Where to run it.
            dtype: What to run it in.
            compiled: Whether to compile it.
            vae_dtype: What to run the VAE in, if in something else.

        Raises:
            UserError: If the model is not found, cannot be loaded, or is of a kind that there is no network for.
        """
        options = LoadOptions(torch.device(device), dtype, vae_dtype or dtype, compiled)
        return cls(load_network(model, lambda half: options))

    @property
    def device(self) -> torch.device:
        """Where results are."""
        return self.network.device

    @property
    def result_dtype(self) -> torch.dtype:
        """What results are in: at least float32."""
        return self.network.result_dtype

    @property
    def size_multiple(self) -> int:
        """What image sides must be multiples of."""
        return self.network.size_multiple

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that the model was trained with."""
        return self.network.resolution

    def encode_image(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """Return the latents of images with values in [0, 1], differentiable with respect to the image.

        The mode of the VAE's posterior, never a sample: equal images have equal latents. Sides should be
        multiples of `size_multiple`.
        """
        with self._no_autocast():
            return self.network.encode(image)

    @torch.no_grad()
    def decode_latents(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images, in [0, 1], of latents. Not differentiable."""
        with self._no_autocast():
            return self.network.decode(latents)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> Condition:
        """Return what the network makes of prompts, in its own form; each prompt is encoded once and remembered.

        Warns of a prompt that is longer than the model reads, and of words it does not know.
        """
        with self._no_autocast():
            return self.network.condition(prompts)

    def add_noise(
        self,
        x: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Return x_t = √ᾱ_t·x + √(1−ᾱ_t)·ε, each element with its own t; all on the denoiser's device."""
        return self.levels.signal(t) * x + self.levels.noise(t) * noise

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        condition: Condition,
        source: Float[Tensor, "batch channels height width"] | None = None,
    ) -> Float[Tensor, "questions channels height width"]:
        """Return ε̂, the noise that the model sees in x_t. Not differentiable.

        With several prompts for each element, `condition` holds all elements' first prompts, then all second ones,
        and so on, and so does the result. What doesn't depend on the prompt may be computed once.

        Args:
            x_t: Noisy latents.
            t: Their times.
            condition: Of the prompts.
            source: The clean latents of the source pictures, which models that look at them must be given, and others
                don't look at.

        Raises:
            ValueError: If the model looks at the source picture, and there is none.
        """
        return self.predict_noise_differentiably(x_t, t, condition, source)

    def predict_noise_differentiably(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        condition: Condition,
        source: Float[Tensor, "batch channels height width"] | None = None,
    ) -> Float[Tensor, "questions channels height width"]:
        """Return ε̂ as `predict_noise` does, with gradients that flow back to x_t."""
        x_t, t = x_t.to(self.device), t.to(self.device)
        latent, time = shown(self.network.parametrization, x_t, t, self.levels)
        with self._no_autocast():
            if isinstance(self.network, LooksAtSource):
                if source is None:
                    raise ValueError(f"{type(self.network).__name__} looks at the source picture, and was given none")
                answer = self.network.predict_beside(latent, time, condition, source)
            else:
                answer = self.network.predict(latent, time, condition)
        return as_noise(self.network.parametrization, answer, x_t.to(answer), t, self.levels)

    @property
    def looks_at_source(self) -> bool:
        """Whether the model is shown the source picture, and prompts may be instructions."""
        return isinstance(self.network, LooksAtSource)

    @property
    def attends_across_views(self) -> bool:
        """Whether the model can be shown several pictures of one scene at a time."""
        return isinstance(self.network, AttendsAcrossViews) and not self.looks_at_source

    def check_attends_to_words(self) -> None:
        """Refuse a model that can't tell where it looks for words (UserError)."""
        self._attending()

    def changed_words(self, prompts: Sequence[str], others: Sequence[str]) -> Bool[Tensor, "prompts tokens"]:
        """Return for each prompt which of its tokens are not in the other one that it is paired with.

        Raises:
            UserError: If the model can't tell where it looks for words.
        """
        return self._attending().changed_words(prompts, others)

    @torch.no_grad()
    def predict_noise_and_attention(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        condition: Condition,
        words: Bool[Tensor, "questions tokens"],
    ) -> tuple[Float[Tensor, "questions channels height width"], Float[Tensor, "questions 1 height width"]]:
        """Return ε̂ as `predict_noise` does, and how much each place attends to `words`, in [0, 1].

        Raises:
            UserError: If the model can't tell where it looks for words.
        """
        network = self._attending()
        x_t, t = x_t.to(self.device), t.to(self.device)
        latent, time = shown(network.parametrization, x_t, t, self.levels)
        with self._no_autocast():
            answer, attention = network.predict_and_attend(latent, time, condition, words)
        return as_noise(network.parametrization, answer, x_t.to(answer), t, self.levels), attention

    @torch.no_grad()
    def predict_noise_across(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        condition: Condition,
        views: int,
        key_views: int,
    ) -> Float[Tensor, "questions channels height width"]:
        """Return ε̂ as `predict_noise` does, of pictures of one scene that see some of each other.

        Args:
            x_t: Noisy latents of all views, then maybe others of the same views, and so on.
            t: Their times.
            condition: Of the prompts, as of `predict_noise`.
            views: How many views there are.
            key_views: How many of them all others see, the first.

        Raises:
            UserError: If the model can't do that.
        """
        network = self.network
        if not isinstance(network, AttendsAcrossViews) or not self.attends_across_views:
            raise UserError(f"{type(network).__name__} can't see other views: set key_views to 0.")
        x_t, t = x_t.to(self.device), t.to(self.device)
        latent, time = shown(network.parametrization, x_t, t, self.levels)
        with self._no_autocast():
            answer = network.predict_across(latent, time, condition, views, key_views)
        return as_noise(network.parametrization, answer, x_t.to(answer), t, self.levels)

    def _attending(self) -> AttendsToWords:
        if not isinstance(self.network, AttendsToWords):
            raise UserError(
                f"{type(self.network).__name__} can't tell where it looks for words: set localize_by to difference."
            )
        return self.network

    def _no_autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, enabled=False)
