"""The gradient of a step: an objective's two terms, and the mask between them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.masks import MaskAverage, difference_mask, soften
from pds_nerfstudio.guidance.objectives.form import (
    Combination,
    Latents,
    Prediction,
    combine,
    predictions_of,
    weight_table,
)
from pds_nerfstudio.guidance.objectives.registry import make_objective
from pds_nerfstudio.guidance.prompted import PromptedDenoiser
from pds_nerfstudio.guidance.timesteps import stride_of


@dataclass(frozen=True)
class GradientTerms:
    """The gradient on the target latent, in its two parts."""

    text: Float[Tensor, "batch channels height width"]
    """χ(t) · M · (Σ_p c_p·ε̂_p + c_ε·ε), weighted."""
    identity: Float[Tensor, "batch channels height width"]
    """ψ(t) · (1 − (1 − ι)·M) · (x_tgt − x_src), weighted; ι is `identity_inside`."""
    mask: Float[Tensor, "batch 1 height width"] | None
    """Where the text term acts, in [0, 1]; None when `localize` is 0."""

    @property
    def total(self) -> Float[Tensor, "batch channels height width"]:
        """The gradient."""
        return self.text + self.identity

    def averaged(self, samples: int) -> "GradientTerms":
        """Return the mean over each `samples` elements in a row; of their masks, whose averages move on, the last."""
        text, identity = (x.unflatten(0, (-1, samples)).mean(1) for x in (self.text, self.identity))
        return GradientTerms(text, identity, None if self.mask is None else self.mask[samples - 1 :: samples])


@dataclass(frozen=True)
class GuidanceOutput:
    """What one step of guidance gives. All tensors but `loss` are on the denoiser's device."""

    loss: Float[Tensor, ""]
    """½‖g‖² in value; its gradient on the target latent is g. On the device of what was passed in."""
    grad: Float[Tensor, "batch channels height width"]
    """g, detached."""
    t: Int[Tensor, "batch samples"]
    """The times drawn."""
    finite: Bool[Tensor, ""]
    """Whether every number in `grad` is finite. If not, back-propagating `loss` would poison the parameters: the
    caller decides whether to skip the step (and pays the host-device synchronisation of looking)."""
    metrics: dict[str, Float[Tensor, ""]]
    """Root mean squares to log: the gradient, its text and identity terms, and the latent's change."""
    mask: Float[Tensor, "batch 1 height width"] | None
    """Where the text term acted, in [0, 1]; None when `localize` is 0."""

    @classmethod
    def of(
        cls, target: Latents, z: Latents, source: Latents, terms: GradientTerms, t: Int[Tensor, "batch samples"]
    ) -> "GuidanceOutput":
        """Return what a step gives.

        Args:
            target: The latents as they were passed in, on whose device the loss is to be.
            z: The same, still in their graph, on the denoiser's device.
            source: The latents before the edit.
            terms: The gradient on `z`.
            t: The times drawn.
        """
        grad = terms.total
        return cls(
            loss=surrogate(z, grad, grad.square().sum() / 2).to(target.device),
            grad=grad,
            t=t,
            finite=grad.isfinite().all(),
            metrics={
                "gradient_rms": _rms(grad),
                "text_gradient_rms": _rms(terms.text),
                "identity_gradient_rms": _rms(terms.identity),
                "latent_change_rms": _rms(z.detach() - source.to(z)),
            },
            mask=terms.mask,
        )


class ObjectiveGradient:
    """The gradient of one configuration's objective; another configuration needs another.

    Args:
        config: Valid.
        prompted: The diffusion model under its prompts.
        masks: The averages of the views' masks, which move on from step to step and outlive a configuration.

    Raises:
        UserError: If the model has fewer times than `num_inference_steps`, or can't tell where it looks for words and a
            mask is to be made of that.
    """

    def __init__(self, config: GuidanceConfig, prompted: PromptedDenoiser, masks: MaskAverage) -> None:
        self._config, self._prompted, self._masks = config, prompted, masks
        self._objective = make_objective(config.objective)
        self._text = self._objective.text(config.guidance_scale)
        by_difference = config.localize > 0 and config.localize_by == "difference"
        contrast = self._objective.contrast(config.guidance_scale) if by_difference else None
        self._contrast: Combination = contrast or {}
        denoiser = prompted.denoiser
        if config.localize > 0 and config.localize_by == "attention":
            denoiser.check_attends_to_words()
        stride = stride_of(denoiser.schedule.num_steps, config.num_inference_steps)
        self._text_weights, self._identity_weights = (
            weight_table(weight, denoiser.schedule, stride)
            .to(denoiser.result_dtype)  # on the CPU: not every accelerator knows float64
            .to(denoiser.device)
            for weight in (self._objective.text_weight, self._objective.identity_weight)
        )

    @torch.no_grad()
    def __call__(
        self,
        target: Latents,
        source: Latents,
        t: Int[Tensor, " batch"],
        noise: Latents,
        keys: Sequence[Hashable] | None,
        progress: float,
    ) -> GradientTerms:
        """Return the terms for given times and noise, from one call of the denoiser.

        Args:
            target: The current latents, on the denoiser's device and in its results' dtype, as all others.
            source: The latents before the edit.
            t: One time for each element, not below the stride.
            noise: Standard normal. Source and target get the same.
            keys: One for each element, under which its mask is averaged over the steps; None leaves the averages.
            progress: Share of the run that is done, from 0 to 1.
        """
        config = self._config
        predictions, raw_mask = self._predict(target, source, t, noise)
        text = config.text_weight * _per_element(self._text_weights[t]) * combine(self._text, predictions, noise)
        identity = config.identity_weight * _per_element(self._identity_weights[t]) * (target - source)
        mask = None if raw_mask is None else self._averaged(raw_mask, keys)
        if mask is not None:
            text = mask * text
            identity = (1 - (1 - config.identity_inside) * mask) * identity
        std = self._objective.std(progress)
        if std is not None:
            factor = std / _deviation(text + identity)
            text, identity = factor * text, factor * identity
        return GradientTerms(text=text, identity=identity, mask=mask)

    @torch.no_grad()
    def look(
        self, source: Float[Tensor, "1 channels height width"], times: Int[Tensor, " looks"], draws: Draws, batch: int
    ) -> Float[Tensor, "1 1 height width"]:
        """Return where the text is to act on a view that has not been edited, in [0, 1].

        That is what the average of the view's masks tends to in an edit's first steps; the average does not move on.

        Args:
            source: The view's latent.
            times: Of the masks that are averaged.
            draws: Of their noise.
            batch: Latents in one call of the model: best as many as in an edit's step, for which it is compiled.
        """
        if self._config.localize == 0:
            return torch.ones_like(source[:, :1])
        masks = []
        for t in times.repeat(batch).unfold(0, batch, batch)[: -(-len(times) // batch)]:  # the last call is full, too
            some = source.expand(batch, -1, -1, -1)
            _, mask = self._predict(some, some, t, draws.noise(some))
            assert mask is not None
            masks.append(mask)
        raw = torch.cat(masks)
        raw = raw[raw.isfinite().flatten(1).all(1)]  # of predictions that are not, nothing is known
        return soften(raw.mean(0, keepdim=True), self._config) if len(raw) else torch.ones_like(source[:, :1])

    def _predict(
        self, target: Latents, source: Latents, t: Int[Tensor, " batch"], noise: Latents
    ) -> tuple[dict[Prediction, Latents], Float[Tensor, "batch 1 height width"] | None]:
        """Return what the objective asks for, and where the prompts disagree; None if nothing is to be made of that."""
        config, denoiser = self._config, self._prompted.denoiser
        noisy = {name: denoiser.add_noise(x, noise, t) for name, x in (("target", target), ("source", source))}
        wanted = predictions_of(self._text, self._contrast)
        if config.localize > 0 and config.localize_by == "attention":
            return self._prompted.predict_and_attend(wanted, noisy, t)
        predictions = self._prompted.predict(wanted, noisy, t, beside=source)
        difference = combine(self._contrast, predictions, noise) if self._contrast else None
        return predictions, None if difference is None else difference_mask(difference)

    def _averaged(
        self, mask: Float[Tensor, "batch 1 height width"], keys: Sequence[Hashable] | None
    ) -> Float[Tensor, "batch 1 height width"]:
        if keys is not None:
            mask = self._masks.update([(key, tuple(mask.shape[1:])) for key in keys], mask)
        return soften(mask, self._config)


def surrogate(
    x: Float[Tensor, "*shape"], gradient: Float[Tensor, "*shape"], value: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return a loss of the given value whose gradient on `x` is `gradient`, to the last bit.

    ½‖x − sg(x − g)‖², as it is often written, has the same gradient, but takes g as the difference x − (x − g), which
    rounds it to the precision of x.
    """
    product = (x * gradient).sum()
    return product - product.detach() + value


def _per_element(weights: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
    return weights[:, None, None, None]


def _deviation(x: Latents) -> Float[Tensor, "batch 1 1 1"]:
    """Return the standard deviation of each element's numbers; never 0, so that nothing divided by it is nothing."""
    return x.flatten(1).std(1).clamp_min(torch.finfo(x.dtype).tiny)[:, None, None, None]


def _rms(x: Tensor) -> Float[Tensor, ""]:
    return x.square().mean().sqrt()
