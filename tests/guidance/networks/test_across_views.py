"""Pictures of one scene that see each other's keys and values while the model looks at them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.across_views import KeyViews
from pds_nerfstudio.guidance.networks.loading import load_network
from pds_nerfstudio.guidance.networks.network import AttendsAcrossViews
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.redraw import RedrawConfig
from tests.guidance.miniature import network_of

PROMPTS = ["a cat", "a dog"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["sd", "sd merged", "sdxl", "embedded"])
def model(
    request: Any, model_folder: Path, tiny_model: Callable[[str], Path]
) -> tuple[Denoiser, Tensor, Callable[..., Tensor]]:
    """A denoiser, latents of four views, and what it sees in them with so many key views; 0 is each by itself."""
    folder = {"sdxl": "sdxl", "embedded": "toyworld"}.get(request.param)
    path = str(model_folder) if folder is None else folder if folder == "toyworld" else str(tiny_model(folder))
    merged = request.param == "sd merged"
    options = LoadOptions(torch.device("cpu"), torch.float32, torch.float32, False, merged=merged)
    denoiser = Denoiser(load_network(path, lambda half: options))
    latents, t = random(4, 4, 16, 16), torch.tensor([500] * 4)

    def seen(latents: Tensor, key_views: int, prompts: list[str] = PROMPTS) -> Tensor:
        views = len(latents)
        words = {"a cat": "a man", "a dog": "a robot"} if path == "toyworld" else {}
        condition = denoiser.encode_prompts([words.get(prompt, prompt) for prompt in prompts for _ in range(views)])
        if not key_views:
            return denoiser.predict_noise(latents, t[:views], condition)
        return denoiser.predict_noise_across(latents, t[:views], condition, views, key_views)

    return denoiser, latents, seen


def test_equal_views_are_seen_as_one_is_by_itself(model: Any) -> None:
    """Attention to several copies of the same keys and values is attention to one."""
    _, latents, seen = model
    same = latents[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(seen(same, 2), seen(same, 0), rtol=0, atol=2e-5)


def test_each_view_depends_on_itself_and_on_the_key_views_alone(model: Any) -> None:
    _, latents, seen = model
    before = seen(latents, 2, PROMPTS[:1])
    other = latents.clone()
    other[3] = random(4, 16, 16, seed=7)
    after = seen(other, 2, PROMPTS[:1])
    torch.testing.assert_close(after[:3], before[:3], rtol=0, atol=2e-5)
    other = latents.clone()
    other[1] = random(4, 16, 16, seed=7)
    after = seen(other, 2, PROMPTS[:1])
    assert all((after[k] - before[k]).abs().max() > 1e-4 for k in range(4)), "the second is a key view, which all see"
    assert (before - seen(latents, 0, PROMPTS[:1])).abs().max() > 1e-4


def test_prompts_do_not_see_each_other(model: Any) -> None:
    _, latents, seen = model
    together = seen(latents, 2)
    apart = torch.cat([seen(latents, 2, [prompt]) for prompt in PROMPTS])
    torch.testing.assert_close(together, apart, rtol=0, atol=2e-5)


def test_afterwards_the_network_is_what_it_was(model: Any) -> None:
    _, latents, seen = model
    before = seen(latents, 0)
    seen(latents, 3)
    assert torch.equal(seen(latents, 0), before)


def test_processors_come_back_after_an_error(denoiser: Denoiser) -> None:
    unet: Any = network_of(denoiser)._model
    before = [module.processor for module in unet.modules() if hasattr(module, "processor")]

    def fail() -> None:
        with KeyViews(unet, 2, 1):
            assert [module.processor for module in unet.modules() if hasattr(module, "processor")] != before
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert [module.processor for module in unet.modules() if hasattr(module, "processor")] == before


@pytest.mark.parametrize("kind", ["sd3", "flux_dev"])
def test_of_other_models_it_is_refused_by_the_name_of_the_option(kind: str, tiny_model: Callable[[str], Path]) -> None:
    options = LoadOptions(torch.device("cpu"), torch.float32, torch.float32, False)
    denoiser = Denoiser(load_network(str(tiny_model(kind)), lambda half: options))
    assert not isinstance(denoiser.network, AttendsAcrossViews)
    with pytest.raises(UserError, match="can't see other views: set key_views to 0"):
        denoiser.predict_noise_across(random(2, 4, 4, 4), torch.tensor([5, 5]), None, 2, 1)


class TestRedrawing:
    """Of a guidance, by FlowEdit."""

    flow = FlowEditConfig("flowedit", steps=3)

    def guidance(self, denoiser: Denoiser) -> Guidance:
        guidance = Guidance(GuidanceConfig(localize=1.0), denoiser)
        guidance.set_prompts(*PROMPTS)
        return guidance

    def test_lots_of_some_views_are_one_lot_of_all(self, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
        pictures = [random(1, 3, 32, 32, seed=k).sigmoid() for k in range(7)]
        drawn = []
        for at_once in (2, 100):
            monkeypatch.setattr("pds_nerfstudio.guidance.flow_edit._AT_ONCE", at_once)
            edit = self.guidance(denoiser).redraw_together(pictures, pictures, self.flow, list(range(7)), 2)
            drawn.append(edit.run())
        torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=1e-4)

    def test_one_view_is_redrawn_as_by_itself(self, denoiser: Denoiser) -> None:
        picture, one, other = random(1, 3, 32, 32).sigmoid(), self.guidance(denoiser), self.guidance(denoiser)
        alone = one.redraw(picture, picture, RedrawConfig(flow_edit=self.flow), keys=[0])
        latents = other.redraw_together([picture], [picture], self.flow, [0], 1).run()
        torch.testing.assert_close(other.finish_redrawing(latents, picture, [0]), alone, rtol=0, atol=1e-4)

    def test_where_attention_localizes_it_is_refused(self, denoiser: Denoiser) -> None:
        guidance = Guidance(GuidanceConfig(localize=1.0, localize_by="attention"), denoiser)
        guidance.set_prompts(*PROMPTS)
        picture = random(1, 3, 32, 32).sigmoid()
        with pytest.raises(UserError, match="set localize_by to difference"):
            guidance.redraw_together([picture], [picture], self.flow, [0], 1)
