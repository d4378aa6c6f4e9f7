"""What Qwen-Image-Edit's text encoder is asked, and what is remembered of its answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.guidance.networks import qwen_image
from tests.guidance.networks.test_architectures import CPU, load

PROMPTS = ["a clown", "", None]


class Watched:
    """A Qwen-Image-Edit that notes what its text encoder is asked, and when it visits the device."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.network: Any = load(folder)
        self.asked: list[str] = []
        self.visits = 0
        encode, visit = self.network._pipeline.encode_prompt, self.network._text_encoders

        def encoded(prompt: str, **given: Any) -> Any:
            self.asked.append(prompt)
            return encode(prompt, **given)

        @contextmanager
        def visited() -> Iterator[None]:
            self.visits += 1
            with visit():
                yield

        monkeypatch.setattr(self.network._pipeline, "encode_prompt", encoded)
        monkeypatch.setattr(self.network, "_text_encoders", visited)

    @torch.no_grad()
    def ask(self, *views: int) -> Tensor:
        """Ask for all prompts beside views, which are random."""
        shape = (self.network.latent_channels, 4, 4)
        source = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(view)) for view in views])
        prompts = [prompt for prompt in PROMPTS for _ in views]
        noisy, time = torch.ones_like(source), torch.full((len(views),), 0.7)
        answer: Tensor = self.network.predict_beside(noisy, time, self.network.condition(prompts), source)
        return answer


@pytest.fixture
def watched(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tiny_model("qwen_image_edit"), monkeypatch)


def test_prompts_are_read_once_beside_each_picture_in_one_visit(watched: Watched) -> None:
    together = watched.ask(1, 2)
    assert watched.asked == ["a clown", "a clown", " ", " ", " ", " "] and watched.visits == 1
    alone = watched.ask(2)
    torch.testing.assert_close(alone, together[1::2], rtol=0, atol=2e-5)
    assert not torch.allclose(alone, watched.ask(1))
    assert len(watched.asked) == 6 and watched.visits == 1


def test_the_views_of_a_scene_are_remembered_in_the_machines_memory(watched: Watched) -> None:
    views = range(25)
    for view in [*views, *views]:
        watched.ask(view)
    assert watched.visits == len(views)
    kept = [x for _, embedding in watched.network._embeddings.items() for x in embedding.values()]
    assert all(x.device == CPU for x in kept)


def test_the_memory_is_bounded(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.ask(0)
    one = max(sum(x.nbytes for x in embedding.values()) for _, embedding in watched.network._embeddings.items())
    monkeypatch.setattr(qwen_image, "_REMEMBERED_BYTES", 10 * one)
    watched.network._embeddings.clear()
    for view in range(5):
        watched.ask(view)
    assert len(watched.network._embeddings) == 10
