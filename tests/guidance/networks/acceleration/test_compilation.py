"""Networks that are compiled, and the way back where they can't be."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.acceleration.compilation import CompiledNetwork
from tests.guidance.miniature import load_pipeline, needs_a_compiler, network_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "compiled"))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Leaves the code generator out, whose minutes no test has to spare, and collects the options asked for.

    Networks are traced whole, forward and backward, and the traces run.
    """
    asked: list[dict[str, Any]] = []
    usual = torch.compile

    def compile(function: Callable[..., Tensor], **options: Any) -> Any:
        asked.append(options)
        return usual(function, backend="aot_eager", dynamic=options["dynamic"], fullgraph=options["fullgraph"])

    monkeypatch.setattr(torch, "compile", compile)
    return asked


def small_network() -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 3)).requires_grad_(False)
    return lambda x: network(x)


@pytest.mark.slow
@needs_a_compiler
def test_generated_code_agrees_forward_and_backward(capsys: pytest.CaptureFixture[str]) -> None:
    function = small_network()
    network = CompiledNetwork(function, "network", CPU, differentiable=True)
    x, y = (torch.linspace(-1, 2, 20).reshape(4, 5).requires_grad_() for _ in range(2))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The .* can't be compiled")  # it was compiled, not done without
        result, expected = network(x), function(y)
    torch.testing.assert_close(result, expected)
    for output in (result, expected):
        output.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    said = capsys.readouterr().err
    assert "Compiling the network for 4 × 5" in said and "Compiled the network in" in said


def test_equal_inputs_have_equal_outputs_with_and_without_gradients(traced: Any) -> None:
    network = CompiledNetwork(small_network(), "network", CPU, differentiable=True)
    x = torch.rand(4, 5)
    with torch.no_grad():
        without = network(x)
    result = network(x.clone().requires_grad_())
    assert torch.equal(without, result) and result.requires_grad and not without.requires_grad


def test_each_size_is_compiled_once_and_said(traced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    network = CompiledNetwork(small_network(), "network", CPU)
    with torch.no_grad():
        for rows in (4, 6, 4, 6):
            network(torch.rand(rows, 5))
    said = capsys.readouterr().err
    assert said.count("Compiling") == 2 and "6 × 5" in said


@pytest.mark.parametrize("differentiable", [False, True])
def test_what_fails_to_compile_runs_as_it_is(monkeypatch: pytest.MonkeyPatch, differentiable: bool) -> None:
    tries: list[int] = []

    def failing(function: Callable[..., Tensor], **_: Any) -> Callable[..., Tensor]:
        def compiled(*inputs: Tensor) -> Tensor:
            tries.append(len(inputs))
            raise RuntimeError("no compiler here.\nA long story")

        return compiled

    monkeypatch.setattr(torch, "compile", failing)
    function = small_network()
    network = CompiledNetwork(function, "UNet", CPU, differentiable)
    x = torch.rand(4, 5, requires_grad=True)
    with pytest.warns(UserWarning, match=r"The UNet can't be compiled here \(no compiler here\).*'off'"):
        result = network(x)
    assert torch.equal(result, function(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(network(x), function(x))
    assert len(tries) == 1
    result.sum().backward()
    assert x.grad is not None and x.grad.any()


def test_a_backward_pass_that_fails_to_compile_is_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneWay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            raise RuntimeError("no way back")

    monkeypatch.setattr(torch, "compile", lambda function, **_: OneWay.apply)
    network = CompiledNetwork(lambda x: 2 * x, "network", CPU, differentiable=True)
    x = torch.rand(3, requires_grad=True)
    with pytest.warns(UserWarning, match="no way back"):
        network(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0, 2.0]


def test_one_size_that_fails_leaves_the_others_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_small(function: Callable[..., Tensor], **_: Any) -> Callable[..., Tensor]:
        def compiled(x: Tensor) -> Tensor:
            if len(x) > 4:
                raise RuntimeError("too large")
            return function(x) + 1  # to be told from the function itself

        return compiled

    monkeypatch.setattr(torch, "compile", only_small)
    network = CompiledNetwork(lambda x: x, "network", CPU)
    with pytest.warns(UserWarning, match="too large"):
        large = network(torch.zeros(5))
    assert not large.any() and network(torch.zeros(4)).all() and not network(torch.zeros(5)).any()


def test_compiled_code_is_kept_where_it_lasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, traced: Any) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    CompiledNetwork(small_network(), "network", CPU)
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(tmp_path)
    chosen = str(tmp_path / "chosen by the user")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", chosen)
    CompiledNetwork(small_network(), "network", CPU)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == chosen


@needs_a_compiler
def test_a_later_run_takes_it_from_there() -> None:
    from torch._dynamo.utils import counters

    function = small_network()
    x = torch.rand(7, 5)
    for _ in range(2):  # dynamo forgets all it has compiled, as a new process would
        torch._dynamo.reset()
        counters.clear()
        with torch.no_grad():
            CompiledNetwork(function, "network", CPU)(x)
    hits = counters["aot_autograd"]["autograd_cache_hit"] + counters["inductor"]["fxgraph_cache_hit"]
    assert hits > 0


def test_on_a_gpu_it_runs_as_cuda_graphs(traced: list[dict[str, Any]]) -> None:
    CompiledNetwork(small_network(), "network", torch.device("cuda"))
    assert traced[-1]["mode"] == "reduce-overhead"


@pytest.mark.usefixtures("unchecked")
def test_a_model_is_one_graph_and_agrees(model_folder: Path, denoiser: Denoiser, traced: Any) -> None:
    """The real architecture: a graph in pieces would be refused, and warn."""
    compiled = Denoiser.from_pretrained(str(model_folder), CPU, torch.float32, compiled=True)
    rng = torch.Generator().manual_seed(0)
    image, weight = torch.rand(1, 3, 32, 32, generator=rng), torch.randn(1, 4, 16, 16, generator=rng)
    x_t, t = torch.randn(4, 4, 16, 16, generator=rng), torch.tensor([20, 400, 700, 980])
    text = denoiser.encode_prompts(["a cat", "", "a dog", ""])
    results = []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The .* can't be compiled")
        for model in (denoiser, compiled):
            pixels = image.clone().requires_grad_()
            latent = model.encode_image(pixels)
            (gradient,) = torch.autograd.grad(latent, pixels, weight)
            results.append((latent.detach(), gradient, model.predict_noise(x_t, t, text)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_results_may_be_kept_and_agree(model_folder: Path) -> None:
    """CUDA graphs write every result to the same place."""
    gpu = torch.device("cuda")
    plain, compiled = (
        Denoiser.from_pretrained(str(model_folder), gpu, torch.float32, compiled=flag) for flag in (False, True)
    )
    rng = torch.Generator().manual_seed(0)
    text = plain.encode_prompts(["a cat", "", "a dog", ""])
    kept = []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The .* can't be compiled")
        for step in range(6):
            image = torch.rand(1, 3, 32, 32, generator=rng).to(gpu)
            x_t, t = torch.randn(4, 4, 16, 16, generator=rng).to(gpu), torch.tensor([20, 400, 700, 980], device=gpu)
            results = []
            for model in (plain, compiled):
                with torch.no_grad():
                    source = model.encode_image(image)
                pixels = image.clone().requires_grad_()
                latent = model.encode_image(pixels)
                noise = model.predict_noise(x_t + step * latent.detach().repeat(4, 1, 1, 1), t, text)
                (gradient,) = torch.autograd.grad((latent * noise[:1]).sum(), pixels)
                assert torch.equal(source, latent)
                results.append((source, latent.detach(), noise, gradient))
            kept.append(results)
    for results in kept:
        for one, other in zip(*results, strict=True):
            assert (one - other).norm() < 1e-2 * one.norm()


class TestAttention:
    """The layers as they are rearranged for speed, beside diffusers' own."""

    def test_the_vaes_forward_and_backward(self, model_folder: Path) -> None:
        vae = load_pipeline(model_folder).vae.double()
        image, weight = torch.rand(1, 3, 32, 32).double(), torch.randn(1, 4, 16, 16).double()
        results = []
        for explicit in (False, True):
            if explicit:
                ours = Denoiser.from_pretrained(str(model_folder), CPU, torch.float64)
                assert (
                    type(network_of(ours)._autoencoder.vae.encoder.mid_block.attentions[0].processor).__name__
                    == "AttnProcessor"
                )
                vae = network_of(ours)._autoencoder.vae
            pixels = image.clone().requires_grad_()
            latent = vae.encode(pixels).latent_dist.mode()
            (gradient,) = torch.autograd.grad(latent, pixels, weight)
            results.append((latent.detach(), gradient))
        for one, other in zip(*results, strict=True):
            # diffusers' explicit softmax runs in single precision, whatever the network does
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("folder", ["model_folder", "velocity_model_folder"])
    def test_the_unets(self, folder: str, request: pytest.FixtureRequest) -> None:
        path = request.getfixturevalue(folder)
        unet = load_pipeline(path).unet
        x_t, t = torch.randn(2, 4, 16, 16), torch.tensor([30, 600])
        ours = Denoiser.from_pretrained(str(path), CPU, torch.float32)
        text = ours.encode_prompts(["a cat", "a dog"])
        with torch.no_grad():
            torch.testing.assert_close(
                network_of(ours).predict(x_t, t, text), unet(x_t, t, text).sample, rtol=1e-4, atol=1e-5
            )

    def test_loading_uses_up_no_random_numbers(self, model_folder: Path) -> None:
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        Denoiser.from_pretrained(str(model_folder), CPU, torch.float32)
        assert torch.equal(torch.rand(1), expected)
