"""pds-image: edit a picture by text, from file to file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pds_nerfstudio.carry_back import carry_back
from pds_nerfstudio.checks import at_least, check_parts
from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.images.edit_loop import ImageEditConfig, ImageEditLoop, picture_guidance
from pds_nerfstudio.images.editor import ImageEditor
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.images.recipes import RECIPES
from pds_nerfstudio.page import Picture as Shown
from pds_nerfstudio.preview import write_preview_page
from pds_nerfstudio.runs import EditCommand, Results, Saved, new_folder
from pds_nerfstudio.whole_files import whole_file

_SHEET_SIDE = 768
Mask = Float[Tensor, "1 1 height width"]
"""How much each pixel may change, in 0..1."""

HELP = CommandHelp(
    command="pds-image",
    summary="Edit a picture by text, with Posterior Distillation Sampling.",
    options=(
        FirstOption("--image", "the picture to edit", required=True),
        FirstOption("--src-prompt", "what it shows", required=True),
        FirstOption("--tgt-prompt", "what it should show", required=True),
        FirstOption("--guidance.model", "the diffusion model: hub id or folder"),
        FirstOption("--guidance.guidance-scale", "how strongly the prompts are obeyed"),
        FirstOption("--guidance.identity-weight", "how strongly the source is kept"),
        FirstOption("--guidance.objective", "what is distilled; lusd suits styles"),
        FirstOption("--mask", "a picture, white where it may change"),
        FirstOption("--edit.steps", "steps of the edit"),
        FirstOption("--edit.flow-edit.method", "flowedit edits without an optimiser"),
        FirstOption("--edit.refine-scale", "for Stable Diffusion take 7.5"),
        FirstOption("--guidance.seed", "another number makes another edit"),
        FirstOption("--output-dir", "results get a folder in here"),
    ),
    examples=(
        """\
pds-image --image man.png --src-prompt "a photo of a man on the grass" \\
    --tgt-prompt "a photo of a man wearing a red top hat on the grass\"""",
        """\
pds-image --image cat.jpg --src-prompt "a photo of a cat" \\
    --tgt-prompt "a photo of a tiger" --edit.refine-scale 7.5 \\
    --guidance.model stable-diffusion-v1-5/stable-diffusion-v1-5""",
        "pds-image --repeat outputs/images/cat/config.json",
    ),
)


@dataclass
class ImageEdit:
    """Edit a picture by text with Posterior Distillation Sampling.

    The result has the size and mode of the picture (any that Pillow reads, and PNG of 16 bits), and its detail wherever
    the edit changes nothing. Each edit gets a folder of its own.
    """

    image: Path
    """The picture to edit."""
    src_prompt: str
    """What the picture shows."""
    tgt_prompt: str
    """What it should show. It works best if only the edit differs from the source prompt."""
    mask: Path | None = None
    """A picture of the same size, white where the edit may change something and black where everything is to stay
    exactly as it is; greys blend. Opacity counts if the mask has any, else brightness."""
    output_dir: Path = Path("outputs/images")
    """The results go into a new folder of the picture's name in here."""
    device: str = "auto"
    """Where to work, for example cuda:0; 'auto' takes the first GPU, else the CPU."""
    preview_every: int = 25
    """Steps from one save of the unfinished picture, as preview.png, to the next."""
    guidance: GuidanceConfig = field(default_factory=picture_guidance)
    """The diffusion model, the objective and the seed."""
    edit: ImageEditConfig = field(default_factory=ImageEditConfig)
    """How the picture follows the guidance."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 1, "preview_every", give="a number of steps, at least 1")
        check_parts(self, "edit", "guidance")

    @property
    def prompts(self) -> tuple[str, str]:
        """Return what the picture shows, and what it should show."""
        return self.src_prompt, self.tgt_prompt


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Return how much each pixel may change: the opacity of the picture at `path` if it has any, else its brightness.

    Raises:
        UserError: If it cannot be read, has another size than `size` (height, width), or lets nothing change.
    """
    picture = Picture.read(path)
    if picture.size != size:
        (height, width), (own_height, own_width) = size, picture.size
        raise UserError(
            f"{path} is {own_width}×{own_height} pixels and the picture {width}×{height}: give one of its size."
        )
    opacity = picture.opacity()
    mask = opacity if (opacity < 1).any() else picture.rgb().mean(1, keepdim=True)
    if not (mask > 0).any():
        raise UserError(f"{path} is black everywhere and so lets nothing change: make the part to edit white.")
    return mask


class ImageResults(Results):
    """The folder that an edit of a picture leaves.

    Args:
        config: Of the edit.
        source: The picture.
        mask: How much each pixel may change; None is all.
        editor: Has the picture as it is by now.
    """

    command = HELP.command

    def __init__(self, config: ImageEdit, source: Picture, mask: Mask | None, editor: ImageEditor) -> None:
        super().__init__(config, new_folder(config.output_dir, config.image.stem), config.preview_every)
        self.prompts, self.source, self.mask, self.editor = config.prompts, source, mask, editor

    def picture(self) -> Picture:
        """Return the source with the edit so far."""
        changed = carry_back(self.source.rgb(), self.editor.before, self.editor.pictures())
        return self.source.with_rgb(changed, self.mask)

    def save_progress(self) -> None:
        """Save a preview."""
        self.picture().write(self.folder / "preview.png", self.source)

    def save(self) -> Saved:
        """Save the picture, and a sheet that compares it with its source."""
        edited, file = self.picture(), self.folder / "edited.png"
        edited.write(file, self.source)
        before, after = self.source.rgb(), edited.rgb()
        with whole_file(self.folder / "before_after.png") as unfinished:
            _beside(before, after).save(unfinished)
        pictures = {"before": _shown(before), "after": _shown(after)}
        write_preview_page(self.folder, self.prompts, pictures, "the picture")
        changed = float((edited.pixels != self.source.pixels).any(2).mean())
        return Saved(file, before, after, {"share_of_pixels_changed": changed})


def _beside(before: Float[Tensor, "1 3 height width"], after: Float[Tensor, "1 3 height width"]) -> Image.Image:
    """Return two pictures side by side, small enough for a screen."""
    image = Image.fromarray(_shown(torch.cat([before, after], 3)))
    image.thumbnail((2 * _SHEET_SIDE, _SHEET_SIDE), Image.Resampling.LANCZOS)
    return image


def _shown(picture: Float[Tensor, "1 3 height width"]) -> Shown:
    """Return a picture as bytes."""
    return np.ascontiguousarray((picture[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def read_picture(config: ImageEdit) -> tuple[Picture, Mask | None]:
    """Read the picture and the mask that a configuration names.

    Raises:
        UserError: If one of them cannot be read, or they do not fit.
    """
    source = Picture.read(config.image)
    return source, None if config.mask is None else read_mask(config.mask, source.size)


def edit_picture(config: ImageEdit, read: tuple[Picture, Mask | None], guidance: Guidance) -> Path:
    """Run an edit and leave its results in a new folder.

    Args:
        config: What to do.
        read: The picture, and how much each of its pixels may change; None is all.
        guidance: Its prompts are set.

    Returns:
        The edited picture's file. Ctrl-C leaves the picture as far as it came.

    Raises:
        UserError: If the picture is too small.
    """
    source, mask = read
    editor = ImageEditor(source.rgb(), guidance, config.edit.parameters, mask)
    loop = ImageEditLoop(editor, config.edit)
    return ImageResults(config, source, mask, editor).leave(loop)


_COMMAND = EditCommand(
    HELP,
    ImageEdit(image=Path(), src_prompt="", tgt_prompt=""),
    read_picture,
    edit_picture,
    RECIPES,
    hint=" (and preview.html beside it)",
)
run = _COMMAND.run
"""Edit the picture that an `ImageEdit` names; see `EditCommand.run`."""


def main() -> None:
    """Run the command `pds-image`."""
    _COMMAND.main()
