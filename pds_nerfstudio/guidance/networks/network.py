"""What a network is: the one seam between the guidance and the architecture of a diffusion model."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule

Prompt = str | None
"""What a network is asked under. None is no prompt at all, the other side of classifier-free guidance: some models want
zeros for it, and not what their text encoder makes of an empty text."""

Condition = Any
"""What a network makes of some prompts: a tensor, or a dictionary of several. Only the network looks inside."""


@runtime_checkable
class Network(Protocol):
    """A frozen diffusion model of one architecture, with its autoencoder and text encoders.

    Tensors come on any device and in any float dtype; results are on `device`, in `result_dtype`.
    """

    schedule: Schedule
    """Signal and noise at each time."""
    parametrization: Parametrization
    """What it predicts."""
    device: torch.device
    """Where it runs."""
    result_dtype: torch.dtype
    """What its results are in: at least float32."""
    latent_channels: int
    """Channels of a latent."""
    vae_scale_factor: int
    """Pixels along one side of a latent pixel."""
    size_multiple: int
    """What image sides must be multiples of."""
    resolution: int
    """Side in pixels of the square images that it was trained with."""
    guidance_scale: float
    """Scale of classifier-free guidance that suits it; 1 for those that were distilled to do without."""

    def encode(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels latent_height latent_width"]:
        """Return the latents of images in [0, 1], of a standard deviation near 1, differentiable in the image.

        Equal images have equal latents: the mode of what the autoencoder says, not a sample.
        """

    def decode(
        self, latents: Float[Tensor, "batch channels latent_height latent_width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images, in [0, 1], of latents."""

    def condition(self, prompts: Sequence[Prompt]) -> Condition:
        """Return what the network makes of prompts, for `predict`. Each prompt should be encoded only once.

        Warns, once for each prompt, of text that is cut off and of words that the model doesn't know.
        """

    def predict(
        self, latent: Float[Tensor, "batch channels height width"], time: Tensor, condition: Condition
    ) -> Float[Tensor, "questions channels height width"]:
        """Return what the network predicts, differentiable in the latent where gradients are enabled.

        Args:
            latent: Noisy latents, each once.
            time: One for each: an index into `schedule`, or τ in (0, 1) for a flow (see `parametrization`).
            condition: Of all elements' first prompts, then all second ones, and so on, as is the result.
        """


@runtime_checkable
class Adaptable(Network, Protocol):
    """A network whose denoising model is one of diffusers, which can be given low-rank adapters and trained."""

    @property
    def adaptable_model(self) -> Any:
        """Return it: with the layers that its files name, if it was loaded without merging any."""


@runtime_checkable
class KnowsFlowEdit(Network, Protocol):
    """A network for which scales of FlowEdit have been published (see `flow_edit`)."""

    @property
    def flow_edit_scales(self) -> tuple[float, float] | None:
        """Scales of classifier-free guidance for the target and the source prompt, None if it is not that model."""


@runtime_checkable
class AttendsToWords(Network, Protocol):
    """A network that can tell where it looks for words."""

    def changed_words(self, prompts: Sequence[str], others: Sequence[str]) -> Bool[Tensor, "prompts tokens"]:
        """Return for each prompt which of its tokens are not in the other one that it is paired with."""

    def predict_and_attend(
        self,
        latent: Float[Tensor, "batch channels height width"],
        time: Tensor,
        condition: Condition,
        words: Bool[Tensor, "questions tokens"],
    ) -> tuple[Float[Tensor, "questions channels height width"], Float[Tensor, "questions 1 height width"]]:
        """Return what `predict` does, and how much each place attends to `words`, as shares of all its attention."""


@runtime_checkable
class AttendsAcrossViews(Network, Protocol):
    """A network whose self-attention can see several pictures of one scene, so that they come to agree."""

    def predict_across(
        self,
        latent: Float[Tensor, "batch channels height width"],
        time: Tensor,
        condition: Condition,
        views: int,
        key_views: int,
    ) -> Float[Tensor, "questions channels height width"]:
        """Return what `predict` does, where each picture sees itself and the first ones of its own lot.

        Args:
            latent: See `predict`: the latents of some views, then maybe others of the same views, and so on.
            time: See `predict`.
            condition: See `predict`.
            views: How many views there are.
            key_views: How many of them all others see, the first.
        """


@runtime_checkable
class LooksAtSource(Network, Protocol):
    """A network that is shown the source picture, and whose prompts may therefore be instructions."""

    def predict_beside(
        self,
        latent: Float[Tensor, "batch channels height width"],
        time: Tensor,
        condition: Condition,
        source: Float[Tensor, "batch channels height width"],
    ) -> Float[Tensor, "questions channels height width"]:
        """Return what `predict` does, beside the clean latent of each element's source picture."""
