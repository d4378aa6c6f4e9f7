"""docs/extending.md: what it shows runs, and does what it says."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pds_nerfstudio import Guidance, GuidanceConfig
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.benchmark import Benchmark, run
from pds_nerfstudio.evaluation.metrics import by_own_measures
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.card import card_of_folder
from pds_nerfstudio.guidance.networks.loading import Architecture
from pds_nerfstudio.guidance.networks.network import AttendsToWords, Network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.objectives import make_objective
from tests.guidance.analytic import mixture_denoiser, stable_diffusion_schedule
from tests.guidance.miniature import save_aura_flow

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def module_of(heading: str, name: str) -> ModuleType:
    """The first Python block below a heading of the page, as a module."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    block = re.search(r"^```python\n(.*?)^```", section, re.M | re.S)
    assert block is not None
    module = ModuleType(name)
    exec(compile(block[1], f"{PAGE.name}: {heading}", "exec"), module.__dict__)
    return module


@pytest.fixture
def objectives(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of("A new objective", "my_package_anchored")
    monkeypatch.setitem(sys.modules, "my_package_anchored", module)
    return module


def test_the_objective_edits_by_its_formula(objectives: ModuleType) -> None:
    text = "my_package_anchored:Anchored,strength=0.2"
    assert make_objective(text) == objectives.Anchored(strength=0.2)
    denoiser, _ = mixture_denoiser({"": [[0.3, 0.1]], "one": [[-1.0, 0.0]], "two": [[1.0, 2.0]]}, std=0.5)
    z, source, noise = torch.randn(3, 2, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor([30, 600])
    terms = {}
    for objective in (text, "dds"):
        guidance = Guidance(GuidanceConfig(objective=objective), denoiser)
        guidance.set_prompts("one", "two")
        terms[objective] = guidance.gradient_terms(z, source, t, noise)
    torch.testing.assert_close(terms[text].text, terms["dds"].text)
    torch.testing.assert_close(terms[text].identity, 0.2 * (z - source))
    assert objectives.Anchored().identity_weight(stable_diffusion_schedule(), t, 2).tolist() == [0.1, 0.1]


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of("A new score", "my_package_sharpness")
    monkeypatch.setitem(sys.modules, "my_package_sharpness", module)
    return module


def test_the_score_knows_blur_inside_and_outside(measures: ModuleType) -> None:
    rng = torch.Generator().manual_seed(0)
    before, change = torch.rand(2, 3, 32, 32, generator=rng), torch.rand(2, 3, 32, 32, generator=rng)
    left = torch.arange(32) < 12
    truth = torch.where(left, change, before)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(truth, (1, 1, 1, 1), mode="replicate"), 3, 1)
    edited = torch.where(torch.arange(32) < 20, blurred, before)  # the edit, blurred, and some pixels beside it
    path = "my_package_sharpness:sharpness"
    assert by_own_measures([path], before, truth, truth)["sharpness_true"] == pytest.approx(100)
    scores = by_own_measures([path], before, truth, edited)
    assert set(scores) == {f"sharpness_{place}" for place in ("true", "source", "inside", "outside")}
    assert scores["sharpness_inside"] < 30 < scores["sharpness_true"] < scores["sharpness_outside"] < 90


@pytest.mark.parametrize("path", ["nowhere_at_all:mine", "math:pi", "math"])
def test_what_is_no_score_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(UserError, match=f"The measure '{path}' .*: give module:function") as error:
        by_own_measures([path], *(torch.rand(1, 3, 8, 8) for _ in range(3)))
    assert "\n" not in str(error.value)


def test_the_benchmark_scores_by_it(measures: ModuleType, tmp_path: Path) -> None:
    run(
        Benchmark(
            variants=("pds,steps=1,refine=0",),
            cases=1,
            pairs=0,
            size=64,
            device="cpu",
            out=tmp_path,
            measures=("my_package_sharpness:sharpness",),
        )
    )
    (row,) = (json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines())
    assert 0 < row["scores"]["sharpness_outside"] < 200


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page's network, of random weights."""
    folder = save_aura_flow(tmp_path_factory.mktemp("models") / "aura_flow")
    kind = module_of("A new network", "my_package_aura_flow").AuraFlow
    assert isinstance(kind, Architecture)
    return kind.load(card_of_folder(folder), LoadOptions(torch.device("cpu"), torch.float32, torch.float32))


def test_the_network_is_one(network: Any) -> None:
    assert isinstance(network, Network) and not isinstance(network, AttendsToWords)


def test_one_call_of_the_network_is_one_step_of_the_pipelines_sampler(network: Any) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipeline = network._pipeline
    side = network.resolution // network.vae_scale_factor
    z = torch.randn(1, network.latent_channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        velocity = network.predict(z, torch.tensor([0.7]), network.condition(["a cat"]))
        before, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler()
        pipeline.set_progress_bar_config(disable=True)
        size = network.resolution
        call = dict(height=size, width=size, num_inference_steps=1, sigmas=[0.7], guidance_scale=0.0)
        stepped = pipeline("a cat", latents=z.clone(), output_type="latent", **call).images
        pipeline.scheduler = before
    torch.testing.assert_close(stepped, z - 0.7 * velocity, rtol=0, atol=1e-5)


@pytest.mark.parametrize("objective", ["pds", "ssd", "lusd"])
def test_the_network_edits(network: Any, objective: str) -> None:
    guidance = Guidance(GuidanceConfig(objective=objective, localize=1.0, fixed_point_steps=1), Denoiser(network))
    guidance.set_prompts("a cat", "a dog")
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    gradient, output = guidance.image_gradient(images, images.flip(3), 0.5, keys=["a", "b"])
    assert bool(output.finite) and gradient.shape == images.shape and gradient.abs().max() > 0
    again = Guidance(guidance.config, guidance.denoiser)
    again.set_prompts("a cat", "a dog")
    assert torch.equal(again.image_gradient(images, images.flip(3), 0.5, keys=["a", "b"])[0], gradient)
