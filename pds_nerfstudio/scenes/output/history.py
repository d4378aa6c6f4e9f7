"""Numbers and pictures of an edit as it runs: in the run's folder, and through nerfstudio's writers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nerfstudio.configs.base_config  # noqa: F401  nerfstudio's writer cannot be imported before it
import numpy as np
import torch
from nerfstudio.utils import writer
from PIL import Image

from pds_nerfstudio.page import Picture, jpeg
from pds_nerfstudio.scenes.output.pictures import Series
from pds_nerfstudio.whole_files import append_line, as_json, whole_lines, write_bytes

STRIP_PICTURES = 10


@dataclass(frozen=True)
class Moment:
    """The numbers of an edit step."""

    step: int
    """As the trainer counts."""
    loss: float
    """All losses together."""
    gradient_rms: float
    """Root mean square of the guidance's gradient; NaN in steps that refine, which ask for none."""
    seconds: float
    """That the step took."""

    def line(self) -> str:
        """Return it as a line of JSON, which knows no NaN and no infinity: null stands for both."""
        return as_json(asdict(self))

    @classmethod
    def of_line(cls, line: str) -> Moment:
        """Return what `line` has written, null as NaN; earlier versions wrote NaN."""
        numbers: dict[str, Any] = {k: math.nan if value is None else value for k, value in json.loads(line).items()}
        return cls(**numbers)


class History:
    """Keeps what the plots, the strip and the report are made of.

    Args:
        folder: Of the run. Pictures go to its folder history, numbers to history/steps.jsonl.
        steps_per_picture: Edit steps from one kept picture to the next; 0 keeps none.
    """

    def __init__(self, folder: Path, steps_per_picture: int) -> None:
        self.folder = folder / "history"
        self.steps_per_picture = steps_per_picture
        self.moments: list[Moment] = []

    def add(self, moment: Moment) -> None:
        """Keep the numbers of a step."""
        self.moments.append(moment)
        append_line(self.folder / "steps.jsonl", moment.line())

    def begin_in(self, folder: Path) -> None:
        """Begin anew in the folder of another run; what was kept so far stays where it is."""
        self.folder, self.moments = folder / "history", []

    @classmethod
    def read(cls, folder: Path) -> History:
        """Return what a run has kept in its folder."""
        history = cls(folder, 0)
        file = history.folder / "steps.jsonl"
        if file.exists():
            history.moments = [Moment.of_line(line) for line in whole_lines(file)]
        return history

    def series(self, name: str) -> Series:
        """Return one of the numbers over the steps."""
        return [(moment.step, getattr(moment, name)) for moment in self.moments]

    def wants_pictures(self, edit_step: int) -> bool:
        """Return whether pictures are due after an edit step, counted from the first."""
        return bool(self.steps_per_picture) and edit_step % self.steps_per_picture == 0

    def add_pictures(self, step: int, triptych: Picture, view: Picture) -> None:
        """Keep pictures of a step.

        Args:
            step: As the trainer counts.
            triptych: The training view of this step, see `EditedView`.
            view: A render of the present state from the fixed view.
        """
        for name, image in (("triptych", triptych), ("view", view)):
            write_bytes(self.folder / f"{name}-{step:09d}.jpg", jpeg(image))
            if writer.EVENT_WRITERS:
                writer.put_image(f"Edit/{name}", torch.from_numpy(image).float() / 255, step)

    def write_strip(self, path: Path) -> Path | None:
        """Write the kept renders of the fixed view beside each other; None if there are none."""
        pictures = self.strip()
        if not pictures:
            return None
        write_bytes(path, jpeg(np.concatenate(list(pictures.values()), axis=1), quality=90))
        return path

    def strip(self) -> dict[int, Picture]:
        """Return some of the kept pictures, evenly spread over the steps, by their step."""
        files = sorted(self.folder.glob("view-*.jpg"))
        n = min(len(files), STRIP_PICTURES)
        chosen = [files[round(i * (len(files) - 1) / max(1, n - 1))] for i in range(n)]
        return {int(file.stem.removeprefix("view-")): np.array(Image.open(file)) for file in chosen}
