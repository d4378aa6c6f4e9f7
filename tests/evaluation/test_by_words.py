"""VQAScore through its library, in whose place a small one stands here: it is not among the requirements."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.by_words import VQA_LIBRARY, ByVqa, has_vqa


class Scorer:
    """Says how bright a picture is, if it is asked for a bright one."""

    def __init__(self, model: str, device: str) -> None:
        assert model == "bright-xl" and device == "cpu"

    def __call__(self, images: list[str], texts: list[str]) -> Tensor:
        assert texts == ["a bright wall"]
        return torch.tensor([[np.asarray(Image.open(path)).mean() / 255 for _ in texts] for path in images])


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType(VQA_LIBRARY)
    module.VQAScore, module.__spec__ = Scorer, ModuleSpec(VQA_LIBRARY, None)
    monkeypatch.setitem(sys.modules, VQA_LIBRARY, module)


@pytest.mark.usefixtures("library")
def test_scores_are_means_of_what_the_library_says_of_each_view() -> None:
    judge = ByVqa("bright-xl", "cpu", "a bright wall")
    for before, after in ((0.2, 0.6), (0.4, 1.0)):
        judge.see(torch.full((3, 5, 4), before), torch.full((3, 5, 4), after))
    scores = judge.scores()
    assert scores == {
        "model": "bright-xl",
        "score": pytest.approx(0.8, abs=0.003),
        "score_unedited": pytest.approx(0.3, abs=0.003),
    }
    assert "bright-xl" in judge.name


@pytest.mark.usefixtures("library")
def test_a_model_that_the_library_does_not_have_is_named() -> None:
    with pytest.raises(UserError, match=r"--vqa dark-xl can't be loaded .*: give a model of t2v_metrics"):
        ByVqa("dark-xl", "cpu", "a bright wall")


def test_without_the_library_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, VQA_LIBRARY, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert not has_vqa()
    with pytest.raises(UserError, match=r"--vqa bright-xl: .*pip install t2v-metrics"):
        ByVqa("bright-xl", "cpu", "a bright wall")
