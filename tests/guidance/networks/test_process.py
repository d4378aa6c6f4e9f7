"""What a model predicts and the noise that it knows, as its files say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.process import read_process, refuse_consistency_model, takes_few_steps
from pds_nerfstudio.guidance.parametrization import Parametrization


def scheduler(name: str, **options: Any) -> Any:
    import diffusers

    return getattr(diffusers, name)(**options)


@pytest.mark.parametrize(
    ("name", "options", "parametrization"),
    [
        ("PNDMScheduler", {}, "noise"),
        ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}, "velocity"),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "flow"),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "flow"),
        ("FlowMatchHeunDiscreteScheduler", {}, "flow"),
    ],
)
def test_it_is_read_from_the_scheduler(name: str, options: dict[str, Any], parametrization: Parametrization) -> None:
    predicts, schedule = read_process(scheduler(name, **options))
    assert predicts == parametrization
    flow_in_the_middle = schedule.alphas_cumprod[499:501].mean() == pytest.approx(0.5, abs=1e-3)
    assert schedule.num_steps == 1000 and flow_in_the_middle == (parametrization == "flow")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("DDIMScheduler", {"prediction_type": "sample"}, "DDIMScheduler says that it predicts 'sample'"),
        ("EDMEulerScheduler", {}, "EDMEulerScheduler has no noise schedule"),
        ("IPNDMScheduler", {}, "IPNDMScheduler has no noise schedule"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "set prediction_type .* or use_flow_sigmas"),
    ],
)
def test_what_it_does_not_tell_is_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_process(scheduler(name, **options))


def test_models_of_few_steps_are_known_by_their_scheduler() -> None:
    trailing = {"timestep_spacing": "trailing"}
    assert takes_few_steps(scheduler("EulerDiscreteScheduler", **trailing))
    assert not takes_few_steps(scheduler("EulerDiscreteScheduler"))
    assert not takes_few_steps(scheduler("EulerDiscreteScheduler", rescale_betas_zero_snr=True, **trailing))


def test_consistency_models_are_refused() -> None:
    refuse_consistency_model({"time_cond_proj_dim": None}, "someone/model")
    with pytest.raises(UserError, match="'someone/model' is a latent consistency model"):
        refuse_consistency_model({"time_cond_proj_dim": 256}, "someone/model")


def test_a_unet_that_predicts_a_flow_sees_what_its_sampler_sees(tiny_model: Callable[[str], Path]) -> None:
    from diffusers import StableDiffusionPipeline

    folder = tiny_model("sd15_flow_euler")
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder)
    denoiser = Denoiser.from_pretrained(str(folder), "cpu", torch.float32)
    x_t, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([300])
    signal, spread = denoiser.levels.signal(t), denoiser.levels.noise(t)
    tau, latent = float(denoiser.levels.flow_time(t)), x_t / (signal + spread)

    pipeline.scheduler.set_timesteps(sigmas=[tau])
    (time,) = pipeline.scheduler.timesteps
    with torch.no_grad():
        text = pipeline.encode_prompt("a man", "cpu", 1, False)[0]
        velocity = pipeline.unet(latent, time, encoder_hidden_states=text).sample
    clean = pipeline.scheduler.step(velocity, time, latent).prev_sample  # its one step takes all the noise off

    noise = denoiser.predict_noise(x_t, t, denoiser.encode_prompts(["a man"]))
    torch.testing.assert_close((x_t - spread * noise) / signal, clean)
