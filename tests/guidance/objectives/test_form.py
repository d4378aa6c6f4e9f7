"""Each objective against the formula of its paper, and the form that all share."""

import math
from collections.abc import Callable

import pytest
import torch

from pds_nerfstudio.guidance.objectives.dds import Dds
from pds_nerfstudio.guidance.objectives.dreamcatalyst import DreamCatalyst
from pds_nerfstudio.guidance.objectives.form import (
    SOURCE,
    SOURCE_UNPROMPTED,
    TARGET,
    TARGET_AS_SOURCE,
    TARGET_UNPROMPTED,
    Prediction,
    combine,
    linear,
    predictions_of,
    weight_table,
)
from pds_nerfstudio.guidance.objectives.lusd import Lusd
from pds_nerfstudio.guidance.objectives.pds import Pds, chi, psi
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES
from pds_nerfstudio.guidance.objectives.sds import Sds
from pds_nerfstudio.guidance.objectives.ssd import Ssd
from tests.guidance.analytic import stable_diffusion_schedule

SCHEDULE = stable_diffusion_schedule()
TIMES = torch.tensor([21, 101, 301, 501, 701, 979])

# Each objective as its paper writes it, over ε̂ of (latent, prompt): x for the target latent, s for the source's.
OBJECTIVES_HERE = {
    "pds": Pds(),
    "sds": Sds(),
    "dds": Dds(),
    "dreamcatalyst": DreamCatalyst(delta=0.05, gamma=0.2, psi0=0.1),
    "ssd": Ssd(trajectory=1.4, enhancement=3.0, psi0=0.2),
    "lusd": Lusd(identity=0.1, first_std=0.4, last_std=0.2),
}
STRIDE = 4
PAPERS: dict[str, Callable[[dict[str, float], float, float], tuple[float, float]]] = {
    "pds": lambda e, w, t: (
        float(chi(SCHEDULE, torch.tensor([int(t)]), 4))
        * ((e["x0"] + w * (e["xt"] - e["x0"])) - (e["s0"] + w * (e["ss"] - e["s0"]))),
        float(psi(SCHEDULE, torch.tensor([int(t)]), 4)),
    ),
    "sds": lambda e, w, t: (
        (1 - float(SCHEDULE.alphas_cumprod[int(t)])) * (e["x0"] + w * (e["xt"] - e["x0"]) - e["noise"]),
        0.0,
    ),
    "dds": lambda e, w, t: ((e["x0"] + w * (e["xt"] - e["x0"])) - (e["s0"] + w * (e["ss"] - e["s0"])), 0.0),
    "dreamcatalyst": lambda e, w, t: (
        (0.05 + 0.2 * (t / 1000) ** (1 / math.e))
        * ((e["x0"] + w * (e["xt"] - e["x0"])) - (e["s0"] + w * (e["ss"] - e["s0"]))),
        0.1 * math.exp(t / 1000),
    ),
    "ssd": lambda e, w, t: (
        0.5 * 1.4 * (e["xs"] - e["s0"]) + 0.5 * w * (e["xt"] - e["xs"]) + 3.0 * (e["xt"] - e["x0"]),
        0.2 * math.exp(t / 1000) * float(SCHEDULE.alphas_cumprod[int(t)]) ** 0.5,
    ),
    "lusd": lambda e, w, t: (0.9 * (e["xt"] - e["xs"]), 0.1),
}
PREDICTIONS = {
    TARGET: "xt",
    TARGET_AS_SOURCE: "xs",
    TARGET_UNPROMPTED: "x0",
    SOURCE: "ss",
    SOURCE_UNPROMPTED: "s0",
}


@pytest.mark.parametrize("scale", [1.0, 7.5, 100.0])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_the_formula_of_its_paper(name: str, scale: float) -> None:
    objective = OBJECTIVES_HERE[name]
    generator = torch.Generator().manual_seed(0)
    for t in TIMES.tolist():
        values = dict(zip([*PREDICTIONS.values(), "noise"], torch.randn(6, generator=generator).tolist(), strict=True))
        predictions = {key: torch.full((1, 1, 1, 1), values[e]).double() for key, e in PREDICTIONS.items()}
        noise = torch.full((1, 1, 1, 1), values["noise"]).double()
        times = torch.tensor([t])
        weight = objective.text_weight(SCHEDULE, times, STRIDE)
        text = weight * combine(objective.text(scale), predictions, noise)
        expected_text, expected_identity = PAPERS[name](values, scale, t)
        assert float(text) == pytest.approx(expected_text, rel=1e-6)
        assert float(objective.identity_weight(SCHEDULE, times, STRIDE)) == pytest.approx(expected_identity)


def test_published_parameters() -> None:
    assert DreamCatalyst() == DreamCatalyst(delta=0.2, gamma=0.8, psi0=0.075)
    assert Ssd() == Ssd(trajectory=2.0, enhancement=5.5, psi0=0.075)
    assert Lusd() == Lusd(identity=0.02, first_std=0.15, last_std=0.01)


@pytest.mark.parametrize(
    ("name", "scale", "asked"),
    [
        ("pds", 7.5, {TARGET, TARGET_UNPROMPTED, SOURCE, SOURCE_UNPROMPTED}),
        ("pds", 1.0, {TARGET, SOURCE}),
        ("sds", 7.5, {TARGET, TARGET_UNPROMPTED}),
        ("ssd", 7.5, {TARGET, TARGET_AS_SOURCE, TARGET_UNPROMPTED, SOURCE_UNPROMPTED}),
        ("lusd", 7.5, {TARGET, TARGET_AS_SOURCE}),
    ],
)
def test_no_prediction_is_asked_for_that_does_not_count(name: str, scale: float, asked: set[Prediction]) -> None:
    objective = OBJECTIVES_HERE[name]
    wanted = predictions_of(objective.text(scale), objective.contrast(scale) or {})
    assert set(wanted) == asked and len(wanted) == len(asked)


def test_latents_are_asked_in_turn() -> None:
    combination = linear((1.0, TARGET), (1.0, TARGET_UNPROMPTED), (1.0, SOURCE), (1.0, TARGET_AS_SOURCE))
    assert predictions_of(combination) == [TARGET, SOURCE, TARGET_UNPROMPTED, TARGET_AS_SOURCE]


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if kind().contrast(1.0)])
def test_contrast_vanishes_where_latents_and_prompts_agree(name: str) -> None:
    """With equal latents, predictions differ by their prompt alone; with equal prompts, by nothing."""
    contrast = OBJECTIVES_HERE[name].contrast(7.5)
    assert contrast is not None
    values = {"target": 0.4, "source": 0.4, "none": -1.0}
    predictions = {key: torch.full((1, 1, 1, 1), values[key.prompt]) for key in PREDICTIONS}
    total = combine(contrast, predictions, torch.ones(1, 1, 1, 1))
    assert total.abs().max() < 1e-5


def test_terms_of_one_prediction_are_added_up() -> None:
    combination = linear((2.0, TARGET), (-0.5, SOURCE), (1.0, TARGET), (0.5, SOURCE))
    assert combination == {TARGET: 3.0, SOURCE: 0.0} and predictions_of(combination) == [TARGET]


def test_std_of_lusd_falls_evenly() -> None:
    std = Lusd(first_std=0.4, last_std=0.2).std
    assert [std(p) for p in (-1.0, 0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.2])


def test_weight_table_is_looked_up_by_time() -> None:
    table = weight_table(Pds().identity_weight, SCHEDULE, STRIDE)
    assert table.shape == (1000,)
    torch.testing.assert_close(table[TIMES], psi(SCHEDULE, TIMES, 4))
    assert table[:4].isnan().all() and table[4:].isfinite().all()
