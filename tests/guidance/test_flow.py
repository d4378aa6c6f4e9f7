"""Where the objectives end on a rectified flow whose velocity is exact, in closed form.

Each prompt stands for one Gaussian of standard deviation σ, two means apart. A prediction is then k·(x_t − √ᾱ·μ) with
k = √(1−ᾱ)/V and V = ᾱσ² + 1 − ᾱ, and PDS ends at the share <χk√ᾱ> / <ψ + χk√ᾱ> of the way, means over the times.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.objectives.pds import chi, psi
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule
from tests.guidance.analytic import mixture_denoiser, stable_diffusion_schedule, zero_terminal_schedule

FLOW, SHIFTED = Schedule.rectified_flow(1000), Schedule.rectified_flow(1000, 3.0)
DIFFUSION = stable_diffusion_schedule()
SOURCE, TARGET, STD = (-2.0, 0.0), (2.0, 0.0), 0.5


def guidance_on(schedule: Schedule, kind: Parametrization = "flow", **config: Any) -> Guidance:
    """The real guidance over that model; no prompt stands for both Gaussians."""
    components = {"": [SOURCE, TARGET], "source": [SOURCE] * 2, "target": [TARGET] * 2}
    denoiser, _ = mixture_denoiser(components, STD, parametrization=kind, schedule=schedule)
    guidance = Guidance(GuidanceConfig(**config), denoiser)
    guidance.set_prompts("source", "target")
    return guidance


def latents(point: Sequence[float], count: int) -> Tensor:
    return torch.tensor(point).double()[None, :, None, None].expand(count, -1, 1, 1)


def share(schedule: Schedule, t: Tensor, stride: int = 2) -> float:
    """How much of the way PDS goes if each of these times counts as often."""
    alpha_bar = schedule.alphas_cumprod[t]
    gain = ((1 - alpha_bar) * alpha_bar).sqrt() / (alpha_bar * STD**2 + 1 - alpha_bar)
    pull = (chi(schedule, t, stride) * gain).mean()
    return float(pull / (psi(schedule, t, stride).mean() + pull))


UNIFORM = torch.arange(20, 981)
"""Times of a flow that are even in τ, from .02 to .98."""
IN_RANGE = torch.arange(121, 929)
"""Those of a flow with the signal-to-noise ratios of Stable Diffusion's .02 to .98: τ from .122 to .929."""


@pytest.mark.parametrize(
    ("schedule", "times", "wanted"),
    [
        (FLOW, UNIFORM, 0.104),  # mostly held by identity: ψ/χ grows with (1−τ)/τ
        (FLOW, IN_RANGE, 0.300),
        (FLOW, FLOW.reference_times[20:981], 0.369),
        (SHIFTED, SHIFTED.reference_times[20:981], 0.336),
        (DIFFUSION, UNIFORM, 0.332),
    ],
)
def test_pds_is_at_rest_where_its_two_terms_balance(schedule: Schedule, times: Tensor, wanted: float) -> None:
    assert share(schedule, times) == pytest.approx(wanted, abs=1e-3)
    guidance = guidance_on(schedule, guidance_scale=1.0)
    source, way = latents((-2.3, 0.4), len(times)), latents((4.0, 0.0), len(times))
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(0)).double()
    gradients = [
        guidance.gradient_terms(source + f * way, source, times, noise).total.mean((0, 2, 3))
        for f in (share(schedule, times), 0.0)
    ]
    assert gradients[0].abs().max() < 1e-12 and gradients[1].abs().max() > 1e-2


@pytest.mark.parametrize(("objective", "wanted"), [("pds", 0.369), ("dds", 1.0), ("sds", 1.0)])
def test_an_edit_with_drawn_times_ends_there(objective: str, wanted: float) -> None:
    guidance = guidance_on(FLOW, guidance_scale=1.0, objective=objective)
    noise = torch.randn(256, 2, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    source = latents(SOURCE, 256) + STD * (noise - noise.mean(0))
    ends = run(guidance, source)[:, :, 0, 0]
    assert ends.mean(0).tolist() == pytest.approx([-2 + 4 * wanted, 0], abs=0.06)
    kept = torch.corrcoef(torch.stack([source[:, 1, 0, 0], ends[:, 1]]))[0, 1]
    assert kept < 0.3 if objective == "sds" else kept > 0.99


def run(guidance: Guidance, source: Tensor, steps: int = 300, rate: float = 0.4) -> Tensor:
    """Follow the guidance with the times that it draws; return the mean of the second half."""
    x, total = source, torch.zeros_like(source)
    for step in range(steps):
        x = x - rate * guidance.latent_loss(x, source, step / steps).grad
        total = total + x * (step >= steps // 2)
    return total / (steps - steps // 2)


def run_as_editors_do(guidance: Guidance, source: Tensor, times: Tensor, steps: int = 500) -> Tensor:
    """Follow the guidance at times drawn from some, by Adam with rates that fall to a tenth."""
    rng = torch.Generator().manual_seed(0)
    x = source.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, steps)
    for _ in range(steps):
        t = times[torch.randint(len(times), (len(x),), generator=rng)]
        noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        x.grad = guidance.gradient_terms(x, source, t, noise).total
        optimizer.step()
        rates.step()
    return x.detach()


@pytest.mark.parametrize(
    ("schedule", "times", "wanted"), [(FLOW, UNIFORM, 0.41), (FLOW, IN_RANGE, 0.66), (DIFFUSION, UNIFORM, 0.71)]
)
def test_under_guidance_even_flow_times_stop_half_way_of_a_diffusions(
    schedule: Schedule, times: Tensor, wanted: float
) -> None:
    kind: Parametrization = "noise" if schedule is DIFFUSION else "flow"
    guidance = guidance_on(schedule, kind, guidance_scale=5.0)
    noise = torch.randn(256, 2, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    ends = run_as_editors_do(guidance, latents(SOURCE, 256) + STD * noise, times)
    assert (float(ends[:, 0].mean()) + 2) / 4 == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("stride", [2, 5])
def test_the_balance_of_the_terms_depends_on_signal_to_noise_and_stride_alone(stride: int) -> None:
    for schedule in (FLOW, SHIFTED, DIFFUSION):
        t = schedule.reference_times[100:951:50]
        alpha_bar = schedule.alphas_cumprod[t]
        limit = (stride - 1) / 2 * (1 + alpha_bar) * (alpha_bar / (1 - alpha_bar)).sqrt()
        torch.testing.assert_close(psi(schedule, t, stride) / chi(schedule, t, stride), limit, rtol=0.08, atol=0)


def test_the_consistent_posterior_has_no_identity_term_on_a_flow() -> None:
    t = torch.arange(100, 1000)
    assert psi(FLOW, t, 20, consistent_beta=True).abs().max() < 1e-12 < psi(FLOW, t, 20).min()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_schedule_that_ends_without_any_signal_gives_finite_gradients(objective: str) -> None:
    config = {"objective": objective, "t_max": 1.0, "t_schedule": "annealed"}
    guidance = guidance_on(zero_terminal_schedule(1000), "velocity", **config)
    source = latents(SOURCE, 2)
    output = guidance.latent_loss(source + 0.1, source, 0.0)
    assert output.finite and output.grad.abs().max() > 0
