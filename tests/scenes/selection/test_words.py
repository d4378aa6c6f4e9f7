"""Words that say what of a scene may change: found by a segmentation model, lifted into the scene as masks are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizer,
    ViTImageProcessor,
)

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.selection import select as selection
from pds_nerfstudio.scenes.selection.config import SelectionConfig
from pds_nerfstudio.scenes.selection.region import Region
from pds_nerfstudio.scenes.selection.select import select, select_gaussians, shares_inside
from pds_nerfstudio.scenes.selection.words import load_segmenter, masks_of_words

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a CLIPSeg model with random weights, which reads single letters."""
    folder = tmp_path_factory.mktemp("clipseg")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"height": 32, "width": 32}
    CLIPSegProcessor(ViTImageProcessor(size=size), tokenizer).save_pretrained(folder)
    text = SMALL | {"vocab_size": len(tokens), "max_position_embeddings": 12}
    torch.manual_seed(0)
    config = CLIPSegConfig(
        text_config=text | {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1},
        vision_config=SMALL | {"image_size": 32, "patch_size": 8},
        projection_dim=8,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    return folder


def test_the_model_is_asked_as_its_own_processor_does(segmenter: Path) -> None:
    image = torch.rand(3, 20, 28, generator=torch.Generator().manual_seed(1))
    found = load_segmenter(str(segmenter), "cpu")(image, "a b")
    network = CLIPSegForImageSegmentation.from_pretrained(segmenter).eval()
    picture = (image * 255).round().byte().permute(1, 2, 0).numpy()
    given = CLIPSegProcessor.from_pretrained(segmenter)(text=["a b"], images=[picture], return_tensors="pt")
    with torch.no_grad():
        expected = network(**given).logits.reshape(found.shape).sigmoid()
    torch.testing.assert_close(found, expected)
    assert found.std() > 0


class TestRefusals:
    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=re.escape(f"--pipeline.only.segmenter {tmp_path} can't be loaded")):
            load_segmenter(str(tmp_path), "cpu")

    def test_a_model_of_another_kind(self, tmp_path: Path) -> None:
        CLIPModel(CLIPConfig(text_config=SMALL, vision_config=SMALL, projection_dim=8)).save_pretrained(tmp_path)
        with pytest.raises(UserError, match="is of the kind clip: give a CLIPSeg model"):
            load_segmenter(str(tmp_path), "cpu")


def blue(image: Tensor, words: str) -> Tensor:
    """Finds what is more blue than red, at half the picture's size; nothing, if asked for something else."""
    found = (image[2] - image[0] > 0.2).float()[::2, ::2]
    return found if words == "the shirt" else 0 * found


@pytest.fixture
def pipeline(request: Any, make_config: Any, prepare: Any) -> Any:
    return prepare(make_config(request.param, reconstruct=0)).pipeline


@pytest.mark.parametrize("pipeline", ["splat"], indirect=True)
def test_what_is_found_is_lifted_as_masks_are(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    views, model = pipeline.views, pipeline.model
    masks = masks_of_words("the shirt", blue, views)
    assert [*masks] == [*range(len(views))]
    assert all(mask.shape == views[k].image.shape[2:] for k, mask in masks.items())
    asked: list[str] = []

    def load(model: str, device: torch.device) -> Any:
        asked.append(model)
        return blue

    monkeypatch.setattr(selection, "load_segmenter", load)
    free = select_gaussians(SelectionConfig(words="the shirt", segmenter="mine", threshold=0.1), model, views)
    assert asked == ["mine"]
    assert torch.equal(free, shares_inside(model, views.view_cameras, masks) >= 0.1)
    assert free.any() and not free.all()
    with pytest.raises(UserError, match="'a cat' is found in none of the views: say it in other words"):
        select_gaussians(SelectionConfig(words="a cat"), model, views)


@pytest.mark.parametrize("pipeline", ["nerf"], indirect=True)
def test_of_a_nerf_they_leave_a_region(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "load_segmenter", lambda model, device: blue)
    config = SelectionConfig(words="the shirt", threshold=0.1)
    region = select(config, pipeline.model, pipeline.views)
    assert isinstance(region, Region) and region.cells is not None
    assert 0 < float(region.cells.float().mean()) < 0.1


def test_words_alone_select() -> None:
    assert SelectionConfig(words="the man").selects and not SelectionConfig().selects
