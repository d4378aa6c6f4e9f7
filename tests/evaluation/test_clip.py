"""CLIP scores: the formulas on features made by hand, and the way from a model's folder to them."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import BertConfig, CLIPConfig, CLIPImageProcessor, CLIPModel

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.by_words import ByClip
from pds_nerfstudio.evaluation.clip import (
    Clip,
    clip_score,
    directional_similarity,
    judge,
    load_clip,
    preprocess,
)
from pds_nerfstudio.evaluation.consistency import direction_consistency

SIZE = 32
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.3, 0.2]


def tokenizer_files(folder: Path) -> int:
    """Write a CLIP tokenizer that knows single letters only, and return the size of its vocabulary."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    names = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"} | names))
    return len(tokens)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    n = tokenizer_files(folder)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": n, "max_position_embeddings": 12, "bos_token_id": n - 2, "eos_token_id": n - 1}
    vision = small | {"image_size": SIZE, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    processor = CLIPImageProcessor(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(model_folder: Path) -> Clip:
    return load_clip(str(model_folder))


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return smooth colours with some noise, in whole bytes, so far from black and white that no filter overshoots."""
    rng = torch.Generator().manual_seed(seed)
    coarse = 0.3 + 0.4 * torch.rand(1, 3, 5, 5, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return ((smooth + 0.05 * torch.randn(1, 3, height, width, generator=rng)).clamp(0.1, 0.9) * 255).round() / 255


class TestFormulas:
    def test_score_is_the_cosine(self) -> None:
        images = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
        text = torch.tensor([[10.0, 0.0]])
        assert clip_score(images, text).tolist() == pytest.approx([0.6, 0.0, -1.0])

    def test_directional_similarity_is_the_cosine_of_the_changes(self) -> None:
        source = torch.tensor([[1.0, 0.0, 0.0]])
        edited = torch.tensor([[0.0, 1.0, 0.0]])
        # the changes are (−1, 1, 0) and (−1, 0, 1): cosine 1/2
        value = directional_similarity(source, edited, source, torch.tensor([[0.0, 0.0, 1.0]]))
        assert value.item() == pytest.approx(0.5)
        assert directional_similarity(source, edited, source, edited).item() == pytest.approx(1)
        assert directional_similarity(source, edited, edited, source).item() == pytest.approx(-1)

    def test_lengths_of_features_do_not_count(self) -> None:
        rng = torch.Generator().manual_seed(0)
        features = [torch.randn(4, 6, generator=rng) for _ in range(4)]
        longer = [value * factor for value, factor in zip(features, (2.0, 7.0, 0.3, 5.0), strict=True)]
        torch.testing.assert_close(directional_similarity(*features), directional_similarity(*longer))
        torch.testing.assert_close(clip_score(*features[:2]), clip_score(*longer[:2]))

    def test_no_change_scores_zero(self) -> None:
        a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
        assert directional_similarity(a, a, a, b).item() == 0
        assert directional_similarity(a, b, b, b).item() == 0


class TestPreprocess:
    @pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (97, 131), (120, 45), (20, 27), (33, 64)])
    def test_equals_the_model_s_own_processor(self, height: int, width: int) -> None:
        processor = CLIPImageProcessor(
            size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD
        )
        image = picture(height, width)
        pixels = Image.fromarray((image[0].permute(1, 2, 0) * 255).byte().numpy())
        theirs = torch.as_tensor(np.asarray(processor(images=pixels, return_tensors="pt")["pixel_values"]))
        ours = preprocess(image, SIZE, MEAN, STD)
        assert ours.shape == (1, 3, SIZE, SIZE)
        # theirs rounds to bytes twice; a wrong crop or another filter differs by many
        difference = (ours - theirs).abs() * torch.tensor(STD)[:, None, None] * 255
        assert difference.max() <= 1.5

    def test_centre_is_kept_and_values_are_normalised(self) -> None:
        image = torch.zeros(1, 3, 32, 96)
        image[..., 32:64] = 1
        ours = preprocess(image, 32, MEAN, STD)
        white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
        torch.testing.assert_close(ours, white[None, :, None, None].expand_as(ours))


class TestModel:
    def test_image_features_are_the_model_s(self, clip: Clip, model_folder: Path) -> None:
        images = torch.cat([picture(48, 40, seed) for seed in range(20)])  # more than go through at once
        features = clip.image_features(images)
        model = CLIPModel.from_pretrained(model_folder).eval()
        text = torch.tensor([[52, 0, 53]])
        with torch.no_grad():
            theirs = model(pixel_values=preprocess(images, SIZE, MEAN, STD), input_ids=text).image_embeds
        torch.testing.assert_close(torch.nn.functional.normalize(features, dim=1), theirs, atol=1e-5, rtol=1e-4)

    def test_text_features_are_the_model_s(self, clip: Clip, model_folder: Path) -> None:
        model = CLIPModel.from_pretrained(model_folder).eval()
        for prompt in ("ab", "d"):
            spelled = [52, *(ord(letter) - ord("a") for letter in prompt[:-1]), ord(prompt[-1]) - ord("a") + 26, 53]
            with torch.no_grad():
                theirs = model(pixel_values=torch.zeros(1, 3, SIZE, SIZE), input_ids=torch.tensor([spelled]))
            ours = torch.nn.functional.normalize(clip.text_features([prompt]), dim=1)
            torch.testing.assert_close(ours, theirs.text_embeds, atol=1e-5, rtol=1e-4)

    def test_a_prompt_scores_the_same_beside_others_and_may_be_long(self, clip: Clip) -> None:
        both = clip.text_features(["a b", "c d e f " * 20])
        torch.testing.assert_close(both[:1], clip.text_features(["a b"]))
        assert both.isfinite().all()

    def test_judge_averages_over_views(self, clip: Clip) -> None:
        source = torch.cat([picture(40, 40, seed) for seed in range(3)])
        edited = torch.cat([picture(40, 40, seed) for seed in range(3, 6)])
        before, after = clip.image_features(source), clip.image_features(edited)
        scores = judge(clip, before, after, "a man", "a robot")
        man, robot = clip.text_features(["a man"]), clip.text_features(["a robot"])
        assert scores.score == pytest.approx(clip_score(after, robot).mean().item(), abs=1e-6)
        assert scores.score_unedited == pytest.approx(clip_score(before, robot).mean().item(), abs=1e-6)
        expected = directional_similarity(before, after, man, robot).mean().item()
        assert scores.directional == pytest.approx(expected, abs=1e-6)
        unit = [torch.nn.functional.normalize(features, dim=1) for features in (before, after)]
        assert scores.consistency == pytest.approx(direction_consistency(*unit).mean().item(), abs=1e-5)
        assert len({scores.score, scores.score_unedited, scores.directional}) == 3

    def test_a_judge_takes_views_of_any_size_one_by_one(self, clip: Clip, model_folder: Path) -> None:
        views = [picture(40, 40)[0], picture(56, 33, 1)[0]]
        judge_of_both = ByClip(str(model_folder), "cpu", "a man", "a robot")
        for view in views:
            judge_of_both.see(view, view.flip(2))
        features = [clip.image_features(view[None]) for view in views]
        after = [clip.image_features(view.flip(2)[None]) for view in views]
        expected = judge(clip, torch.cat(features), torch.cat(after), "a man", "a robot")
        assert judge_of_both.scores() == {"model": str(model_folder), **asdict(expected)}
        assert str(model_folder) in judge_of_both.name

    def test_a_single_view_has_no_neighbour_to_agree_with(self, model_folder: Path) -> None:
        alone = ByClip(str(model_folder), "cpu", "a man", "a robot")
        alone.see(picture(40, 40)[0], picture(40, 40, 1)[0])
        assert alone.scores()["consistency"] is None

    def test_without_a_source_prompt_no_direction_is_judged(self, clip: Clip) -> None:
        before, after = clip.image_features(picture(40, 40)), clip.image_features(picture(40, 40, 1))
        instructed, described = (judge(clip, before, after, text, "a robot") for text in (" ", "a man"))
        assert math.isnan(instructed.directional) and not math.isnan(described.directional)
        assert instructed.score == described.score

    def test_an_edit_that_does_nothing(self, clip: Clip) -> None:
        source = clip.image_features(picture(40, 40))
        scores = judge(clip, source, source, "a man", "a robot")
        assert scores.directional == 0
        assert scores.score == scores.score_unedited


class TestLoadErrors:
    @staticmethod
    def message(model: Any) -> str:
        with pytest.raises(UserError) as caught:
            load_clip(str(model))
        text = str(caught.value)
        assert "\n" not in text
        assert str(model) in text
        assert "folder" in text
        assert "hub id" in text
        return text

    def test_no_such_folder(self, tmp_path: Path) -> None:
        assert "no CLIP model folder" in self.message(tmp_path / "nothing" / "here")
        assert "no CLIP model folder" in self.message("")

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        assert "cannot be downloaded" in self.message("nobody/no-such-clip-model")

    def test_another_kind_of_model(self, tmp_path: Path) -> None:
        BertConfig().save_pretrained(tmp_path)
        assert "'bert'" in self.message(tmp_path)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert "cannot be read" in self.message(tmp_path)

    def test_a_folder_without_tokenizer(self, model_folder: Path, tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
            (tmp_path / name).write_bytes((model_folder / name).read_bytes())
        self.message(tmp_path)  # releases of transformers differ in what they say

    def test_missing_weights(self, model_folder: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        for path in model_folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        weights = load_file(tmp_path / "model.safetensors")
        del weights["visual_projection.weight"]
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        assert "lacks 1 of its weights" in self.message(tmp_path)


def test_importing_the_module_is_light() -> None:
    import subprocess
    import sys

    code = "import pds_nerfstudio.evaluation.clip, sys; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
