"""Judges that have read the prompts: CLIP, and VQAScore where its library is installed."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.errors import UserError, first_line
from pds_nerfstudio.evaluation import clip
from pds_nerfstudio.evaluation.metrics import mean, plain
from pds_nerfstudio.scenes.output.pictures import to_bytes

VQA_LIBRARY = "t2v_metrics"
"""The library of VQAScore, as it is imported; the package is called t2v-metrics."""

Scores = dict[str, float | str | None]
"""What a judge says, as JSON holds it; None where it says nothing."""


class WordJudge(Protocol):
    """Judges pictures by the prompts, view by view."""

    name: str
    """Of the judge, with its model."""

    def see(self, photo: Float[Tensor, "3 height width"], edited: Float[Tensor, "3 height width"]) -> None:
        """Take a view into account.

        Args:
            photo: The source, in 0..1.
            edited: The edit, in 0..1.
        """

    def scores(self) -> Scores:
        """Return the scores over all views that were seen; "model" says which model they are of."""


class ByClip:
    """Judges by a CLIP model.

    Args:
        model: A folder or a hub id.
        device: Where it runs.
        source_prompt: What the scene showed; may be empty.
        target_prompt: What it should show.

    Raises:
        UserError: If there is no such model.
    """

    def __init__(self, model: str, device: torch.device | str, source_prompt: str, target_prompt: str) -> None:
        self._clip = clip.load_clip(model, device)
        self._model, self._prompts = model, (source_prompt, target_prompt)
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []
        self.name = f"CLIP ({model})"

    def see(self, photo: Float[Tensor, "3 height width"], edited: Float[Tensor, "3 height width"]) -> None:
        """Keep the features of a view."""
        self._before.append(self._clip.image_features(photo[None]))
        self._after.append(self._clip.image_features(edited[None]))

    def scores(self) -> Scores:
        """Return the `ClipScores`."""
        judged = clip.judge(self._clip, torch.cat(self._before), torch.cat(self._after), *self._prompts)
        return {"model": self._model, **plain(asdict(judged))}


class ByVqa:
    """Judges by VQAScore (Lin et al., ECCV 2024): how likely a model says yes, this picture shows the prompt.

    Args:
        model: As the library calls it, such as clip-flant5-xl.
        device: Where it runs.
        target_prompt: What the scene should show.

    Raises:
        UserError: If the library is not installed, or the model can't be had.
    """

    def __init__(self, model: str, device: torch.device | str, target_prompt: str) -> None:
        if not has_vqa():
            raise UserError(f"--vqa {model}: VQAScore's library {VQA_LIBRARY} is missing: pip install t2v-metrics.")
        import t2v_metrics  # not among this package's requirements

        try:
            self._scorer: Any = t2v_metrics.VQAScore(model=model, device=str(device))
        except Exception as error:  # an assertion for an unknown name, and whatever a download can end with
            raise UserError(
                f"--vqa {model} can't be loaded ({first_line(error)}): give a model of {VQA_LIBRARY}, such as "
                "clip-flant5-xl."
            ) from error
        self._model, self._prompt = model, target_prompt
        self._before: list[float] = []
        self._after: list[float] = []
        self.name = f"VQAScore ({model})"

    def see(self, photo: Float[Tensor, "3 height width"], edited: Float[Tensor, "3 height width"]) -> None:
        """Score a view before and after the edit; the library reads files."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "view.png"
            for picture, values in ((photo, self._before), (edited, self._after)):
                PIL.Image.fromarray(to_bytes(picture.permute(1, 2, 0))).save(path)
                values.append(float(self._scorer(images=[str(path)], texts=[self._prompt])[0, 0]))

    def scores(self) -> Scores:
        """Return the means over views, 0..1."""
        means = {"score": mean(torch.tensor(self._after)), "score_unedited": mean(torch.tensor(self._before))}
        return {"model": self._model, **plain(means)}


def has_vqa() -> bool:
    """Return whether VQAScore's library is installed."""
    return importlib.util.find_spec(VQA_LIBRARY) is not None
