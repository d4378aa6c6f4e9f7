"""The weights in the package: that they load like any other model, and that they know the world."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from pds_nerfstudio import toyworld
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.toyworld.classifier import WEIGHTS, AttributeClassifier
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, caption, labels, sample, vocabulary
from pds_nerfstudio.toyworld.renderer import Cameras, orbit, render

FOLDER = Path(toyworld.__file__).parent / "model"


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline: Any = DiffusionPipeline.from_pretrained(FOLDER, safety_checker=None, local_files_only=True)
    pipeline.to(torch.float32)  # the text encoder may come in the half precision that it is kept in
    assert isinstance(pipeline, StableDiffusionPipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_fits_in_the_package() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()] + [WEIGHTS]
    assert sum(path.stat().st_size for path in files) <= 32 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt")]


class TestPipeline:
    def test_parts_fit_together(self, pipeline: Any) -> None:
        unet, vae = pipeline.unet.config, pipeline.vae.config
        assert unet.in_channels == unet.out_channels == vae.latent_channels
        assert unet.cross_attention_dim == pipeline.text_encoder.config.hidden_size
        assert unet.sample_size * pipeline.vae_scale_factor == vae.sample_size == 128
        assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings
        assert pipeline.text_encoder.config.vocab_size == len(pipeline.tokenizer)

    def test_pictures_come_back_from_latents_of_unit_variance(self, pipeline: Any) -> None:
        images = pictures([Attributes(), Attributes("bear", "brown", hat="top", sky="sunset"), Attributes("cone")], 128)
        with torch.no_grad():
            latents = pipeline.vae.encode(2 * images - 1).latent_dist.mode()
            back = pipeline.vae.decode(latents).sample / 2 + 0.5
        assert latents.shape == (3, 4, 16, 16)
        assert 0.7 < latents.std() * pipeline.vae.config.scaling_factor < 1.4
        assert psnr(back.clamp(0, 1), images).min() > 27

    def test_samples_what_it_is_told(self, pipeline: Any) -> None:
        things = [Attributes("ball", "red"), Attributes("snowman", "blue", style="drawing")]
        rng = torch.Generator().manual_seed(0)
        images = pipeline(
            [caption(thing) for thing in things],
            num_inference_steps=12,
            guidance_scale=3.0,
            generator=rng,
            output_type="pt",
        ).images
        assert images.shape == (2, 3, 128, 128)
        read = AttributeClassifier.load().read(images)
        for name in ("subject", "color", "style"):
            assert [VALUES[name][i] for i in read[name].tolist()] == [getattr(thing, name) for thing in things]


class TestTokenizer:
    @pytest.mark.parametrize("word", vocabulary())
    def test_a_word_of_the_world_is_one_token(self, pipeline: Any, word: str) -> None:
        start, *ids, end = pipeline.tokenizer(word).input_ids
        assert (start, end) == (pipeline.tokenizer.bos_token_id, pipeline.tokenizer.eos_token_id)
        assert len(ids) == 1
        assert ids[0] not in (start, end)

    def test_captions_are_read_word_by_word(self, pipeline: Any) -> None:
        generator = random.Random(0)
        for _ in range(50):
            words = caption(sample(generator))
            tokens = pipeline.tokenizer.convert_ids_to_tokens(pipeline.tokenizer(words).input_ids)[1:-1]
            assert [token.removesuffix("</w>") for token in tokens] == words.replace(",", " ,").split()
            assert len(tokens) + 2 <= pipeline.tokenizer.model_max_length

    @pytest.mark.parametrize("text", ["", "a zebra!", "Ein Bär, größer als 3 m", "人が手を挙げる 🎈", "x" * 500])
    def test_any_text_has_tokens(self, pipeline: Any, text: str) -> None:
        ids = pipeline.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        assert ids.shape == (1, pipeline.tokenizer.model_max_length)
        assert ids.max() < len(pipeline.tokenizer)
        known = (ids != pipeline.tokenizer.eos_token_id).sum() - 1
        assert (known > 0) == bool(text)
        with torch.no_grad():
            assert pipeline.text_encoder(ids).last_hidden_state.isfinite().all()

    def test_unknown_words_differ(self, pipeline: Any) -> None:
        zebra, okapi = (pipeline.tokenizer(word).input_ids for word in ("zebra", "okapi"))
        assert zebra != okapi

    def test_list_of_words_is_the_vocabulary(self) -> None:
        assert (FOLDER / "words.txt").read_text().split() == vocabulary()


def pictures(things: list[Attributes], size: int) -> torch.Tensor:
    """Return pictures of each thing from its front, or nearly."""
    n = len(things)
    cameras = orbit(torch.linspace(-40, 40, n), torch.linspace(4, 28, n), 0.93, width=size, height=size)
    views = [
        render(build([thing]), Cameras(cameras.camera_to_world[i : i + 1], cameras.focal[i : i + 1], size, size), 1)
        for i, thing in enumerate(things)
    ]
    return torch.cat([view.rgb for view in views])


def test_classifier_reads_the_world() -> None:
    generator = random.Random(7)
    things = [sample(generator, held_out=None) for _ in range(24)]
    read = AttributeClassifier.load().read(pictures(things, 64))
    truth = torch.tensor([labels(thing) for thing in things])
    rights, shown = 0, 0
    for i, name in enumerate(VALUES):
        shows = truth[:, i] >= 0
        right = (read[name] == truth[:, i])[shows]
        assert right.float().mean() >= 0.8, name
        rights, shown = rights + int(right.sum()), shown + int(shows.sum())
    assert rights / shown >= 0.95
