"""What comes before the first cross-attention, computed once for several prompts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.acceleration.sharing import SharedStart
from tests.guidance.miniature import load_pipeline, needs_a_compiler, save_pipeline

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def late_text_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose first block doesn't see the prompt, as small Stable Diffusions have it."""
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return save_pipeline(tmp_path_factory.mktemp("models") / "late", {}, blocks)


@pytest.fixture(scope="session")
def cross_attention_only_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose attentions all see the prompt."""
    return save_pipeline(tmp_path_factory.mktemp("models") / "cross", {}, {"only_cross_attention": True})


FOLDERS = ("model_folder", "velocity_model_folder", "late_text_model_folder", "cross_attention_only_model_folder")


def questions(prompts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two latents, their times, and texts for each."""
    rng = torch.Generator().manual_seed(3)
    x_t, text = (torch.randn(*shape, generator=rng).double() for shape in ((2, 4, 16, 16), (2 * prompts, 5, 16)))
    return x_t, torch.tensor([30, 700]), text


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_predictions_are_those_of_each_prompt_alone(folder: str, prompts: int, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(folder)
    denoiser = Denoiser.from_pretrained(str(path), CPU, torch.float64)
    x_t, t, text = questions(prompts)
    unet = load_pipeline(path).unet.double().eval()
    with torch.no_grad():
        each = [unet(x_t, t, encoder_hidden_states=some).sample for some in text.split(2)]
    if denoiser.network.parametrization == "velocity":
        alpha_bar = denoiser.levels.alphas_cumprod[t][:, None, None, None]
        each = [alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * x_t for v in each]
    expected = torch.cat(each)
    torch.testing.assert_close(denoiser.predict_noise(x_t, t, text), expected)
    torch.testing.assert_close(denoiser.predict_noise_differentiably(x_t, t, text), expected)
    if "only" in folder:  # its self-attention, which shows where words act, is none
        return
    noted, _ = denoiser.predict_noise_and_attention(x_t, t, text, torch.ones(2 * prompts, 5, dtype=torch.bool))
    torch.testing.assert_close(noted, expected)


@pytest.mark.parametrize(
    ("folder", "layers", "attentions"),
    [("model_folder", 1, 1), ("late_text_model_folder", 3, 1), ("cross_attention_only_model_folder", 1, 0)],
)
def test_what_no_prompt_reaches_is_computed_once(
    folder: str, layers: int, attentions: int, request: pytest.FixtureRequest
) -> None:
    """The first residual block and self-attention, and all of a block that has no attention."""
    unet: Any = load_pipeline(request.getfixturevalue(folder)).unet.eval()
    once: list[str] = []

    def note(module: nn.Module, inputs: tuple, output: Any) -> None:
        x = inputs[0]
        if len(x) == 2:  # of the four elements of the batch
            once.append(type(module).__name__)

    for module in unet.modules():
        if type(module).__name__ in ("ResnetBlock2D", "Downsample2D"):
            module.register_forward_hook(note)
        if type(module).__name__ == "Attention":
            module.to_out[0].register_forward_hook(note)
    start = SharedStart(unet)
    x_t, t, text = questions(2)
    x_t, t, text = x_t.float().repeat(2, 1, 1, 1), t.repeat(2), text.float()
    with torch.no_grad():
        before = unet(x_t, t, encoder_hidden_states=text).sample
        assert not once
        start.prompts = 2
        torch.testing.assert_close(unet(x_t, t, encoder_hidden_states=text).sample, before)
    assert once.count("Linear") == attentions and len(once) - attentions == layers


def test_gradients_are_those_of_each_prompt_alone(model_folder: Path) -> None:
    denoiser = Denoiser.from_pretrained(str(model_folder), CPU, torch.float64)
    x_t, t, text = questions(2)
    weight = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(5)).double()

    def gradient(texts: list[Tensor]) -> Tensor:
        x = x_t.clone().requires_grad_()
        noise = torch.cat([denoiser.predict_noise_differentiably(x, t, some) for some in texts])
        return torch.autograd.grad((noise * weight).sum(), x)[0]

    torch.testing.assert_close(gradient([text]), gradient(list(text.split(2))))


@pytest.mark.usefixtures("unchecked")
@needs_a_compiler
def test_compiled_it_agrees_for_every_number_of_prompts(model_folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    plain, compiled = (
        Denoiser.from_pretrained(str(model_folder), CPU, torch.float32, compiled=flag) for flag in (False, True)
    )
    for prompts in (2, 1, 2):
        x_t, t, text = questions(prompts)
        one, other = (model.predict_noise(x_t.float(), t, text.float()) for model in (plain, compiled))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not [w for w in recwarn if "can't be compiled" in str(w.message)]
