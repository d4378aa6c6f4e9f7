"""Prompts to embeddings."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.prompts import several_vectors, spelled_out
from pds_nerfstudio.guidance.networks.stable_diffusion import StableDiffusion
from tests.guidance.miniature import MAX_TOKENS, load_pipeline, network_of


@pytest.fixture(scope="module")
def pipeline(model_folder: Path) -> Any:
    return load_pipeline(model_folder)


def network(folder: Path) -> StableDiffusion:
    return network_of(Denoiser.from_pretrained(str(folder), "cpu", torch.float32))


def test_embeddings_are_those_of_the_diffusers_pipeline(pipeline: Any, model_folder: Path) -> None:
    prompts = ["a cat", "", "dog cat"]
    expected = pipeline.encode_prompt(prompts, "cpu", 1, False)[0]
    embeddings = network(model_folder).condition(prompts)
    assert embeddings.shape == (3, MAX_TOKENS, 16) and not embeddings.requires_grad
    torch.testing.assert_close(embeddings, expected)


def test_a_prompt_is_encoded_once(model_folder: Path) -> None:
    calls = []
    own = network(model_folder)
    own._pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    first = own.condition(["a cat", "a cat", "a dog"])
    again = own.condition(["a dog", "a cat"])
    assert len(calls) == 2
    assert torch.equal(first[0], first[1]) and torch.equal(again[0], first[2])


def test_long_prompts_are_cut_with_a_warning_that_quotes_the_loss(
    model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = network(model_folder)
    room = MAX_TOKENS - 2
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitting = own.condition(["cat " * room])
    with pytest.warns(UserWarning, match="longer than the model reads; cut off: 'dog dog'"):
        cut = own.condition(["cat " * room + "dog dog"])
    torch.testing.assert_close(cut, fitting)
    assert capfd.readouterr() == ("", "")


def test_unknown_words_are_named_in_one_warning(own_model_folder: Path) -> None:
    (own_model_folder / "words.txt").write_text("a\ncat\n")
    own = network(own_model_folder)
    with pytest.warns(UserWarning, match="never shown") as caught:
        own.condition(["Cat, gnu don't gnu"])
    assert len(caught) == 1
    assert "cannot follow them: gnu, don't." in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.condition(["A CAT (cat).", ""])


@pytest.fixture(scope="module")
def inverted(tiny_model: Callable[[str], Path]) -> Path:
    """A model that has learned the word <cat>, of three vectors."""
    return tiny_model("sd15_textual_inversion")


def test_a_word_of_several_vectors_stands_for_all_of_them(inverted: Path) -> None:
    prompts = ["a photo of <cat>", "<cat>, <cat>.", "a man"]
    expected = load_pipeline(inverted).encode_prompt(prompts, "cpu", 1, False)[0]
    torch.testing.assert_close(network(inverted).condition(prompts), expected)


def test_vectors_that_are_written_out_are_left_alone(inverted: Path) -> None:
    embeddings = network(inverted).condition(["<cat>", "<cat> <cat>_1 <cat>_2", "<cat>_1"])
    torch.testing.assert_close(embeddings[1], embeddings[0])
    assert not torch.allclose(embeddings[2], embeddings[0])


def test_changed_words_are_in_the_places_of_all_their_vectors(inverted: Path) -> None:
    (changed,) = network(inverted).changed_words(["<cat> a"], ["a"])
    assert changed.nonzero().flatten().tolist() == [1, 2, 3]  # after the start


def test_words_of_one_vector_are_themselves() -> None:
    assert several_vectors(["<a>", "<b>", "<b>_1", "<c>_1"]) == {"<b>": ["<b>", "<b>_1"]}
    assert spelled_out("<a> <b>", {"<b>": ["<b>", "<b>_1"]}) == "<a> <b> <b>_1"
