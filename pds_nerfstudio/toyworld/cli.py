"""pds-toyworld: write scenes and drawings of the embedded world, each with the true result of an edit."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.progress import track

from pds_nerfstudio.checks import at_least, seeds
from pds_nerfstudio.command_help import CommandHelp, FirstOption, parse
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.drawing import PAPER, drawing
from pds_nerfstudio.toyworld.grammar import Attributes, asked_edit, caption
from pds_nerfstudio.whole_files import write_text

SCENE_HELP = CommandHelp(
    command="pds-toyworld scene",
    summary="Write a scene as a nerfstudio data set, its true edit on record.",
    options=(
        FirstOption("--out", "the folder to write", required=True),
        FirstOption("--edit", "the edit, as attribute=value", required=True),
        FirstOption("--thing.subject", "who or what stands in the scene"),
        FirstOption("--thing.color", "colour of its body, shirt or scarf"),
        FirstOption("--views", "cameras around the subject"),
        FirstOption("--width", "width of the images in pixels"),
        FirstOption("--height", "height of the images in pixels"),
        FirstOption("--seed", "another number moves the cameras"),
    ),
    examples=(
        "pds-toyworld scene --out scenes/man --edit arms=raised",
        """\
pds-toyworld scene --out scenes/bear --edit hat=party \\
    --thing.subject bear --thing.color brown --thing.ground snow""",
    ),
)
DRAWING_HELP = CommandHelp(
    command="pds-toyworld drawing",
    summary="Write a layered SVG, beside it its true edit and both captions.",
    options=(
        FirstOption("--out", "the folder to write", required=True),
        FirstOption("--edit", "the edit, as attribute=value", required=True),
        FirstOption("--thing.subject", "who or what is drawn"),
        FirstOption("--thing.color", "colour of its body, shirt or scarf"),
    ),
    examples=(
        "pds-toyworld drawing --out drawings/man --edit arms=raised",
        """\
pds-toyworld drawing --out drawings/cube --edit color=red \\
    --thing.subject cube""",
    ),
)


@dataclass
class SceneOrder:
    """A scene to write."""

    out: Path
    """Folder to write; it must not hold a scene yet."""
    edit: str
    """The edit, as attribute=value: arms=raised, hat=party, color=red, subject=robot, balloon=held, sky=sunset ..."""
    thing: Attributes = field(default_factory=Attributes)
    """What the scene shows before the edit."""
    views: int = 32
    """Cameras around the subject."""
    width: int = 128
    """Width of the images in pixels."""
    height: int = 128
    """Height of the images in pixels."""
    seed: int = 0
    """Seed of the cameras."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        at_least(self, 1, "views", "width", "height")
        seeds(self, "seed")

    def write(self) -> str:
        """Write the scene, and return the command that edits it.

        Raises:
            UserError: If there is no such edit, or the folder holds a scene.
        """
        self.check()
        target = asked_edit(self.thing, self.edit)
        steps = write_scene(self.out, self.thing, target, self.views, self.width, self.height, self.seed)
        try:
            for _ in track(steps, total=self.views, description="Photographing"):
                pass
        except FileExistsError as error:
            raise UserError(str(error)) from None
        return (
            f"    ns-train pds-splat-toyworld --data {shlex.quote(str(self.out))} \\\n"
            f'        --pipeline.src-prompt "{caption(self.thing)}" \\\n'
            f'        --pipeline.tgt-prompt "{caption(target)}"'
        )


@dataclass
class DrawingOrder:
    """A drawing to write."""

    out: Path
    """Folder to write; it must not hold drawings yet."""
    edit: str
    """The edit, as attribute=value: arms=raised, hat=party, color=red, subject=robot, balloon=held ..."""
    thing: Attributes = field(default_factory=lambda: Attributes(style="drawing"))
    """What is drawn before the edit."""

    def write(self) -> str:
        """Write source.svg, true_edit.svg and captions.txt, and return the command that edits the source.

        Raises:
            UserError: If there is no such edit, or the folder holds drawings.
        """
        source = replace(self.thing, style="drawing")
        target = asked_edit(source, self.edit)
        if (self.out / "source.svg").exists():
            raise UserError(f"{self.out} holds drawings already: give a new folder.")
        write_text(self.out / "source.svg", drawing(source))
        write_text(self.out / "true_edit.svg", drawing(target))
        write_text(self.out / "captions.txt", f"{caption(source)}\n{caption(target)}\n")
        return (
            f'    pds-svg --svg {shlex.quote(str(self.out / "source.svg"))} --edit.background "{PAPER}" \\\n'
            f'        --src-prompt "{caption(source)}" \\\n        --tgt-prompt "{caption(target)}"'
        )


def _subcommand(kind: type, about: CommandHelp) -> Any:
    """Return what tyro makes a subcommand of."""
    return Annotated[kind, tyro.conf.subcommand(about.command.split()[-1], description=about.summary)]


def _read_command() -> SceneOrder | DrawingOrder:
    """Return what the command line orders."""
    if sys.argv[1:2] == ["scene"]:
        return parse(SceneOrder, SCENE_HELP.command, SCENE_HELP.text(SceneOrder(Path(), "")), sys.argv[2:])
    if sys.argv[1:2] == ["drawing"]:
        return parse(DrawingOrder, DRAWING_HELP.command, DRAWING_HELP.text(DrawingOrder(Path(), "")), sys.argv[2:])
    orders: Any = _subcommand(SceneOrder, SCENE_HELP) | _subcommand(DrawingOrder, DRAWING_HELP)
    return tyro.cli(orders, prog="pds-toyworld", description="Write a thing of the embedded world, and its true edit.")


def main() -> None:
    """Run the command `pds-toyworld`."""
    order = _read_command()
    try:
        command = order.write()
    except UserError as error:
        sys.exit(f"Error: {error.on_command_line()}")
    print(f"Wrote {order.out}. To edit it:\n\n{command}")
