"""pds-svg: edit an SVG by text, from file to file."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pds_nerfstudio.checks import at_least, require
from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.guidance import Guidance, GuidanceConfig, resolve_device
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.runs import StepReport, new_folder, read_command, save_config
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.loop import VectorEditConfig, VectorEditLoop, drawing_guidance
from pds_nerfstudio.vector.edit.stages import Draft
from pds_nerfstudio.vector.raster.backend import Backend, exact
from pds_nerfstudio.vector.raster.diffvg import DiffvgRenderer
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.video import has_ffmpeg, write_video

STYLES = {
    "none": "",
    "iconography": "minimal flat 2d vector icon, lineal color, on a white background",
    "pixelart": "pixel art, on a white background",
}
"""What each style adds to both prompts."""
FRAME_MILLISECONDS = 80
"""Of the history."""
BACKENDS: dict[str, Backend] = {"exact": exact, "pytorch": Rasterizer, "pydiffvg": DiffvgRenderer}

HELP = CommandHelp(
    command="pds-svg",
    summary="Edit an SVG by text, with Posterior Distillation Sampling.",
    options=(
        FirstOption("--svg", "the drawing to edit", required=True),
        FirstOption("--src-prompt", "what it shows", required=True),
        FirstOption("--tgt-prompt", "what it should show", required=True),
        FirstOption("--guidance.model", "the diffusion model: hub id or folder"),
        FirstOption("--guidance.guidance-scale", "how strongly the prompts are obeyed"),
        FirstOption("--guidance.identity-weight", "how strongly the source is kept"),
        FirstOption("--guidance.objective", "what is distilled; lusd suits styles"),
        FirstOption("--edit.draft.steps", "steps that edit the drawing's picture"),
        FirstOption("--edit.fit-steps", "steps that fit paths to that picture"),
        FirstOption("--edit.background", "colour below the drawing"),
        FirstOption("--history", "animation of the edit: gif, mp4, none"),
        FirstOption("--output-dir", "results get a folder in here"),
    ),
    examples=(
        """\
pds-svg --svg man.svg --src-prompt "a drawing of a man" \\
    --tgt-prompt "a drawing of a man raising his arms\"""",
        """\
pds-svg --svg tiger.svg --src-prompt "a drawing of a tiger" \\
    --tgt-prompt "a drawing of a lion" --edit.draft.refine-scale 7.5 \\
    --guidance.model stable-diffusion-v1-5/stable-diffusion-v1-5""",
        "pds-svg --repeat outputs/svg/tiger/config.json",
    ),
)


@dataclass
class SvgEdit:
    """Edit an SVG by text with Posterior Distillation Sampling.

    Paths, points and paints move until the drawing fits the target prompt; the file keeps its elements, ids and
    groups."""

    svg: Path
    """The drawing to edit."""
    src_prompt: str
    """What the drawing shows."""
    tgt_prompt: str
    """What it should show; best the source prompt with only the edit changed."""
    output_dir: Path = Path("outputs/svg")
    """The results go into a new folder of the drawing's name in here."""
    style: Literal["none", "iconography", "pixelart"] = "none"
    """Adds a description of a drawing style to both prompts."""
    style_suffix: str = ""
    """Adds words of your own to both prompts."""
    canvas: int = 0
    """Side in pixels of the square canvas; 0 takes the size that the model was trained with."""
    device: str = "auto"
    """Where to render, for example cuda:0; 'auto' takes the first GPU, else the CPU."""
    save_every: int = 20
    """A picture goes into the history, and the drawing so far into the folder, every so many steps."""
    history: Literal["gif", "mp4", "none"] = "gif"
    """Whether to leave an animation of the edit."""
    backend: Literal["exact", "pytorch", "pydiffvg"] = "exact"
    """What draws. exact: this package's own rasteriser, on a GPU by Triton kernels where Triton is there. pytorch: the
    same without Triton; slower on a GPU. pydiffvg: where that is installed, for plain drawings."""
    guidance: GuidanceConfig = field(default_factory=drawing_guidance)
    """The diffusion model, the objective and the seed."""
    edit: VectorEditConfig = field(default_factory=VectorEditConfig)
    """How the drawing follows the guidance."""

    def check(self) -> None:
        """Refuses values that mean nothing.

        Raises:
            UserError: naming the option.
        """
        pixels = "pixels up to 4096, or 0 for the model's own size"
        require(self, ["canvas"], lambda canvas: 0 <= canvas <= 4096, pixels)
        at_least(self, 1, "save_every", give="a number of steps, at least 1")
        if self.history == "mp4" and not has_ffmpeg():
            raise UserError(
                "history is mp4, and there is no ffmpeg: pip install imageio-ffmpeg, or set history to gif."
            )
        self.edit.check()
        self.guidance.check()

    @property
    def prompts(self) -> tuple[str, str]:
        """Source and target prompt with their style."""
        suffixes = [s for s in (STYLES[self.style], self.style_suffix.strip()) if s]
        source, target = (", ".join([prompt.strip(), *suffixes]) for prompt in (self.src_prompt, self.tgt_prompt))
        return source, target


class Results:
    """The folder an edit leaves: config, drawing, pictures, history and metrics."""

    def __init__(self, config: SvgEdit, editor: VectorEditor) -> None:
        """Makes the folder and saves what is known before the edit."""
        self.config, self.editor = config, editor
        self.folder = new_folder(config.output_dir, config.svg.stem)
        save_config(config, self.folder / "config.json")
        self.before = self._picture()
        self._save(self.before, "before.png")
        self._frames = [self.before]
        self._metrics: list[dict] = []

    @torch.no_grad()
    def _picture(self) -> Tensor:
        augmentation = self.config.edit.augmentation
        return self.editor.render(augmentation.plain(self.editor.canvas, self.editor.source.points))[0].cpu()

    def _image(self, picture: Tensor) -> Image.Image:
        return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())

    def _save(self, picture: Tensor, name: str) -> None:
        self._image(picture).save(self.folder / name)

    def record(self, report: StepReport) -> None:
        """Notes a step, and from time to time saves the drawing."""
        self._metrics.append({"step": report.step, "skipped": report.skipped, **report.metrics})
        if report.step % self.config.save_every == 0:
            self._frames.append(self._picture())
            self._write_drawing()

    def _write_drawing(self) -> None:
        (self.folder / "final.svg").write_bytes(self.editor.svg())

    @torch.no_grad()
    def save_draft(self, draft: Draft) -> None:
        """Saves the picture that the drawing was to be fit to, to compare with what its paths made of it."""
        self._save(draft.goal().pictures[0].cpu(), "draft.png")

    def finish(self, complete: bool, seconds: float) -> None:
        """Saves the result."""
        self._write_drawing()
        after = self._picture()
        self._save(after, "after.png")
        if self.config.history != "none":
            self._write_history([self._image(f) for f in [*self._frames, after]])
        error = (after - self.before).square().mean().clamp(min=1e-12)
        summary = {
            "complete": complete,
            "seconds": seconds,
            "psnr_to_source": float(-10 * torch.log10(error)),
            "steps": self._metrics,
        }
        (self.folder / "metrics.json").write_text(json.dumps(summary, indent=1) + "\n")

    def _write_history(self, frames: list[Image.Image]) -> None:
        target = self.folder / f"history.{self.config.history}"
        if self.config.history == "gif":
            frames[0].save(target, save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0)
            return
        write_video(target, map(np.asarray, frames), 1000 / FRAME_MILLISECONDS)


def edit_svg(config: SvgEdit, document: Document, guidance: Guidance, canvas: int, device: torch.device) -> Path:
    """Runs an edit and leaves its results in a folder.

    Args:
        config: what to do.
        document: the drawing.
        guidance: its prompts are set.
        canvas: side of the canvas in pixels.
        device: where to render.

    Returns:
        The folder. Ctrl-C leaves the drawing as far as it came.

    Raises:
        UserError: the drawing has nothing to edit.
    """
    editor = VectorEditor(document, canvas, config.edit.groups, device, BACKENDS[config.backend])
    loop = VectorEditLoop(editor, guidance, config.edit)
    results = Results(config, editor)
    start = time.perf_counter()
    complete = loop.run(results.record)
    if loop.draft is not None:
        results.save_draft(loop.draft)
    results.finish(complete, time.perf_counter() - start)
    return results.folder


def run(config: SvgEdit) -> Path:
    """Loads the model that the configuration names and edits the drawing with it.

    Raises:
        UserError: something about the configuration, the drawing or the model.
    """
    config.check()
    device = resolve_device(config.device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    document = Document.read(config.svg)
    guidance = Guidance.from_config(config.guidance, device)
    guidance.set_prompts(*config.prompts)
    return edit_svg(config, document, guidance, config.canvas or guidance.denoiser.resolution, device)


def main() -> None:
    """The command `pds-svg`."""
    try:
        folder = run(read_command(HELP, SvgEdit(svg=Path(), src_prompt="", tgt_prompt="")))
    except UserError as error:
        sys.exit(str(error))
    print(one_line(f"Wrote {folder / 'final.svg'}"))
