"""Where the model looks for words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.masks import stretch
from pds_nerfstudio.guidance.networks.attention import WordAttention
from tests.guidance.miniature import MAX_TOKENS, network_of


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Layer(torch.nn.Module):
    """Two heads of two channels; computes nothing, since only its projections are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.scale = 2, 2**-0.5
        self.to_q, self.to_k = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)

    def head_to_batch_dim(self, x: Tensor) -> Tensor:
        batch, items, _ = x.shape
        return x.reshape(batch, items, 2, 2).permute(0, 2, 1, 3).reshape(batch * 2, items, 2)

    def get_attention_scores(self, query: Tensor, key: Tensor) -> Tensor:
        return (self.scale * query @ key.mT).softmax(-1)

    def forward(self, x: Tensor, encoder_hidden_states: Tensor | None = None) -> Tensor:
        return x


class Block(torch.nn.Module):
    """A transformer block's two attentions, under the names that they have in diffusers."""

    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2 = Layer(), Layer()

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.attn2(self.attn1(x), encoder_hidden_states=text)


def heads_mean(layer: Layer, queries: Tensor, keys: Tensor) -> Tensor:
    """The slow reference: one element, head, pixel at a time."""
    result = torch.zeros(len(queries), queries.shape[1], keys.shape[1])
    for b in range(len(queries)):
        for head in (slice(0, 2), slice(2, 4)):
            q, k = layer.to_q(queries[b])[:, head], layer.to_k(keys[b])[:, head]
            for i in range(len(q)):
                result[b, i] += torch.softmax(torch.stack([q[i] @ key for key in k]) / 2**0.5, 0) / 2
    return result


@torch.no_grad()
def test_map_is_self_attention_times_the_attention_to_the_words() -> None:
    torch.manual_seed(0)
    blocks = torch.nn.ModuleList([Block(), Block()])
    pixels, text = random(2, 12, 4), random(2, 5, 4, seed=1)
    words = torch.tensor([[False, True, True, False, False], [False] * 5])
    with WordAttention(blocks, words) as attention:
        for block in blocks:
            block(pixels, text)
    cross = [heads_mean(block.attn2, pixels, text)[:, :, 1:3].mean(2) for block in blocks]  # type: ignore[arg-type]
    spread = [heads_mean(block.attn1, pixels, pixels) for block in blocks]  # type: ignore[arg-type]
    expected = torch.stack(spread).mean(0) @ torch.stack(cross).mean(0)[:, :, None]
    result = attention.map((3, 4))
    torch.testing.assert_close(result[0, 0], expected[0].reshape(3, 4))
    assert not result[1].any()


@torch.no_grad()
def test_coarser_layers_are_brought_to_the_finest_grid_that_was_noted() -> None:
    torch.manual_seed(0)
    blocks = torch.nn.ModuleList([Block(), Block()])
    text = random(1, 5, 4, seed=1)
    with WordAttention(blocks, torch.ones(1, 5, dtype=torch.bool), largest=4) as attention:
        blocks[0](random(1, 64, 4), text)
        blocks[1](random(1, 16, 4), text)
    result = attention.map((8, 8))
    assert result.shape == (1, 1, 8, 8)
    # All words together get all attention wherever one looks, at every size.
    torch.testing.assert_close(result, torch.full((1, 1, 8, 8), 0.2))


def test_a_prediction_is_the_same_to_the_bit_with_and_without(denoiser: Denoiser) -> None:
    z, t = random(2, 4, 16, 16), torch.tensor([300, 700])
    embeddings = denoiser.encode_prompts(["a cat", "a dog"])
    words = denoiser.changed_words(["a cat", "a dog"], ["a dog", "a cat"])
    plain = denoiser.predict_noise(z, t, embeddings)
    noted, attention = denoiser.predict_noise_and_attention(z, t, embeddings, words)
    assert torch.equal(plain, noted) and torch.equal(plain, denoiser.predict_noise(z, t, embeddings))
    assert attention.shape == (2, 1, 16, 16) and attention.min() > 0 and attention.max() < 1
    assert not any(module._forward_hooks for module in network_of(denoiser)._model.modules())


def test_velocity_models_and_oblong_latents_too(velocity_model_folder: Any) -> None:
    denoiser = Denoiser.from_pretrained(str(velocity_model_folder), "cpu", torch.float32)
    words = denoiser.changed_words(["a cat"], ["a dog"])
    _, attention = denoiser.predict_noise_and_attention(
        random(1, 4, 8, 24), torch.tensor([500]), denoiser.encode_prompts(["a cat"]), words
    )
    assert attention.shape == (1, 1, 8, 24) and attention.isfinite().all()


def test_stretched_from_none_to_all() -> None:
    attention = torch.tensor([[0.1, 0.3], [0.2, 0.5]])[None, None]
    flat = torch.full((1, 1, 2, 2), 0.2)
    result = stretch(torch.cat([attention, flat]))
    torch.testing.assert_close(result[0, 0], torch.tensor([[0.0, 0.5], [0.25, 1.0]]))
    assert not result[1].any()


@pytest.mark.parametrize(
    ("prompt", "other", "changed"),
    [
        ("a cat", "a dog", [2]),
        ("a cat a dog", "a dog", [1, 2]),
        ("a dog", "a cat a dog", []),
        ("a cat", "a cat", []),
    ],
)
def test_words_that_differ(denoiser: Denoiser, prompt: str, other: str, changed: list[int]) -> None:
    (result,) = network_of(denoiser).changed_words([prompt], [other])
    assert result.shape == (MAX_TOKENS,)
    assert result.nonzero().flatten().tolist() == changed  # the token at 0 begins every prompt


@pytest.mark.parametrize("objective", ["pds", "sds", "lusd"])
def test_guidance_confines_the_text_to_where_the_words_are_looked_for(denoiser: Denoiser, objective: Any) -> None:
    target, source, noise = (random(2, 4, 16, 16, seed=seed) for seed in range(3))
    t = torch.tensor([300, 600])
    results = {}
    for localize in (0.0, 0.5, 1.0):
        config = GuidanceConfig(objective=objective, localize=localize, localize_by="attention")
        guidance = Guidance(config, denoiser)
        guidance.set_prompts("a cat", "a dog")
        results[localize] = guidance.gradient_terms(target, source, t, noise, keys=["a", "b"])
    mask = results[1.0].mask
    assert mask is not None and results[0.5].mask is not None and results[0.0].mask is None
    assert mask.amin((1, 2, 3)).max() < 0.5 and (mask.amax((1, 2, 3)) == 1).all()
    torch.testing.assert_close(results[0.5].mask, 0.5 + 0.5 * mask)
    if objective == "pds":
        torch.testing.assert_close(results[1.0].text, mask * results[0.0].text)
        assert torch.equal(results[1.0].identity, results[0.0].identity)


def test_words_follow_the_prompts(denoiser: Denoiser) -> None:
    z, noise, t = random(1, 4, 16, 16), random(1, 4, 16, 16, seed=1), torch.tensor([500])
    guidance = Guidance(GuidanceConfig(localize=1.0, localize_by="attention"), denoiser)
    masks = []
    for prompts in (("a cat", "a dog"), ("a bird", "a dog"), ("a cat", "a dog")):
        guidance.set_prompts(*prompts)
        masks.append(guidance.gradient_terms(z, z, t, noise).mask)
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])  # type: ignore[arg-type]


def test_a_model_that_cannot_tell_is_refused_before_the_first_step(tiny_model: Callable[[str], Path]) -> None:
    denoiser = Denoiser.from_pretrained(str(tiny_model("flux_dev")), "cpu", torch.float32)
    with pytest.raises(UserError, match="set localize_by to difference"):
        Guidance(GuidanceConfig(localize=1.0, localize_by="attention"), denoiser)
    guidance = Guidance(GuidanceConfig(localize=0.0, localize_by="attention"), denoiser)
    with pytest.raises(UserError, match="set localize_by to difference"):
        guidance.reconfigure(localize=1.0)
    assert guidance.config.localize == 0
