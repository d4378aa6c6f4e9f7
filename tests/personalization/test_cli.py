"""pds-personalize, from pictures to a file that an edit takes."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.networks.loading import find_card, load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.personalization import cli, training
from pds_nerfstudio.personalization.cli import Personalize
from pds_nerfstudio.personalization.pictures import find_pictures, latents_of
from pds_nerfstudio.personalization.training import answer_loss
from pds_nerfstudio.runs import load_config
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes

Folders = Callable[[str], Path]


@pytest.fixture
def order(pictures: Path, tiny_model: Folders, tmp_path: Path) -> Personalize:
    """A short training of a tiny model."""
    return Personalize(
        data=pictures,
        subject="old man",
        model=str(tiny_model("sd15")),
        steps=3,
        rank=2,
        prior_pictures=2,
        prior_steps=2,
        device="cpu",
        output_dir=tmp_path / "out",
    )


def test_a_folder_of_results_is_left(order: Personalize) -> None:
    file = cli.run(order)
    folder = order.output_dir / "sks-old-man"
    assert file == folder / "lora.safetensors" and file.stat().st_size > 0
    assert {path.name for path in folder.iterdir()} == {
        "lora.safetensors",
        "prompts.txt",
        "prior",
        "seen",
        "metrics.json",
        "config.json",
    }
    assert load_config(Personalize, folder / "config.json") == order
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["complete"] and [step["step"] for step in summary["steps"]] == [1, 2, 3]
    assert all(step["subject"] > 0 and step["prior"] > 0 for step in summary["steps"])


def test_the_prior_can_be_looked_at(order: Personalize) -> None:
    folder = cli.run(order).parent
    names = sorted(path.name for path in (folder / "prior").iterdir())
    assert names == ["0001.png", "0002.png"]
    one, other = (np.asarray(Image.open(folder / "prior" / name)) for name in names)
    assert one.shape == (64, 64, 3) and (one != other).any()


def test_what_the_model_sees_of_the_pictures_can_be_looked_at(order: Personalize) -> None:
    folder = cli.run(order).parent / "seen"
    denoiser = cli.load(order, find_card(order.model))
    for number, latent in enumerate(latents_of(find_pictures(order.data), denoiser, denoiser.resolution), start=1):
        shown = (denoiser.decode_latents(latent)[0].permute(1, 2, 0) * 255).round().numpy()
        assert np.abs(np.asarray(Image.open(folder / f"{number:04d}.png")) - shown).max() <= 1
    assert len(list(folder.iterdir())) == 3


def test_without_a_prior_there_is_only_the_subject(order: Personalize) -> None:
    order.prior_pictures = 0
    folder = cli.run(order).parent
    assert not (folder / "prior").exists()
    assert "prior" not in json.loads((folder / "metrics.json").read_text())["steps"][0]


def test_prompts_name_the_subject_by_its_token(order: Personalize) -> None:
    text = (cli.run(order).parent / "prompts.txt").read_text()
    assert "source prompt: a photo of sks old man\n" in text
    assert f"--guidance.lora {order.output_dir / 'sks-old-man' / 'lora.safetensors'}" in text
    assert order.kind_prompt == "a photo of an old man"


def test_a_training_never_writes_over_another(order: Personalize) -> None:
    first = cli.run(order)
    before = first.read_bytes()
    order.seed = 1
    second = cli.run(order)
    assert second.parent.name == "sks-old-man-2"
    assert first.read_bytes() == before != second.read_bytes()


def test_the_same_order_leaves_the_same_file(order: Personalize) -> None:
    assert cli.run(order).read_bytes() == cli.run(order).read_bytes()


def test_ctrl_c_leaves_what_was_learnt_so_far(order: Personalize, monkeypatch: pytest.MonkeyPatch) -> None:
    step = cli.DreamBooth.step

    def interrupted(self: cli.DreamBooth) -> object:
        if self.done == 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(cli.DreamBooth, "step", interrupted)
    file = cli.run(order)
    summary = json.loads((file.parent / "metrics.json").read_text())
    assert file.is_file() and not summary["complete"] and len(summary["steps"]) == 2


@pytest.fixture
def whole(order: Personalize) -> bytes:
    """The LoRA of a training that nothing interrupts."""
    order.steps, order.save_every = 5, 2
    return cli.run(order).read_bytes()


@pytest.mark.parametrize("moved", [False, True])
def test_a_training_that_is_killed_goes_on_from_its_last_state_to_the_same_bits(
    order: Personalize, whole: bytes, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(monkeypatch, after_losses=7)  # in the fourth step; the state is of the second
    with pytest.raises(Killed):
        cli.run(order)
    monkeypatch.undo()
    folder = order.output_dir / "sks-old-man-2"
    assert not (folder / "metrics.json").exists()
    if moved:  # what was shown to the model is in the state
        order.data.rename(order.data.with_name("elsewhere"))
        folder = folder.rename(folder.with_name("moved"))
    file = cli.resume(folder)
    assert file == folder / "lora.safetensors" and file.read_bytes() == whole
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["complete"] and [step["step"] for step in summary["steps"]] == [1, 2, 3, 4, 5]
    assert not [path for path in folder.iterdir() if "unfinished" in path.name]


@pytest.mark.parametrize("losses", [0, 3, 6])  # before the first, in the middle of a step, between steps
def test_ctrl_c_leaves_what_a_resumed_training_goes_on_from_to_the_same_bits(
    order: Personalize, whole: bytes, losses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(monkeypatch, after_losses=losses, by=KeyboardInterrupt)
    folder = cli.run(order).parent
    monkeypatch.undo()
    assert len(json.loads((folder / "metrics.json").read_text())["steps"]) == losses // 2
    assert cli.resume(folder).read_bytes() == whole


class Killed(BaseException):
    """Nothing is done after it."""


def kill(monkeypatch: pytest.MonkeyPatch, after_losses: int, by: type[BaseException] = Killed) -> None:
    """End a training when that many losses are computed and the noise of the next one is drawn."""
    loss, computed = training.answer_loss, list[int]()

    def counted(*args: Any) -> torch.Tensor:
        if len(computed) == after_losses:
            raise by
        computed.append(1)
        return loss(*args)

    monkeypatch.setattr(training, "answer_loss", counted)


def test_there_must_be_something_to_go_on_from(order: Personalize, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cli.run(order).parent
    with pytest.raises(UserError, match=r"holds no training to go on with .*--repeat"):
        cli.resume(folder)
    (folder / "unfinished.pt").write_bytes(b"PK")
    monkeypatch.setattr(sys, "argv", ["pds-personalize", "--resume", str(folder)])
    with pytest.raises(SystemExit, match=r"unfinished\.pt is damaged: begin again with --repeat") as error:
        cli.main()
    assert "\n" not in str(error.value)


def test_the_command_says_how_to_edit(
    order: Personalize, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--data {order.data} --subject man --model {order.model} --steps 1 --prior-pictures 0 --device cpu"
    monkeypatch.setattr(sys, "argv", ["pds-personalize", *words.split(), "--output-dir", str(order.output_dir)])
    cli.main()
    said = capsys.readouterr().out
    assert "lora.safetensors (and prompts.txt beside it)" in said and "source prompt: a photo of sks man" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": Path("nowhere")}, "nowhere: there is no such picture or folder; give --data"),
        ({"model": "nowhere"}, "There is no model folder or file 'nowhere'"),
        ({"model": "pixart_sigma"}, "which no LoRA can be saved for: choose"),
        ({"model": "sd_ip2p"}, "looks at a source picture, .*: choose a text-to-image model"),
        ({"model": "sd_upscaler"}, "which there is no network for: choose"),
        ({"subject": " "}, "subject is empty: give --subject a word"),
        ({"prompt": "a photo of a man"}, "prompt lacks the token 'sks'"),
        ({"steps": 0}, "steps is 0: give at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: give a finite number above 0"),
        ({"prior_pictures": -1}, "prior_pictures is -1: give 0 or more"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_before_a_folder_is_made(
    order: Personalize, tiny_model: Folders, changes: dict, says: str
) -> None:
    if changes.get("model") in ("pixart_sigma", "sd_ip2p", "sd_upscaler"):
        changes = {"model": str(tiny_model(changes["model"]))}
    for name, value in changes.items():
        setattr(order, name, value)
    with pytest.raises(UserError, match=says) as error:
        cli.run(order)
    assert "\n" not in str(error.value)
    assert not order.output_dir.exists()


def test_a_folder_for_results_that_is_a_file_is_refused(order: Personalize) -> None:
    order.output_dir.write_text("")
    with pytest.raises(UserError, match=r"out.*give another --output-dir"):
        cli.run(order)


@pytest.mark.parametrize("model", ["toyworld", "toyworld-flow"])
def test_an_embedded_model_learns_a_scene(model: str, tmp_path: Path) -> None:
    thing = Attributes()
    list(write_scene(tmp_path / "scene", thing, thing, views=3))
    order = Personalize(
        data=tmp_path / "scene",
        subject="man",
        model=model,
        steps=40,
        learning_rate=3e-4,
        samples=2,
        prior_pictures=0,
        device="cpu",
        output_dir=tmp_path / "out",
    )
    file = cli.run(order)
    assert loss_of(order, (str(file),)) < 0.98 * loss_of(order, ())


def loss_of(order: Personalize, loras: tuple[str, ...]) -> float:
    """How wrong the embedded model is about the pictures, averaged over times."""
    options = LoadOptions(torch.device("cpu"), torch.float32, torch.float32, loras=loras)
    denoiser = Denoiser(load_network(order.model, lambda half: options))
    x = torch.cat(list(latents_of(find_pictures(order.data), denoiser, denoiser.resolution))).repeat(8, 1, 1, 1)
    t = denoiser.schedule.reference_times[torch.linspace(50, 950, len(x)).long()]
    noise = Draws(7, denoiser.device).noise(x)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The model was never shown these words .*sks")
        condition = denoiser.encode_prompts([order.subject_prompt] * len(x))
        return float(answer_loss(denoiser, x, condition, noise, t))
