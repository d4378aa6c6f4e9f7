"""Drafts of edits, which nothing else depends on."""

import torch

from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.guidance import Guidance

TWO_STEPS = FlowEditConfig(method="flowedit", steps=2)


def test_a_draft_is_the_flow_edit_of_the_picture_under_the_words(denoiser: Denoiser) -> None:
    image = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    other, same = Guidance(GuidanceConfig(), denoiser), Guidance(GuidanceConfig(seed=4), denoiser)
    other.set_prompts("a cup", "a jug")
    before, state = other.draw_timesteps(3, 0.2), other.state_dict()
    drawn = other.draft(image, "a cat", "a dog", TWO_STEPS, seed=4)
    assert drawn.shape == image.shape
    assert 0 <= drawn.min() and drawn.max() <= 1
    same.set_prompts("a cat", "a dog")
    side = same.config.resolution or denoiser.resolution
    assert side == denoiser.resolution
    source = same._encode(image)
    expected = denoiser.decode_latents(same.flow_edit(source, TWO_STEPS).run())
    expected = torch.nn.functional.interpolate(expected, image.shape[-2:], mode="bilinear", antialias=True)
    assert (drawn - expected.clamp(0, 1)).abs().mean() < 0.02  # but for how it is brought to its size
    assert torch.equal(drawn, other.draft(image, "a cat", "a dog", TWO_STEPS, seed=4))
    assert not torch.equal(drawn, other.draft(image, "a cat", "a dog", TWO_STEPS, seed=5))
    assert not torch.equal(drawn, other.draft(image, "a cat", "a cow", TWO_STEPS, seed=4))
    assert other.prompts == (["a cup"], ["a jug"])
    again = Guidance(GuidanceConfig(), denoiser)
    again.set_prompts("a cup", "a jug")
    assert torch.equal(again.draw_timesteps(3, 0.2), before)
    assert torch.equal(again.draw_timesteps(3, 0.2), other.draw_timesteps(3, 0.2))
    assert state.keys() == other.state_dict().keys()
