"""The scripts that measure speed: what they measure, not how fast it is."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pds_nerfstudio.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"
CPU = torch.device("cpu")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return what imports a script by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in ("random_models", "speed_guidance", "speed_options", "speed_timing", "speed_viewer"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("architecture", "unet", "text_encoder"), [("sd15", 859_520_964, 123_060_480), ("sd21", 865_910_724, 340_387_840)]
)
def test_architectures_have_as_many_numbers_as_the_published_models(
    script: Callable[[str], ModuleType], architecture: str, unet: int, text_encoder: int
) -> None:
    with torch.device("meta"):
        pipeline = script("random_models").random_pipeline(architecture)
    for part, count in ((pipeline.unet, unet), (pipeline.text_encoder, text_encoder), (pipeline.vae, 83_653_863)):
        assert sum(parameter.numel() for parameter in part.parameters()) == count


def test_a_timeline_tells_parts_apart(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    timing = script("speed_timing")
    clock = iter([0.0, 1.0, 1.5, 10.0, 10.2, 10.7, 11.0, 11.2, 11.7, 12.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    timeline = timing.Timeline(CPU)
    for _ in range(3):
        timeline.begin()
        timeline.mark("render")
        timeline.mark("backward")
    timeline.begin()
    medians = timeline.medians(warm_up=1)
    assert medians == pytest.approx({"render": 200, "backward": 500, "between steps": 300, "step": 1000})


def test_the_table_of_a_step(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    speed = script("speed_guidance").GuidanceSpeed(
        models=("toyworld",), variants=("published", "float32"), size=64, steps=2, warm_up=1, device="cpu", out=out
    )
    speed.run()
    published, ours = json.loads(out.read_text())["measurements"]
    assert published["speedup"] == 1
    assert ours["speedup"] == published["step"] / ours["step"]
    # ours encodes the source once and not at each step; UNet and backward pass are the same
    assert 0.5 * published["tflop"] < ours["tflop"] < published["tflop"]
    assert ours["encode"] > 0
    assert ours["unet"] > 0


def test_the_table_of_options(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    module = script("speed_options")
    variants = ("pds", "pds,samples=2", "lusd")
    module.main(module.OptionsSpeed(variants, steps=2, warm_up=0, device="cpu", out=out))
    times = json.loads(out.read_text())["milliseconds"]
    assert list(times) == [*variants, "a redrawing"]
    assert min(times.values()) > 0
    with pytest.raises(UserError, match="no option steps"):
        module.main(module.OptionsSpeed(("pds,steps=3",), device="cpu", out=out))


def test_the_published_step_follows_the_same_gradient(script: Callable[[str], ModuleType]) -> None:
    """The baseline is an edit step too: where source and image agree in latent and prompt, there is nothing to do."""
    step = script("speed_guidance").PublishedStep("toyworld", CPU)
    image = torch.rand(1, 3, 64, 64).requires_grad_()
    source = torch.rand(1, 3, 64, 64)
    gradient = step(image, source)
    assert gradient.shape == image.shape
    assert gradient.abs().max() > 0
    step._text = step._text[2:].repeat(2, 1, 1)
    step._encode = lambda picture: step._vae.encode(picture * 2 - 1).latent_dist.mode()
    assert step(image, image.detach()).abs().max() < 1e-4 * gradient.abs().max()


def test_steps_count_as_watched_once_every_browser_has_a_sharp_picture(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("speed_viewer")

    class Watcher:
        first, first_sharp, ended = 0.1, None, False
        closed = 0

        def __init__(self, url: str) -> None:
            assert url == "ws://x"

        def close(self) -> None:
            Watcher.closed += 1

    clock = iter(range(10_000))
    monkeypatch.setattr(module, "Watcher", Watcher)
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(module.time, name, lambda: float(next(clock)))
    phases, turn = module.Phases("ws://x", 2), module.SETTLING + module.PHASE
    for step in range(turn + 100):  # no picture is sharp yet
        phases.before_step(step)
    assert [len(seconds) for seconds in phases.seconds] == [module.PHASE, 0]
    monkeypatch.setattr(Watcher, "first_sharp", 1.5)
    for step in range(2 * turn):
        phases.before_step(step)
    assert [len(seconds) for seconds in phases.seconds] == [module.PHASE] * 3 + [0]
    assert phases.ratios == [[1.0, 1.0]] and Watcher.closed == 2 and phases.firsts == [(0.1, 1.5)] * 2
