"""Ask whether a LoRA helps with a subject that no caption can say: a shirt of a shade without a name.

The embedded world photographs a man in it, from all sides to learn from, and from a camera of its own to be edited. He
is to raise his arms, and the sleeves have to be drawn anew: in the shade that the model was taught, or in the colour
that the nearest word names, or in whatever it thinks of where the prompts name none. Scores are dB to the true edit, of
the whole picture and where the edit changes it, and how far the shirt's mean colour is from the true one, in 0..√3.

    python scripts/evaluate_personalization.py --steps 150
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from torch import Tensor
from torchvision.utils import save_image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.images import cli as images
from pds_nerfstudio.images.picture import Picture
from pds_nerfstudio.images.recipes import RECIPES
from pds_nerfstudio.measures import decibels, psnr
from pds_nerfstudio.personalization import cli as personalization
from pds_nerfstudio.runs import new_folder
from pds_nerfstudio.toyworld.dataset import walk_around
from pds_nerfstudio.toyworld.geometry import PALETTE, build
from pds_nerfstudio.toyworld.grammar import Attributes
from pds_nerfstudio.toyworld.renderer import Cameras, render

Shade = tuple[float, float, float]
SHADES: dict[str, tuple[Shade, str]] = {
    "teal": ((0.05, 0.55, 0.52), "green"),
    "rust": ((0.72, 0.32, 0.14), "red"),
    "lilac": ((0.72, 0.60, 0.92), "pink"),
}
"""Each with the word for the nearest colour that the world has a name for."""
TRUE_CHANGE = 0.05
"""Where the true edit changes a pixel by more than this, it counts as changed."""


@dataclass
class Evaluation:
    """What to compare."""

    out: Path = Path("outputs/personalization")
    """The results go into a new folder in here."""
    shades: tuple[str, ...] = tuple(SHADES)
    """Which shades."""
    views: int = 8
    """Pictures to learn from."""
    steps: int = 150
    """Of the training."""
    learning_rate: float = 3e-4
    """Of the training."""
    samples: int = 4
    """Of the training: noises and times for each picture of a step."""
    seed: int = 0
    """Of cameras, training and edits."""


def photograph(shade: Shade, thing: Attributes, cameras: Cameras) -> Float[Tensor, "views 3 height width"]:
    """Return pictures of a thing whose colour is replaced by a shade."""
    solids = build([thing])
    named = torch.tensor(PALETTE[thing.color])

    def painted(rows: Float[Tensor, "1 solids numbers"]) -> Float[Tensor, "1 solids numbers"]:
        color = rows[..., -3:]  # the last three numbers of each solid
        return torch.cat([rows[..., :-3], torch.where((color == named).all(-1, True), torch.tensor(shade), color)], -1)

    with torch.no_grad():
        return render(replace(solids, cones=painted(solids.cones), boxes=painted(solids.boxes)), cameras).rgb


def compare(config: Evaluation, name: str, folder: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield each way to edit, with the dB of the whole picture, of what the edit changes, and the colour's error."""
    shade, word = SHADES[name]
    before = Attributes(subject="man", color="blue")
    after = replace(before, arms="raised")
    (folder / "views").mkdir(parents=True)
    for number, view in enumerate(photograph(shade, before, walk_around(config.views, config.seed))):
        save_image(view, folder / "views" / f"{number}.png")
    camera = walk_around(1, config.seed + 100)
    source, truth = (photograph(shade, thing, camera) for thing in (before, after))
    save_image(source, folder / "source.png")
    save_image(truth, folder / "true_edit.png")
    changed = ((truth - source).abs().amax(1, keepdim=True) > TRUE_CHANGE).expand_as(truth)
    other = photograph(PALETTE["white"], after, camera)  # differs in the shirt only
    shirt_only = ((truth - other).abs().amax(1, keepdim=True) > TRUE_CHANGE).expand_as(truth)

    def scores(image: Tensor) -> tuple[float, float, float]:
        off = (image - truth)[shirt_only].unflatten(0, (3, -1)).mean(1).norm()
        return float(psnr(image, truth)), float(decibels((image - truth)[changed].square().mean())), float(off)

    shirt = "a photo of a man in a sks shirt"
    lora = personalization.run(
        personalization.Personalize(
            data=folder / "views",
            subject="man",
            prompt=f"{shirt} on the grass",
            class_prompt="a photo of a man on the grass",
            steps=config.steps,
            learning_rate=config.learning_rate,
            samples=config.samples,
            prior_pictures=8,
            seed=config.seed,
            output_dir=folder,
        )
    )
    ways: dict[str, tuple[str, tuple[str, ...]]] = {
        "no word": ("a photo of a man", ()),
        f"'{word}'": (f"a photo of a man in a {word} shirt", ()),
        "LoRA": (shirt, (str(lora),)),
    }
    yield ("no edit", *scores(source))
    for way, (says, loras) in ways.items():
        edit = images.ImageEdit(folder / "source.png", f"{says} on the grass", f"{says} raising his arms on the grass")
        edit = replace(edit, **RECIPES["local"].changes, output_dir=folder / "edits")
        edit = replace(edit, guidance=replace(edit.guidance, lora=loras, seed=config.seed))
        yield (way, *scores(Picture.read(images.run(edit)).rgb()))


def main() -> None:
    """Run the comparison, and print its table."""
    config = tyro.cli(Evaluation, description=__doc__)
    warnings.filterwarnings("ignore", message="The model was never shown these words")
    try:
        folder = new_folder(config.out, "shades")
        lines = ["| shade | prompts | dB | dB where the edit changes | colour off by |", "|---|---|---|---|---|"]
        for shade in config.shades:
            for way, whole, inside, off in compare(config, shade, folder / shade):
                lines.append(f"| {shade} | {way} | {whole:.1f} | {inside:.1f} | {off:.2f} |")
                print(lines[-1], flush=True)
    except UserError as error:
        sys.exit(str(error))
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
