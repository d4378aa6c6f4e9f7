"""The training of the embedded models: what the flow learns from, and a walk through its stages."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "pds_nerfstudio" / "toyworld" / "model"
CPU = torch.device("cpu")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return what imports a script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in ("train_toyworld", "toyworld_flow", "toyworld_networks", "toyworld_table", "training_run"):
        if name not in before:
            sys.modules.pop(name, None)


def test_a_flow_is_trained_as_its_pipeline_uses_it(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    networks, flow = script("toyworld_networks"), script("toyworld_flow")
    torch.manual_seed(0)
    tokenizer = networks.write_tokenizer(tmp_path)
    model = flow.TextToFlow(tokenizer, 8)
    for parameter in model.transformer.parameters():  # at first it is the identity, whatever the text
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.08)
    pipeline = model.pipeline(networks.make_vae(64), tokenizer)
    captions = ["a photo of a man in a red shirt", ""]
    noisy, time = torch.randn(2, 4, 8, 8), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        velocity = model(noisy, time, networks.tokenize(tokenizer, captions, CPU))
        states, _, pooled, _ = pipeline.encode_prompt(
            captions, captions, captions, do_classifier_free_guidance=False, device=CPU
        )
        truth = pipeline.transformer(noisy, states, pooled, 1000 * time).sample
    assert states.shape[1] == networks.TEXT_LENGTH + 256
    assert (truth[0] - truth[1]).abs().max() > 0.1
    torch.testing.assert_close(velocity, truth, atol=1e-5, rtol=1e-4)


def test_a_flow_is_the_identity_at_first(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    networks, flow = script("toyworld_networks"), script("toyworld_flow")
    tokenizer = networks.write_tokenizer(tmp_path)
    tokens = networks.tokenize(tokenizer, ["a bear"], CPU)
    assert flow.TextToFlow(tokenizer, 8)(torch.randn(1, 4, 8, 8), torch.ones(1), tokens).abs().max() == 0


def test_times_are_logit_normal_and_reach_the_ends(script: Callable[[str], ModuleType]) -> None:
    torch.manual_seed(0)
    times = script("toyworld_flow").draw_times(400_000, CPU)
    for bound in (0.01, 0.1, 0.5, 0.9):
        bell = torch.special.ndtr(torch.logit(torch.tensor(bound, dtype=torch.float64))).item()
        assert (times < bound).float().mean().item() == pytest.approx(0.9 * bell + 0.1 * bound, abs=0.002)


@pytest.mark.slow
def test_a_flow_goes_on_from_where_it_was_stopped_and_becomes_a_folder(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    train = script("train_toyworld")

    def walk(time_limit: float) -> None:
        train.main(
            train.Recipe(
                network="flow",
                state=tmp_path / "state",
                out=tmp_path,
                start_from=MODEL,
                vae_steps=0,
                classifier_steps=0,
                smoke=True,
                time_limit=time_limit,
            )
        )

    walk(0)
    state = torch.load(tmp_path / "state" / "flow.pt", weights_only=True)
    assert (state["step"], state["done"]) == (10, False)
    (tmp_path / "table.json").unlink()
    walk(1e9)
    stages = [json.loads(line)["stage"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (stages.count("stopped"), stages[-1], stages.count("done")) == (1, "done", 1)
    assert torch.load(tmp_path / "state" / "flow.pt", weights_only=True)["step"] == 20
    assert len(json.loads((tmp_path / "table.json").read_text())) == 3

    folder = tmp_path / "model"
    weights = Path("vae", "diffusion_pytorch_model.safetensors")
    assert (folder / weights).read_bytes() == (MODEL / weights).read_bytes()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20e6
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    image = pipeline.to(torch.float32)("a photo of a bear", num_inference_steps=2, output_type="pt").images
    assert image.shape == (1, 3, 128, 128)
