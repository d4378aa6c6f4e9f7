"""Edits that need no optimiser: from much noise down to none, each step moves the edit by a difference of velocities.

At falling times τ a step looks at the noisy source q = (1−τ)·x_src + τ·ε and at a noisy edit p, with new ε each time,
and moves the edit x by the difference of the velocities ε − x that the model sees in them. With Δx = x − x_src,
p = (1−τ)·x + τ·ε + ητ·Δx and Δv = v_tgt(p) − v_src(q), all three methods are

    x ← x + (τ' − τ)·(Δv + (1−η)·Δx) − ζ·(p − q − τ·Δv)          with τ' the next time, 0 after the last

- FlowEdit (Kulikov et al. 2024): η = 1, so that p = x + q − x_src, and ζ = 0; target and source each guided from no
  prompt towards their own.
- DVRF (Delta Velocity Rectified Flow, Beaudouin et al. 2025): η grows evenly from 0 over the steps, ζ = 0. With η = 1
  it is FlowEdit; with η = 0 it is DDS, at times that fall. Its step lengths are the differences of times here, where
  its authors tuned a curve.
- FlowAlign (Kim et al. 2025): η = 1; at p the source prompt is what is guided from, v(p, y_src) + w·(v(p, y_tgt) −
  v(p, y_src)), so that three evaluations are enough; and ζ = 0.01 pulls the clean picture that is seen in p towards the
  one that is seen in q.

A flow has these velocities; of a diffusion they are v = (ε̂ − z)/(1−τ) in z = x_t/(√ᾱ + √(1−ᾱ)), the same point at
equal signal-to-noise ratio (`schedule`). So Δv = (Δε̂ − (p − q))/(1−τ) for both, where p has the noise ε + η·Δx in
place of ε. Times come from the reference, which ends at τ = 0.94: 1 − τ is never near 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.checks import at_least, finite, known, share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig, warn_of_scale
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.masks import MaskAverage, difference_mask, soften
from pds_nerfstudio.guidance.networks.network import KnowsFlowEdit, Network
from pds_nerfstudio.guidance.objectives.form import (
    SOURCE,
    TARGET,
    TARGET_AS_SOURCE,
    Combination,
    Latents,
    combine,
    guided_source,
    guided_target,
    linear,
    predictions_of,
)
from pds_nerfstudio.guidance.prompted import PromptedDenoiser
from pds_nerfstudio.guidance.timesteps import falling_timesteps

Masks = Float[Tensor, "batch 1 height width"]
"""How much each place takes part in an edit, in 0..1."""

FlowEditMethod = Literal["off", "flowedit", "flowalign", "dvrf"]
"""Which of them; see the module."""

_SCALES = (5.0, 1.5)
"""Guidance of the target and of the source prompt, for models that nothing was published for."""


@dataclass(frozen=True)
class FlowEditConfig:
    """How a picture is edited in steps from noise to none, without an optimiser, by flows and diffusions alike."""

    method: FlowEditMethod = "off"
    """flowedit: FlowEdit. flowalign: FlowAlign, which stays nearer to the source with a quarter fewer predictions.
    dvrf: Delta Velocity Rectified Flow, between DDS and FlowEdit. off: none of them."""
    steps: int = 50
    """Steps from the noise to the finished picture."""
    start: float = 0.9
    """Noise to begin with, as a share of the noise schedule (0 to 1; see t_min of the guidance). Less leaves out the
    first steps and keeps more of the source's layout."""
    guidance_scale: float = 0.0
    """How strongly the target prompt is obeyed. 0 takes what suits the model: 1 for those that were distilled to do
    without guidance, 13.5 for Stable Diffusion 3 as in FlowEdit's paper, and 5 for others, as was measured with the
    embedded ones."""
    source_scale: float = 0.0
    """How strongly the source prompt is obeyed about the source. 0 takes what suits the model: 1, 3.5 and 1.5 for the
    same three. Unused by flowalign."""
    noises: int = 1
    """Noises that a step is averaged over, in one call of the model."""
    eta: float = 1.0
    """Where dvrf ends, from 0 (DDS) to 1 (FlowEdit), to which it grows evenly from 0. Used by dvrf alone."""
    consistency: float = 0.01
    """Pull of each step back to the source (ζ). Used by flowalign alone."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the field.
        """
        known(self, "method", get_args(FlowEditMethod))
        at_least(self, 1, "steps", "noises")
        share(self, "start", above=True, of="the noise")
        share(self, "eta", "consistency")
        finite(self, "guidance_scale", "source_scale")

    def for_model(self, network: Network) -> "FlowEditConfig":
        """Return the configuration with the model's own scales in place of those that were not given.

        Warns where another scale than 1 was given to a model that was distilled to do without guidance.
        """
        published = network.flow_edit_scales if isinstance(network, KnowsFlowEdit) else None
        target, source = published or _SCALES
        if network.guidance_scale == 1:
            target = source = 1.0
            warn_of_scale("flow_edit.guidance_scale", self.guidance_scale or target)
        return replace(self, guidance_scale=self.guidance_scale or target, source_scale=self.source_scale or source)

    @property
    def difference(self) -> Combination:
        """Return the predictions whose combination is Δε̂. Both scales are given: see `for_model`."""
        if self.method == "flowalign":
            return linear((self.guidance_scale, TARGET), (1 - self.guidance_scale, TARGET_AS_SOURCE), (-1, SOURCE))
        source = [(-coefficient, p) for p, coefficient in guided_source(self.source_scale).items()]
        return {**guided_target(self.guidance_scale), **linear(*source)}

    def shift(self, done: float) -> float:
        """Return η when a share of the steps is done."""
        return self.eta * done if self.method == "dvrf" else 1.0

    @property
    def pull(self) -> float:
        """Return ζ."""
        return self.consistency if self.method == "flowalign" else 0.0


NO_FLOW_EDIT = FlowEditConfig()
"""None of the methods."""
_AT_ONCE = 4
"""Views that the model is asked about in one call, beside the key views."""
QUICK_DRAFT = FlowEditConfig(method="flowedit", steps=10)
"""What shows in a second or two where an edit may lead."""


def velocity_difference(noise_difference: Latents, between: Latents, tau: Float[Tensor, ""]) -> Latents:
    """Return Δv = (Δε̂ − (p − q))/(1−τ).

    Args:
        noise_difference: Δε̂, the difference of the noises that a model sees in p and q.
        between: p − q.
        tau: τ, below 1.
    """
    return (noise_difference - between) / (1 - tau)


def change(
    velocities: Latents, edit: Latents, now: Float[Tensor, ""], after: Float[Tensor, ""], shift: float, pull: float
) -> Latents:
    """Return what a step adds to the edit: (τ' − τ)·(Δv + (1−η)·Δx) − ζ·(p − q − τ·Δv).

    Args:
        velocities: Δv.
        edit: Δx.
        now: τ.
        after: τ', below it.
        shift: η.
        pull: ζ.
    """
    between = (1 - now + shift * now) * edit
    return (after - now) * (velocities + (1 - shift) * edit) - pull * (between - now * velocities)


class FlowEdit:
    """An edit that is under way.

    It begins where the noisy edit p is that of a finished one, (1−τ)·x + τ·ε: at the source if nothing is edited yet.

    Args:
        prompted: The model under its prompts.
        draws: The noise is drawn from.
        source: Latents before the edit, on the denoiser's device and in its results' dtype.
        edited: What was made of them already; the same if nothing was.
        config: How to edit; valid, and not off.
        localizing: Says by `localize` and `localize_by` whether what the prompts agree on is left alone.
        allowed: Where anything may change, in 0..1; None is everywhere.
        learn: Takes in a step's raw masks of what the prompts disagree on, and returns their average; None averages
            those of this edit.
        key_views: The batch is of views of one scene, and the model sees the first so many of them while it draws each;
            0 if each is drawn by itself.

    Raises:
        UserError: If views are to be drawn together where the model's attention localizes, which is not known of that.
    """

    def __init__(
        self,
        prompted: PromptedDenoiser,
        draws: Draws,
        source: Latents,
        edited: Latents,
        config: FlowEditConfig,
        localizing: GuidanceConfig,
        allowed: Float[Tensor, "#batch 1 height width"] | None = None,
        learn: Callable[[Masks], Masks] | None = None,
        key_views: int = 0,
    ) -> None:
        if key_views and localizing.localize > 0 and localizing.localize_by == "attention":
            raise UserError("Views that see key_views can't be localized by attention: set localize_by to difference.")
        self._key_views = min(key_views, len(source))
        self._prompted, self._draws, self._source = prompted, draws, source
        self._config = config = config.for_model(prompted.denoiser.network)
        self._localizing = localizing
        self._allowed = 1.0 if allowed is None else allowed.to(source)
        self._learn = learn or partial(MaskAverage(len(source)).update, range(len(source)))
        denoiser = prompted.denoiser
        self._times = falling_timesteps(denoiser.schedule, config.start, config.steps, denoiser.device)
        taus = denoiser.levels.flow_time(self._times)
        self._taus = torch.cat([taus, taus.new_zeros(1)])
        self._difference = config.difference
        self.done = 0
        """Steps taken so far."""
        first = self._taus[0]
        ahead = (1 - first) / (1 - first + config.shift(0) * first)
        self.latents = source + ahead * self._allowed * (edited - source)
        """The edit as it is by now."""

    @torch.no_grad()
    def step(self) -> bool:
        """Take the next of the steps; return whether it was finite. One that is not is left out."""
        config, number = self._config, self.done
        now, after = self._taus[number], self._taus[number + 1]
        shift, edit = config.shift(number / config.steps), self.latents - self._source
        noises, raw = self._predict(self._times[number], shift)
        velocities = velocity_difference(noises, (1 - now + shift * now) * edit, now)
        self.done += 1
        moved = change(velocities, edit, now, after, shift, config.pull)
        if not bool(moved.isfinite().all()):
            return False
        if self._localizing.localize > 0:
            raw = difference_mask(velocities + (1 - shift) * edit) if raw is None else raw
            moved = soften(self._learn(raw), self._localizing) * moved
        self.latents = self.latents + self._allowed * moved
        return True

    def run(self) -> Latents:
        """Take the steps that are left, and return the edit."""
        while self.done < self._config.steps:
            self.step()
        return self.latents

    def _predict(self, time: Tensor, shift: float) -> tuple[Latents, Float[Tensor, "batch 1 height width"] | None]:
        """Return Δε̂, and the mask of attention if that is what localizes, both averaged over new noises."""
        count, by = self._config.noises, self._localizing
        latents, source = (x.repeat_interleave(count, dim=0) for x in (self.latents, self._source))
        noise, t = self._draws.noise(source), time.expand(len(source))
        given = {"target": (latents, noise + shift * (latents - source)), "source": (source, noise)}
        noisy = {name: self._prompted.denoiser.add_noise(x, added, t) for name, (x, added) in given.items()}
        wanted, mask = predictions_of(self._difference), None
        if by.localize > 0 and by.localize_by == "attention":
            predictions, mask = self._prompted.predict_and_attend(wanted, noisy, t)
            mask = mask.unflatten(0, (-1, count)).mean(1)
        elif self._key_views:
            of_views = self._key_views * count, _AT_ONCE * count
            predictions = self._prompted.predict_across(wanted, noisy, t, *of_views)
        else:
            predictions = self._prompted.predict(wanted, noisy, t, beside=source)
        return combine(self._difference, predictions, noise).unflatten(0, (-1, count)).mean(1), mask
