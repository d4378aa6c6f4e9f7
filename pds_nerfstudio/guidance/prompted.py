"""A denoiser asked under a source and a target prompt, and under none, everything in one call."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.masks import stretch
from pds_nerfstudio.guidance.networks.network import Condition, Prompt
from pds_nerfstudio.guidance.objectives.form import Combination, Latents, Prediction, combine, predictions_of

Times = Int[Tensor, " batch"]


class PromptedDenoiser:
    """Answers `Prediction`s: what a denoiser sees in a noisy latent under one of the prompts.

    Args:
        denoiser: The diffusion model.
        negative: What stands on the other side of classifier-free guidance; None is no prompt.
    """

    def __init__(self, denoiser: Denoiser, negative: Prompt = None) -> None:
        self.denoiser = denoiser
        self._negative = negative
        self.prompts: tuple[list[str], list[str]] | None = None
        """The source and the target prompts, once set: one each, or one each for every element of a batch."""
        self._by_name: dict[str, list[Prompt]] = {}
        self._words: dict[str, Bool[Tensor, "pairs tokens"]] = {}

    def set_prompts(self, source: str | Sequence[str], target: str | Sequence[str]) -> bool:
        """Set the prompts and have them encoded; return whether they are others than before.

        Raises:
            UserError: If one of them is empty; a source prompt may be, if the model looks at the source picture.
            ValueError: If there are not as many sources as targets.
        """
        sources, targets = ([p.strip() for p in ([ps] if isinstance(ps, str) else ps)] for ps in (source, target))
        for name, prompts in (("source", sources), ("target", targets)):
            may_be_empty = name == "source" and self.denoiser.looks_at_source
            if not all(prompts) and not may_be_empty:
                raise UserError(f"The {name} prompt is empty: describe the {name} image in a few words.")
        if (sources, targets) == self.prompts:
            return False
        if any(before == after for before, after in zip(sources, targets, strict=True)):
            warnings.warn("The source and target prompts are equal: there is nothing to edit.", stacklevel=3)
        self._by_name = {"target": [*targets], "source": [*sources], "none": [self._negative] * len(targets)}
        for some in self._by_name.values():
            self.denoiser.encode_prompts(some)  # now, with its warnings, and not in the first step
        self._words = {}
        self.prompts = (sources, targets)
        return True

    @torch.no_grad()
    def predict(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Times, beside: Latents | None = None
    ) -> dict[Prediction, Latents]:
        """Return the predictions that are wanted of noisy latents, from one call of the denoiser.

        Args:
            wanted: Which.
            noisy: x_t by the names of latents.
            t: Time of each element.
            beside: The clean latents of the sources, for models that look at them.

        Raises:
            UserError: If no prompts are set.
            ValueError: If the batch does not fit the number of prompts.
        """
        x_t, times, condition = self._questions(wanted, noisy, t)
        answers = self.denoiser.predict_noise(x_t, times, condition, _for_each(beside, x_t))
        return _by_prediction(wanted, answers, t)

    @torch.no_grad()
    def predict_across(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Times, key_views: int, at_once: int
    ) -> dict[Prediction, Latents]:
        """Return what `predict` does of pictures of one scene, each of which sees the first ones, too.

        Args:
            wanted: Which predictions.
            noisy: x_t by the names of latents.
            t: Time of each element.
            key_views: How many all others see.
            at_once: How many others a call of the denoiser is about, beside those.

        Raises:
            UserError: If no prompts are set, or the model can't do that.
            ValueError: If the batch does not fit the number of prompts.
        """
        of_keys, of_others = None, []
        for others in torch.arange(key_views, len(t)).split(at_once):
            chosen = torch.cat([torch.arange(key_views), others]).to(t.device)
            some = {name: x[chosen.to(x.device)] for name, x in noisy.items()}
            x_t, times, condition = self._questions(wanted, some, t[chosen])
            answers = self.denoiser.predict_noise_across(x_t, times, condition, len(chosen), key_views)
            by_wanted = torch.stack(answers.split(len(chosen)))
            of_keys = by_wanted[:, :key_views] if of_keys is None else of_keys
            of_others.append(by_wanted[:, key_views:])
        assert of_keys is not None
        return dict(zip(wanted, torch.cat([of_keys, *of_others], dim=1), strict=True))

    def combined(
        self, terms: Combination, noisy: Mapping[str, Latents], t: Times, beside: Latents | None = None
    ) -> Latents:
        """Return the value of a combination of predictions alone, with gradients where they are enabled.

        Arguments and errors as in `predict`.
        """
        wanted = predictions_of(terms)
        x_t, times, condition = self._questions(wanted, noisy, t)
        answers = self.denoiser.predict_noise_differentiably(x_t, times, condition, _for_each(beside, x_t))
        return combine(terms, _by_prediction(wanted, answers, t), next(iter(noisy.values())))

    def predict_and_attend(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Times
    ) -> tuple[dict[Prediction, Latents], Float[Tensor, "batch 1 height width"]]:
        """Return what `predict` does, and where the model looks for the words that differ: those to come and to go."""
        x_t, times, condition = self._questions(wanted, noisy, t)
        changed = self._changed_words()
        times_each = len(t) // len(changed["none"])
        words = torch.cat([changed[prompt].repeat_interleave(times_each, dim=0) for _, prompt in wanted])
        answers, attention = self.denoiser.predict_noise_and_attention(x_t, times, condition, words)
        mask = torch.stack(stretch(attention).split(len(t))).amax(0)
        return _by_prediction(wanted, answers, t), mask

    def _changed_words(self) -> dict[str, Bool[Tensor, "pairs tokens"]]:
        if not self._words and self.prompts is not None:
            sources, targets = self.prompts
            to_come = self.denoiser.changed_words(targets, sources)
            to_go = self.denoiser.changed_words(sources, targets)
            self._words = {"target": to_come, "source": to_go, "none": torch.zeros_like(to_come)}
        return self._words

    def _questions(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Times
    ) -> tuple[Float[Tensor, "latents channels height width"], Int[Tensor, " latents"], Condition]:
        """Return what the denoiser is given for the predictions that are wanted: latents, times and conditions.

        Where all latents are asked equally often, in turn, each is given once.
        """
        if not self._by_name:
            raise UserError("No prompts are set: give a source and a target prompt.")
        pairs, batch = len(self._by_name["target"]), len(t)
        if batch % pairs:
            raise ValueError(f"{pairs} pairs of prompts for a batch of {batch}")
        prompts = [p for _, name in wanted for p in self._by_name[name] for _ in range(batch // pairs)]
        latents = [latent for latent, _ in wanted]
        once = list(dict.fromkeys(latents))
        if once * (len(latents) // len(once)) == latents:
            latents = once
        condition = self.denoiser.encode_prompts(prompts)
        return torch.cat([noisy[latent] for latent in latents]), t.repeat(len(latents)), condition


def _for_each(
    beside: Latents | None, x_t: Float[Tensor, "latents channels height width"]
) -> Float[Tensor, "latents channels height width"] | None:
    """Return the sources once for each noisy latent: those of one name, and then those of another."""
    return None if beside is None else beside.repeat(len(x_t) // len(beside), 1, 1, 1)


def _by_prediction(
    wanted: Sequence[Prediction], answers: Float[Tensor, "questions channels height width"], t: Times
) -> dict[Prediction, Latents]:
    return dict(zip(wanted, answers.split(len(t)), strict=True))
