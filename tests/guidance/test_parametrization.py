"""Networks that say noise, a velocity or a flow's velocity, of one and the same model, mean the same."""

import pytest
import torch

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.parametrization import Parametrization, as_noise, right_answer
from pds_nerfstudio.guidance.schedule import Schedule
from tests.guidance.analytic import mixture_denoiser

COMPONENTS = {"": [[0.3, 0.1], [0.0, 0.2]], "one": [[-1.0, 0.0], [-1.0, 1.0]], "two": [[1.0, 2.0], [1.0, -2.0]]}


@pytest.mark.parametrize("kind", ["velocity", "flow"])
def test_predictions_mean_the_same_noise(kind: Parametrization) -> None:
    schedule = Schedule.rectified_flow(1000, 3.0)
    x_t, t = torch.randn(3, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([3, 500, 990])
    answers = []
    for parametrization in ("noise", kind):
        denoiser, _ = mixture_denoiser(COMPONENTS, 0.5, parametrization=parametrization, schedule=schedule)
        answers.append(denoiser.predict_noise(x_t, t, denoiser.encode_prompts(["one", "two", None] * 2)))
    torch.testing.assert_close(answers[1], answers[0])
    assert answers[0].shape == (6, 2, 1, 1)


@pytest.mark.parametrize("objective", ["pds", "sds", "dds", "dreamcatalyst", "ssd", "lusd"])
def test_every_objective_takes_a_flow_as_it_takes_a_diffusion(objective: str) -> None:
    schedule = Schedule.rectified_flow(1000)
    z, source = torch.randn(2, 3, 2, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    gradients = []
    for parametrization in ("noise", "flow"):
        denoiser, _ = mixture_denoiser(COMPONENTS, 0.5, parametrization=parametrization, schedule=schedule)
        guidance = Guidance(GuidanceConfig(objective=objective, fixed_point_steps=1), denoiser)
        guidance.set_prompts("one", "two")
        gradients.append(guidance.latent_loss(z, source, 0.5).grad)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("kind", ["noise", "velocity", "flow"])
def test_the_right_answer_means_the_noise_that_was_added(kind: Parametrization) -> None:
    x, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    levels = Schedule.rectified_flow(1000, 3.0).levels(torch.device("cpu"), torch.float64)
    t = torch.tensor([3, 500, 990])
    x_t = levels.signal(t) * x + levels.noise(t) * noise
    torch.testing.assert_close(as_noise(kind, right_answer(kind, x, noise, t, levels), x_t, t, levels), noise)
