"""The folder that a training leaves, from which one that was cut short goes on."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from pds_nerfstudio.editing import EditLoop, StepReport
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.personalization.lora import Lora
from pds_nerfstudio.personalization.prior import Latent
from pds_nerfstudio.personalization.training import DreamBooth, Lesson
from pds_nerfstudio.runs import new_folder, save_config
from pds_nerfstudio.whole_files import as_json, whole_file, whole_folder, write_text

PROMPTS = "prompts.txt"
"""What an edit takes; see docs/personalization.md for the other files."""


def begin_folder(config: Any, parent: Path, name: str) -> Path:
    """Make a new folder of about this name, with the configuration in it.

    Raises:
        UserError: If no folder can be made there.
    """
    folder = new_folder(parent, re.sub(r"[^\w-]+", "-", name).strip("-") or "subject")
    save_config(config, folder / "config.json")
    return folder


def keep_pictures(folder: Path, latents: Iterable[Latent], denoiser: Denoiser) -> list[Latent]:
    """Save the pictures of latents in a new folder, for people to look at, and return the latents."""
    kept = list(latents)
    with whole_folder(folder) as unfinished:
        for number, latent in enumerate(kept, start=1):
            save_image(denoiser.decode_latents(latent)[0].float(), unfinished / f"{number:04d}.png")
    return kept


@dataclass
class Unfinished:
    """All that it takes to go on with a training, in one file, which is there as long as it is not finished."""

    training: dict[str, Any]
    """The state of the stage."""
    taught: list[dict[str, Any]]
    """The fields of each lesson: pictures may have moved, and the prior takes long to draw."""
    reports: list[dict[str, float]] = field(default_factory=list)
    """What the steps so far said."""
    seconds: float = 0.0
    """How long they took."""

    @staticmethod
    def file(folder: Path) -> Path:
        """Return where it is in the folder of a training."""
        return folder / "unfinished.pt"

    @classmethod
    def read(cls, folder: Path) -> Unfinished:
        """Read what a training that was cut short has left.

        Raises:
            UserError: If there is nothing, or it cannot be read.
        """
        file = cls.file(folder)
        if not file.is_file():
            raise UserError(
                f"{folder} holds no training to go on with ({file.name}): give --resume the folder of one that was cut "
                "short, or begin again with --repeat and a config.json."
            )
        try:
            return cls(**torch.load(file, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError) as error:
            raise UserError(f"{file} is damaged: begin again with --repeat {folder / 'config.json'}.") from error

    def write(self, folder: Path) -> None:
        """Write it; one that is there is replaced as a whole."""
        file = self.file(folder)
        with whole_file(file) as unfinished:
            torch.save(vars(self), unfinished)

    def lessons(self, device: torch.device) -> list[Lesson]:
        """Return the lessons, with their latents on a device."""
        return [
            Lesson(**{**taught, "latents": [latent.to(device) for latent in taught["latents"]]})
            for taught in self.taught
        ]


class _TrainingLoop(EditLoop):
    title = "Training"


class PersonalResults:
    """The results of a training: lora.safetensors, prompts.txt, metrics.json.

    Args:
        folder: Of the training.
        save_every: Steps from one save on the way to the next.
        advice: What prompts.txt says of the LoRA's file.
        card: Of the model.
        unfinished: What the training was when it was cut short; None if it begins.
    """

    def __init__(
        self,
        folder: Path,
        save_every: int,
        advice: Callable[[Path], str],
        card: ModelCard,
        unfinished: Unfinished | None = None,
    ) -> None:
        self._folder, self._save_every, self._advice, self._card = folder, save_every, advice, card
        self._reports = unfinished.reports if unfinished else []
        self._seconds = unfinished.seconds if unfinished else 0.0

    def leave(self, training: DreamBooth, lora: Lora, lessons: Sequence[Lesson]) -> Path:
        """Train, and save what was learnt; Ctrl-C ends it early, and leaves it as far as it came, to go on from.

        Returns:
            The LoRA's file.
        """
        file, begun = self._folder / "lora.safetensors", time.perf_counter() - self._seconds
        taught = [{**vars(lesson), "latents": list(lesson.latents)} for lesson in lessons]

        def keep() -> None:
            seconds = time.perf_counter() - begun
            Unfinished(training.state(), taught, self._reports, seconds).write(self._folder)

        def record(report: StepReport) -> None:
            self._reports.append({"step": report.step, "skipped": report.skipped, **report.metrics})
            if report.step % self._save_every == 0:
                lora.save(file, self._card)
                keep()

        keep()
        loop = _TrainingLoop([training])
        loop.done = training.done
        complete = loop.run(record)
        lora.save(file, self._card)
        summary = {"complete": complete, "seconds": time.perf_counter() - begun, "steps": self._reports}
        write_text(self._folder / "metrics.json", as_json(summary, indent=1) + "\n")
        write_text(self._folder / PROMPTS, self._advice(file))
        if complete:
            Unfinished.file(self._folder).unlink()
        else:
            keep()
        return file
