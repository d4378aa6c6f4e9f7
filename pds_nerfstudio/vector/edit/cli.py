"""pds-svg: edit an SVG by text, from file to file."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from pds_nerfstudio.checks import at_least, check_parts, require
from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.runs import EditCommand, Results, Saved, new_folder, place_of
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.given_draft import canvas_for, on_canvas
from pds_nerfstudio.vector.edit.holding import Holding
from pds_nerfstudio.vector.edit.loop import VectorEditConfig, VectorEditLoop, drawing_guidance
from pds_nerfstudio.vector.edit.preview import Frame, to_picture, write_preview
from pds_nerfstudio.vector.edit.selection import parse_region, parse_selectors
from pds_nerfstudio.vector.raster.backend import Backend, exact
from pds_nerfstudio.vector.raster.diffvg import DiffvgRenderer
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document
from pds_nerfstudio.video import has_ffmpeg, write_video
from pds_nerfstudio.whole_files import whole_file, write_bytes

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
        FirstOption("--src-prompt", "what it shows"),
        FirstOption("--tgt-prompt", "what it should show"),
        FirstOption("--draft", "in place of prompts: a picture to fit it to"),
        FirstOption("--guidance.model", "the diffusion model: hub id or folder"),
        FirstOption("--guidance.guidance-scale", "how strongly the prompts are obeyed"),
        FirstOption("--guidance.identity-weight", "how strongly the source is kept"),
        FirstOption("--guidance.objective", "what is distilled; lusd suits styles"),
        FirstOption("--edit.draft.steps", "steps that edit a render of the drawing"),
        FirstOption("--edit.fit-steps", "steps that fit paths to that render"),
        FirstOption("--edit.new-paths", "new paths for what is missing, at most"),
        FirstOption("--edit.background", "colour below the drawing"),
        FirstOption("--only", "what alone may change: #ids, .classes"),
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
        "pds-svg --svg logo.svg --draft logo-edited.png",
        "pds-svg --repeat outputs/svg/tiger/config.json",
    ),
)


@dataclass
class SvgEdit:
    """Edit an SVG by text with Posterior Distillation Sampling.

    Paths, points and paints move until the drawing fits the target prompt, and new paths show what they cannot; the
    file keeps its elements, ids and groups.
    """

    svg: Path
    """The drawing to edit."""
    src_prompt: str = ""
    """What the drawing shows. Prompts must be given, unless there is a draft."""
    tgt_prompt: str = ""
    """What it should show. It works best if only the edit differs from the source prompt."""
    draft: Path | None = None
    """A picture of what the drawing should look like, such as a render of it that you have edited in another program.
    The drawing is fit to it, without prompts and without a model. It has the drawing's proportions; or it is square,
    with the drawing in the middle, as before.png is."""
    output_dir: Path = Path("outputs/svg")
    """The results go into a new folder of the drawing's name in here."""
    style: Literal["none", "iconography", "pixelart"] = "none"
    """A drawing style, whose description is added to both prompts."""
    style_suffix: str = ""
    """Words of your own, added to both prompts."""
    canvas: int = 0
    """Side in pixels of the square canvas; 0 takes the size that the model was trained with, or that of the draft, up
    to 512."""
    device: str = "auto"
    """Where to render, for example cuda:0; 'auto' takes the first GPU, else the CPU."""
    save_every: int = 20
    """Steps from one save to the next: a frame of the history, and the unfinished drawing."""
    history: Literal["gif", "mp4", "none"] = "gif"
    """Whether to leave an animation of the edit."""
    backend: Literal["exact", "pytorch", "pydiffvg"] = "exact"
    """The rasteriser. exact: this package's own, on a GPU in Triton kernels if Triton is installed. pytorch: the same
    without Triton; slower on a GPU. pydiffvg: if that is installed, for plain drawings."""
    guidance: GuidanceConfig = field(default_factory=drawing_guidance)
    """The diffusion model, the objective and the seed."""
    edit: VectorEditConfig = field(default_factory=VectorEditConfig)
    """How the drawing follows the guidance."""
    only: str = ""
    """What alone may change of the drawing: CSS selectors, such as "#hat, .arm". A group stands
    for all that is in it. New paths may lie on the paper and on that; all may change by default."""
    lock: str = ""
    """What must not change, in the same words. New paths do not cover it."""
    text: Literal["keep", "outlines"] = "keep"
    """keep: text stays text, drawn and not edited. outlines: it becomes paths, which are edited as all others are."""
    region: str = ""
    """x,y,width,height in the drawing's units: parts that are mostly outside stay, and nothing new is drawn there."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        pixels = "pixels up to 4096, or 0 for the model's own size"
        require(self, ["canvas"], lambda canvas: 0 <= canvas <= 4096, pixels)
        at_least(self, 1, "save_every", give="a number of steps, at least 1")
        if self.history == "mp4" and not has_ffmpeg():
            raise UserError(
                "`history` is mp4, and there is no ffmpeg: pip install imageio-ffmpeg, or set `history` to gif."
            )
        for option in ("only", "lock"):
            parse_selectors(getattr(self, option), option)
        parse_region(self.region)
        if self.needs_model and not (self.src_prompt.strip() or self.tgt_prompt.strip()):
            raise UserError("There are no prompts: give src_prompt and tgt_prompt, or a draft.")
        check_parts(self, "edit", "guidance")

    @property
    def needs_model(self) -> bool:
        """Return whether a diffusion model takes part."""
        return self.draft is None or self.edit.steps > 0 or self.edit.refine_steps > 0

    @property
    def prompts(self) -> tuple[str, str]:
        """Return the source and the target prompt with their style; an empty one stays so."""
        suffixes = [s for s in (STYLES[self.style], self.style_suffix.strip()) if s]
        prompts = self.src_prompt.strip(), self.tgt_prompt.strip()
        source, target = (", ".join([prompt, *suffixes]) if prompt else "" for prompt in prompts)
        return source, target


class SvgResults(Results):
    """The folder that an edit of a drawing leaves.

    Args:
        config: Of the edit.
        editor: Has the drawing as it is by now.
        loop: Edits it.
    """

    command = HELP.command

    def __init__(self, config: SvgEdit, editor: VectorEditor, loop: VectorEditLoop) -> None:
        super().__init__(config, new_folder(config.output_dir, config.svg.stem), config.save_every)
        self.config, self.editor, self.loop = config, editor, loop
        self.before = self._picture()
        self._frames = [self.before]
        self._save_picture(self.before, "before")

    @torch.no_grad()
    def _picture(self) -> Frame:
        augmentation = self.config.edit.augmentation
        return self.editor.render(augmentation.plain(self.editor.canvas, self.editor.source.points))[0].cpu()

    def save_progress(self) -> None:
        """Save the drawing, and a frame of the history."""
        self._frames.append(self._picture())
        self._write_drawing()

    def _write_drawing(self) -> Path:
        file = self.folder / f"final{self.editor.document.suffix}"
        write_bytes(file, self.editor.svg())
        return file

    @torch.no_grad()
    def save(self) -> Saved:
        """Save the drawing, its picture, the history, and the picture that the drawing was to be fit to."""
        draft = None if self.loop.draft is None else self.loop.draft.goal().images[0].cpu()
        if draft is not None:
            self._save_picture(draft, "draft")
        file, after = self._write_drawing(), self._picture()
        self._save_picture(after, "after")
        write_preview(self.folder, self.config.prompts, self.before, draft, after)
        if self.config.history != "none":
            self._write_history([Image.fromarray(to_picture(frame)) for frame in [*self._frames, after]])
        fit = self.loop.path_fit
        if fit is None:
            return Saved(file, self.before, after)
        print(fit.report)
        return Saved(file, self.before, after, asdict(fit.report))

    def _save_picture(self, frame: Frame, name: str) -> None:
        with whole_file(self.folder / f"{name}.png") as unfinished:
            Image.fromarray(to_picture(frame)).save(unfinished)

    def _write_history(self, frames: list[Image.Image]) -> None:
        target = self.folder / f"history.{self.config.history}"
        if self.config.history == "gif":
            with whole_file(target) as unfinished:
                frames[0].save(unfinished, save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0)
            return
        write_video(target, map(np.asarray, frames), 1000 / FRAME_MILLISECONDS)


def read_drawing(config: SvgEdit) -> Document:
    """Read the drawing that a configuration names.

    Raises:
        UserError: If it is none.
    """
    return Document.read(config.svg, outlines=config.text == "outlines")


def edit_svg(config: SvgEdit, document: Document, guidance: Guidance | None) -> Path:
    """Run an edit and leave its results in a new folder.

    Args:
        config: What to do.
        document: The drawing.
        guidance: Its prompts are set; None if the configuration needs no model.

    Returns:
        The edited drawing's file. Ctrl-C leaves the drawing as far as it came.

    Raises:
        UserError: If the drawing has nothing to edit, or the draft cannot be read or has other proportions.
    """
    canvas, draft, picture = config.canvas, None, None
    if config.draft is not None:
        draft = Picture.read(config.draft)
        canvas = canvas or canvas_for(draft)
    elif guidance is not None:
        canvas = canvas or guidance.denoiser.resolution
    editor = VectorEditor(document, canvas, config.edit.groups, place_of(config), BACKENDS[config.backend])
    if draft is not None:
        paper = config.edit.augmentation.plain(canvas, editor.source.points)
        picture = on_canvas(draft, document.size, paper, config.draft)
    holding = Holding(config.only, config.lock, config.region)
    loop = VectorEditLoop(editor, guidance, config.edit, holding, picture)
    return SvgResults(config, editor, loop).leave(loop)


class SvgCommand(EditCommand[SvgEdit, Document]):
    """The command, which needs no model where a draft is given."""

    def run(self, config: SvgEdit) -> Path:
        """Edit the drawing that a configuration names; see `EditCommand.run`."""
        config.check()
        return super().run(config) if config.needs_model else edit_svg(config, self.read(config), None)


_COMMAND = SvgCommand(HELP, SvgEdit(svg=Path()), read_drawing, edit_svg, hint=" (and preview.html beside it)")
run = _COMMAND.run
"""Edit the drawing that an `SvgEdit` names; see `EditCommand.run`."""


def main() -> None:
    """Run the command `pds-svg`."""
    _COMMAND.main()
