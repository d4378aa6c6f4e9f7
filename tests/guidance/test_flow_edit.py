"""FlowEdit, DVRF and FlowAlign, where the velocity of flow or diffusion is exact.

With Gaussians of one standard deviation σ, Δv is (V'/2V)·((p−q) − (1−τ)·Δμ) − Δμ with V = (1−τ)²σ² + τ², and what
FlowEdit has gone of the way by τ is (1−τ) − C·√V: at the end, 1 − (1−τ₀)σ/√V₀ of it from τ₀.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig, change
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.guidance.schedule import Schedule
from tests.guidance.analytic import mixture_denoiser, stable_diffusion_schedule

SOURCE, TARGET, STD = (-2.0, 0.0), (2.0, 0.0), 0.5
FLOW, DIFFUSION = Schedule.rectified_flow(4000), stable_diffusion_schedule()
MODELS: list[tuple[Schedule, Parametrization]] = [
    (FLOW, "flow"),
    (Schedule.rectified_flow(4000, 3.0), "flow"),
    (DIFFUSION, "noise"),
    (DIFFUSION, "velocity"),
]
EMBEDDED = (5.0, 1.5)
SCALES = ((0.0, 0.0), EMBEDDED, (3.0, 1.0))
METHODS = ("flowedit", "flowalign", "dvrf")
Points = NDArray[np.float64]


def guidance_of(schedule: Schedule, kind: Parametrization, prompts: tuple[str, str], **config: Any) -> Guidance:
    components = {"": [SOURCE, TARGET], "source": [SOURCE] * 2, "target": [TARGET] * 2}
    denoiser, _ = mixture_denoiser(components, STD, parametrization=kind, schedule=schedule)
    guidance = Guidance(GuidanceConfig(**config), denoiser)
    guidance.set_prompts(*prompts)
    return guidance


def samples(count: int = 64) -> Tensor:
    noise = torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    return torch.tensor(SOURCE).double()[None, :, None, None] + STD * noise


def edited(config: FlowEditConfig, source: Tensor, schedule: Schedule = FLOW, kind: Parametrization = "flow") -> Tensor:
    return guidance_of(schedule, kind, ("source", "target")).flow_edit(source, config).run()


def unguided(method: str, **options: Any) -> FlowEditConfig:
    return FlowEditConfig(method, guidance_scale=1.0, source_scale=1.0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("schedule", "kind"), MODELS)
@pytest.mark.parametrize("start", [0.98, 0.6])
def test_flowedit_ends_where_its_flow_does(schedule: Schedule, kind: Parametrization, start: float) -> None:
    source = samples()
    moved = edited(unguided("flowedit", steps=400, start=start), source, schedule, kind) - source
    level = DIFFUSION.alphas_cumprod[round(start * 999)]
    way = 1 - STD * (level / (level * STD**2 + 1 - level)).sqrt()
    assert way == pytest.approx(0.96 if start > 0.9 else 0.785, abs=0.01)
    torch.testing.assert_close(moved[:, 0], (4 * way).expand_as(moved[:, 0]), rtol=0.01, atol=0)
    assert moved[:, 1].abs().max() < 1e-9  # every sample keeps what sets it apart


def test_dvrf_without_a_shift_ends_where_delta_denoising_does_at_falling_times() -> None:
    """With η = 0 the rest of the way falls as exp(−∫(1 + (1−τ)·V'/2V) dτ); .31 of it is left from τ = 1."""
    source, levels = samples(), FLOW.alphas_cumprod[FLOW.reference_times]
    tau = torch.linspace(0, 1, 100_001).double()[:-1]
    ratio = float((1 / levels[-1] - 1).sqrt())
    variance = (1 - tau) ** 2 * STD**2 + tau**2
    slope = 1 + (1 - tau) * (tau - (1 - tau) * STD**2) / variance
    left = [float((-torch.trapezoid(slope[tau <= end], tau[tau <= end])).exp()) for end in (1.0, ratio / (1 + ratio))]
    assert left[0] == pytest.approx(0.31, abs=0.005)
    way = (edited(unguided("dvrf", steps=400, start=1.0, eta=0.0), source) - source)[:, 0] / 4
    torch.testing.assert_close(way, torch.full_like(way, 1 - left[1]), rtol=0, atol=0.005)


def test_dvrf_with_a_growing_shift_ends_short_of_flowedit() -> None:
    source = samples()
    configs = (unguided("dvrf", eta=0.0), unguided("dvrf"), unguided("flowedit"))
    ways = [float((edited(config, source) - source)[:, 0].mean()) for config in configs]
    assert ways[0] + 0.3 < ways[1] < ways[2] - 0.05


def reference(config: FlowEditConfig, source: Points, taus: Points, noises: list[Points]) -> Points:
    """The papers' loops, step by step in a flow's coordinates, in NumPy."""
    means = {"source": [SOURCE], "target": [TARGET], "none": [SOURCE, TARGET]}

    def velocity(z: Points, tau: float, prompt: str) -> Points:
        variance = (1 - tau) ** 2 * STD**2 + tau**2
        offsets = [z - (1 - tau) * np.array(mean) for mean in means[prompt]]
        weights = np.exp(-np.array([(o**2).sum(-1) for o in offsets]) / (2 * variance))
        weights = weights / weights.sum(0)
        noise = sum(w[:, None] * tau / variance * o for w, o in zip(weights, offsets, strict=True))
        return np.asarray(noise - (z - tau * noise) / (1 - tau))

    def guided(z: Points, tau: float, prompt: str, scale: float, origin: str = "none") -> Points:
        start = velocity(z, tau, origin)
        return start + scale * (velocity(z, tau, prompt) - start)

    x = source.copy()
    for i, (noise, tau, after) in enumerate(zip(noises, taus[:-1], taus[1:], strict=True)):
        q = (1 - tau) * source + tau * noise
        if config.method == "flowalign":
            p = x + q - source
            v_p = guided(p, tau, "target", config.guidance_scale, origin="source")
            v_q = velocity(q, tau, "source")
            x = x + (after - tau) * (v_p - v_q) + config.consistency * ((q - tau * v_q) - (p - tau * v_p))
            continue
        eta = config.eta * i / config.steps if config.method == "dvrf" else 1.0
        p = (1 - tau) * x + tau * noise + eta * tau * (x - source)
        v_p = guided(p, tau, "target", config.guidance_scale)
        v_q = guided(q, tau, "source", config.source_scale)
        x = x + (after - tau) * (v_p - v_q + (1 - eta) * (x - source))
    return x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("schedule", "kind"), MODELS)
def test_steps_are_the_papers(method: Any, schedule: Schedule, kind: Parametrization) -> None:
    config, source = FlowEditConfig(method, steps=7, start=0.8, guidance_scale=3.0, source_scale=1.5), samples(5)
    ours = edited(config, source, schedule, kind)[:, :, 0, 0]
    t = schedule.reference_times[torch.linspace(round(0.8 * 999), 0, 8)[:-1].round().long()]
    ratio = (1 / schedule.alphas_cumprod[t] - 1).sqrt()  # of noise to signal
    taus = np.append((ratio / (1 + ratio)).numpy(), 0.0)
    rng = torch.Generator().manual_seed(0)
    noises = [torch.randn(5, 2, 1, 1, generator=rng, dtype=torch.float64)[:, :, 0, 0].numpy() for _ in range(7)]
    theirs = reference(config, source[:, :, 0, 0].numpy(), taus, noises)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-9)


def test_dvrf_with_a_shift_of_one_is_flowedit() -> None:
    """Δv at x_tgt + ... is then that of p = x + q − x_src, and nothing is added to it."""
    velocities, edit = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, after = torch.tensor([0.7, 0.6]).double()
    torch.testing.assert_close(change(velocities, edit, now, after, 1.0, 0.0), (after - now) * velocities)
    x, source, noise = edit, velocities, edit.flip(0)
    p = (1 - now) * x + now * noise + now * (x - source)
    torch.testing.assert_close(p, x + (1 - now) * source + now * noise - source)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:The source and target prompts are equal")
def test_equal_prompts_change_nothing(method: Any) -> None:
    source = samples()
    config = FlowEditConfig(method, steps=5, guidance_scale=4.0, source_scale=4.0)
    for schedule, kind in MODELS:
        guidance = guidance_of(schedule, kind, ("source", "source"))
        torch.testing.assert_close(guidance.flow_edit(source, config).run(), source, rtol=0, atol=1e-10)


def test_flowalign_asks_for_three_predictions_and_the_others_for_four() -> None:
    source = samples(2)
    for method, rows in (("flowedit", 8), ("dvrf", 8), ("flowalign", 6)):
        guidance = guidance_of(FLOW, "flow", ("source", "target"))
        config = FlowEditConfig(method, steps=3)  # type: ignore[arg-type]
        guidance.flow_edit(source, config).run()
        calls = guidance.denoiser.network.calls  # type: ignore[attr-defined]
        assert [len(condition) for _, _, condition in calls] == [rows] * 3


def test_a_pull_of_flowalign_keeps_more_of_the_source() -> None:
    source = samples()
    ways = [
        float((edited(FlowEditConfig("flowalign", guidance_scale=1.0, consistency=c), source) - source)[:, 0].mean())
        for c in (0.0, 0.01, 0.1)
    ]
    assert ways[0] > ways[1] + 0.01 > ways[2] + 0.1


def test_more_noises_scatter_less() -> None:
    """Under guidance Δv depends on the noise; equal samples then end in different places."""
    source = torch.tensor(SOURCE).double()[None, :, None, None].expand(64, -1, -1, -1)
    spreads = [
        edited(FlowEditConfig("flowedit", steps=10, noises=n, guidance_scale=5.0), source).std(0).max() for n in (1, 8)
    ]
    assert spreads[1] < 0.6 * spreads[0]


class TestOnTheGuidance:
    """What its masks and the rest of an editor add."""

    def test_what_may_not_change_stays_to_the_bit(self) -> None:
        source, allowed = samples(4), torch.tensor([1.0, 0, 1, 0]).double()[:, None, None, None]
        guidance = guidance_of(FLOW, "flow", ("source", "target"))
        result = guidance.flow_edit(source, unguided("flowedit", steps=5), allowed).run()
        assert torch.equal(result[1::2], source[1::2]) and (result[::2] - source[::2]).abs().min(0).values.max() > 1

    def test_localize_leaves_alone_what_the_prompts_agree_on(self) -> None:
        components = {"": [[0.0] * 8], "source": [[0.0] * 8], "target": [[4.0] + [0.0] * 7]}
        source = torch.zeros(1, 1, 1, 8).double()
        ends = []
        for localize in (0.0, 1.0):
            denoiser, _ = mixture_denoiser(components, STD, parametrization="flow", schedule=FLOW)
            guidance = Guidance(GuidanceConfig(localize=localize), denoiser)
            guidance.set_prompts("source", "target")
            ends.append(guidance.flow_edit(source + 0.3, unguided("flowedit", noises=2)).run()[0, 0, 0])
        torch.testing.assert_close(ends[0][1:], ends[1][1:])
        assert ends[1][0] == pytest.approx(float(ends[0][0])) and ends[1][0] > 3.5

    def test_a_step_that_is_not_finite_is_left_out(self) -> None:
        guidance = guidance_of(FLOW, "flow", ("source", "target"), localize=1.0)
        edit = guidance.flow_edit(samples(2), unguided("flowedit", steps=3))
        predict, bad = guidance.denoiser.network.predict, iter([False, True, False])

        def sometimes(*arguments: Any) -> Tensor:
            return predict(*arguments) * (torch.nan if next(bad) else 1)

        guidance.denoiser.network.predict = sometimes  # type: ignore[method-assign, assignment]
        assert [edit.step() for _ in range(3)] == [True, False, True]
        assert edit.latents.isfinite().all() and (edit.latents - samples(2)).abs().max() > 0.5

    @pytest.mark.parametrize("method", ["flowedit", "dvrf"])
    def test_a_finished_edit_is_redrawn_where_it_is(self, method: Any) -> None:
        source = samples()
        finished = source + torch.tensor([4.0, 0.0]).double()[None, :, None, None]
        config = RedrawConfig(flow_edit=unguided(method, steps=400, start=0.7, eta=0.0))
        guidance = guidance_of(FLOW, "flow", ("source", "target"))
        torch.testing.assert_close(guidance.redraw_latents(finished, source, config), finished, rtol=0, atol=0.02)

    def test_a_seed_gives_the_same_bits(self) -> None:
        config = FlowEditConfig("flowedit", steps=3)
        results = [
            guidance_of(FLOW, "flow", ("source", "target"), seed=seed).flow_edit(samples(), config).run()
            for seed in (0, 0, 1)
        ]
        assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


class TestTheModelsOwnScales:
    """What 0 stands for, and what is given to models that want none."""

    @staticmethod
    def taken(own: float, published: tuple[float, float] | None = None, **given: float) -> tuple[float, float]:
        _, network = mixture_denoiser({"": [SOURCE]}, STD)
        network.guidance_scale = own
        if published:
            network.flow_edit_scales = published  # type: ignore[attr-defined]
        config = FlowEditConfig("flowedit", **given).for_model(network)  # type: ignore[arg-type]
        return config.guidance_scale, config.source_scale

    def test_are_none_for_distilled_models_the_published_and_those_measured(self) -> None:
        assert self.taken(1.0) == self.taken(1.0, (13.5, 3.5)) == (1.0, 1.0)
        assert self.taken(7.0, (13.5, 3.5)) == (13.5, 3.5)
        assert self.taken(7.5) == (5.0, 1.5)
        assert self.taken(7.5, guidance_scale=3.0) == (3.0, 1.5) and self.taken(7.5, source_scale=1.0) == (5.0, 1.0)

    def test_another_is_warned_of_for_distilled_models(self) -> None:
        with pytest.warns(UserWarning, match="flow_edit.guidance_scale is 5, and the model was distilled"):
            assert self.taken(1.0, guidance_scale=5.0) == (5.0, 1.0)

    def test_an_edit_takes_them(self) -> None:
        ends = [edited(FlowEditConfig("flowedit", 5, guidance_scale=g, source_scale=s), samples(4)) for g, s in SCALES]
        assert torch.equal(ends[0], ends[1]) and not torch.allclose(ends[0], ends[2])

    @pytest.mark.parametrize(
        ("kind", "scales"),
        [("sd3", (13.5, 3.5)), ("flux_dev", (1.0, 1.0)), ("sdxl_turbo", (1.0, 1.0)), ("sd15", EMBEDDED)],
    )
    def test_by_architecture(self, kind: str, scales: Any, tiny_model: Callable[[str], Path]) -> None:
        assert self.of(str(tiny_model(kind))) == scales

    @pytest.mark.parametrize("model", ["toyworld", "toyworld-flow"])
    def test_of_the_embedded_models(self, model: str) -> None:
        assert self.of(model) == EMBEDDED

    @staticmethod
    def of(model: str) -> tuple[float, float]:
        network = Denoiser.from_pretrained(model, "cpu", torch.float32).network
        config = FlowEditConfig("flowedit").for_model(network)
        return config.guidance_scale, config.source_scale


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("method", "ode"), ("steps", 0), ("start", 0.0), ("start", 1.1), ("noises", 0)),
        *(("guidance_scale", -1.0), ("source_scale", float("nan")), ("eta", 1.5), ("consistency", -0.1)),
    ],
)
def test_values_of_no_use_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=name):
        FlowEditConfig(**{name: value}).check()
    with pytest.raises(UserError, match=name):
        RedrawConfig(flow_edit=FlowEditConfig(**{name: value})).check()
