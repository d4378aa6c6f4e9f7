"""Steps of DreamBooth (Ruiz et al. 2023, eq. 2): a subject under its word, and its kind kept as the model knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pds_nerfstudio.editing import StepReport
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.networks.network import Condition
from pds_nerfstudio.guidance.parametrization import right_answer, shown

Latents = Float[Tensor, "batch channels height width"]

_RISE = 20
"""Steps over which the learning rate rises, at most."""
_LONGEST = 1.0
"""To what a gradient is shortened."""


@dataclass(frozen=True)
class Lesson:
    """Pictures that go by one prompt."""

    name: str
    """What its loss is called."""
    latents: Sequence[Float[Tensor, "1 channels _ _"]]
    """Of the pictures, which may differ in size."""
    prompt: str
    """What they show."""
    weight: float = 1.0
    """Of its loss."""


def answer_loss(
    denoiser: Denoiser, x: Latents, condition: Condition, noise: Latents, t: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Return the mean square of what is wrong with the network's answers, with gradients to its adapter.

    Args:
        denoiser: The model.
        x: Clean latents.
        condition: Of one prompt for each.
        noise: Standard normal.
        t: Their times.
    """
    kind, levels = denoiser.network.parametrization, denoiser.levels
    latent, time = shown(kind, denoiser.add_noise(x, noise, t), t, levels)
    answer = denoiser.network.predict(latent, time, condition)
    return (answer - right_answer(kind, x, noise, t, levels)).square().mean()


class DreamBooth:
    """A stage that teaches an adapter its lessons.

    Times are drawn evenly from those of Stable Diffusion's schedule, of the same signal-to-noise ratio in any model: at
    those an edit asks.

    Args:
        denoiser: The model, with its adapter.
        parameters: Of the adapter.
        lessons: Each step takes one picture of each.
        draws: Pictures, noise and times are drawn from.
        steps: How many.
        learning_rate: Of AdamW; see `share_of_rate`.
        samples: Noises and times for each picture of a step.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        parameters: Sequence[nn.Parameter],
        lessons: Sequence[Lesson],
        draws: Draws,
        steps: int,
        learning_rate: float,
        samples: int = 1,
    ) -> None:
        self.steps, self.done = steps, 0
        self._denoiser, self._parameters, self._draws, self._samples = denoiser, parameters, draws, samples
        self._lessons = [(lesson, denoiser.encode_prompts([lesson.prompt] * samples)) for lesson in lessons]
        self._times = denoiser.schedule.reference_times.to(denoiser.device)
        self._optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda done: share_of_rate(done, steps))

    def step(self) -> StepReport:
        """Take a step down the losses of one picture of each lesson; losses that are not finite are left alone.

        One that is cut short, by Ctrl-C, is as if it had not begun.
        """
        drawn = self._draws.state()
        try:
            losses = self._descend()
        except BaseException:
            self._draws.go_on_from(drawn)
            raise
        length = nn.utils.clip_grad_norm_(self._parameters, _LONGEST)
        finite = bool(length.isfinite())
        if finite:
            self._optimizer.step()
            self._schedule.step()
        self.done += 1
        return StepReport(self.done, self.steps, losses, skipped=not finite)

    def _descend(self) -> dict[str, float]:
        """Leave the gradients of all losses with the parameters, and return the losses."""
        self._optimizer.zero_grad()
        losses = {}
        for lesson, condition in self._lessons:
            loss = self._loss(lesson, condition)
            (lesson.weight * loss).backward()  # one after the other, for one graph at a time in memory
            losses[lesson.name] = loss.item()
        return losses

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, besides what the stage was made with."""
        return {
            "done": self.done,
            "adapter": [parameter.detach() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "draws": self._draws.state(),
        }

    @torch.no_grad()
    def go_on_from(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of a stage that was made with the same: on a CPU, to the same bits."""
        for parameter, saved in zip(self._parameters, state["adapter"], strict=True):
            parameter.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._draws.go_on_from(state["draws"])
        self.done = state["done"]

    def _loss(self, lesson: Lesson, condition: Condition) -> Float[Tensor, ""]:
        generator = self._draws.generator
        number = torch.randint(len(lesson.latents), (), generator=generator, device=generator.device)
        x = lesson.latents[int(number)].expand(self._samples, -1, -1, -1)
        places = torch.randint(len(self._times), (self._samples,), generator=generator, device=generator.device)
        return answer_loss(self._denoiser, x, condition, self._draws.noise(x), self._times[places])

    def finish(self) -> None:
        """Do nothing more."""


def share_of_rate(done: int, steps: int) -> float:
    """Return the share of the learning rate that a step takes: it rises over the first steps, then falls evenly.

    AdamW's first steps are as long as any, whatever the gradient; its last ones should settle the noise of single
    pictures and times.

    Args:
        done: Steps before it.
        steps: Of all the training.
    """
    rise = max(1, min(_RISE, steps // 10))
    return min((done + 1) / rise, max(steps - done, 1) / max(steps - rise, 1), 1.0)
