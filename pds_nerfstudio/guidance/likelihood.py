"""How well latents suit a prompt, by the model itself: how well it sees the noise that is added to them.

The mean error of the predicted noise bounds the latents' likelihood (Ho et al. 2020), and tells which of some prompts
a picture shows (Li et al., Your Diffusion Model is Secretly a Zero-Shot Classifier, 2023). Here the prompt is the same
and the pictures differ.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.objectives.form import TARGET, TARGET_AS_SOURCE, Latents
from pds_nerfstudio.guidance.prompted import PromptedDenoiser
from pds_nerfstudio.guidance.timesteps import falling_timesteps

_NOISIEST = 0.8
"""Share of the noise schedule up to which noise is added: with more, little of the picture is left to judge."""
_TIMES, _NOISES = 5, 2
_FAITHFUL = 1.5
"""How much it counts that a version is near to the source: as a power of its square distance, beside the error."""
_NEAREST = 0.5
"""Share of the median distance below which being nearer does not count: what is not edited is no edit."""

_UNEDITED = 1e6
"""What is added to the score of what is not edited: more than all else."""


@torch.no_grad()
def likeliest(prompted: PromptedDenoiser, draws: Draws, some: Sequence[Latents], source: Latents) -> Latents:
    """Return of some versions of latents, for each element, the one that suits the target prompt best.

    Of those that suit it alike, the one that is nearest to the source: a model finds a thing as likely from one side as
    from another, and only the source says which it was. What suits the source prompt better is not edited, and taken
    only where all do.

    Args:
        prompted: The model under its prompts.
        draws: Noise is drawn from, the same for all versions. It moves on.
        some: The versions; those that are not finite are not taken as long as another one is.
        source: The latents of the sources.
    """
    noises = [draws.noise(some[0]) for _ in range(_TIMES * _NOISES)]
    both = [log_prediction_errors(prompted, latents, noises, source) for latents in some]
    errors, before = (torch.stack(under) for under in zip(*both, strict=True))
    away = torch.stack([(latents - source).square().mean((1, 2, 3)) for latents in some])
    away = away.clamp(min=1e-12).maximum(_NEAREST * away.nanmedian(0).values)
    score = (errors + _FAITHFUL * away.log()).nan_to_num(nan=torch.inf)
    best = (score + _UNEDITED * (errors > before)).argmin(0)
    return torch.stack([some[int(number)][element] for element, number in enumerate(best)])


@torch.no_grad()
def log_prediction_errors(
    prompted: PromptedDenoiser, latents: Latents, noises: Sequence[Latents], beside: Latents
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return how far the noise that the model sees is from what was added, under the target and the source prompt.

    It is the mean logarithm of the mean square error, so that every time counts alike: with little noise all errors
    are large, and tell of detail; with much they are small, and tell of what is where.

    Args:
        prompted: The model under its prompts.
        latents: What is judged.
        noises: Standard normal; each is added at a time of its own, evenly spread, over and over.
        beside: The latents of the sources, for models that look at them.
    """
    denoiser, prompts = prompted.denoiser, (TARGET, TARGET_AS_SOURCE)
    times = falling_timesteps(denoiser.schedule, _NOISIEST, _TIMES, latents.device)
    errors = []
    for number, noise in enumerate(noises):
        t = times[number % len(times)].expand(len(latents))
        noisy: dict[str, Latents] = {TARGET.latent: denoiser.add_noise(latents, noise, t)}
        predicted = prompted.predict(prompts, noisy, t, beside)
        away = torch.stack([(predicted[prompt] - noise).square().mean((1, 2, 3)) for prompt in prompts])
        errors.append(away.clamp(min=1e-20).log())
    under_target, under_source = torch.stack(errors).mean(0)
    return under_target, under_source
