"""Ask whether a LoRA helps an edit of a subject whose look no caption can say: arms of another colour than the rest.

The embedded world photographs one from all sides to learn from, and from other cameras to be edited. It is to raise its
arms, so that they have to be drawn anew: in the colour that the model was taught, or in whatever it thinks of. Each
edit is made by PDS and by FlowEdit, as these leave it and redrawn. Scores are dB to the true edit, of the whole picture
and where the edit changes it, the share of pictures in which the world's classifier sees raised arms, and how far the
mean colour of the arms (and of what else is painted) is from the true one, in 0..√3.

What the model's VAE makes of the true edit stands beside: no edit can do better, and it can't hold every look.

    python scripts/evaluate_personalization.py
"""

from __future__ import annotations

import functools
import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from torch import Tensor
from torchvision.utils import save_image

from pds_nerfstudio.carry_back import carry_back
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import resolve_device
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.flow_edit import FlowEditMethod
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL
from pds_nerfstudio.images.cli import ImageEdit
from pds_nerfstudio.images.edit_loop import ImageEditLoop
from pds_nerfstudio.images.editor import ImageEditor
from pds_nerfstudio.images.recipes import RECIPES
from pds_nerfstudio.measures import decibels, psnr
from pds_nerfstudio.personalization import cli as personalization
from pds_nerfstudio.runs import new_folder
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.dataset import walk_around
from pds_nerfstudio.toyworld.geometry import PALETTE, RGB, RoundCone, build, solids_of
from pds_nerfstudio.toyworld.grammar import ARMS, Arms, Attributes, Color, article
from pds_nerfstudio.toyworld.renderer import Cameras, render

Views = Float[Tensor, "views 3 height width"]


@dataclass(frozen=True)
class Look:
    """A subject of which some parts have a colour that no caption gives them."""

    thing: Attributes
    """What captions can say."""
    parts: tuple[str, ...]
    """Which of its parts are painted: the last words of their names."""
    paint: RGB
    """What they are painted in."""
    word: Color
    """What a caption would call that, of another thing."""

    def photograph(self, arms: Arms, cameras: Cameras, paint: RGB | None = None) -> Views:
        """Return pictures of it, its parts in their own or in another paint."""
        thing = replace(self.thing, arms=arms)
        solids = build([thing])
        cones = solids.cones.clone()
        names = [solid.name for solid in solids_of(thing) if isinstance(solid, RoundCone)]
        for number, name in enumerate(names):
            if name.split()[-1] in self.parts:
                cones[0, number, -3:] = torch.tensor(paint or self.paint)
        with torch.no_grad():
            return render(replace(solids, cones=cones), cameras).rgb

    def prompts(self, word: str) -> tuple[str, str]:
        """Return what it is before and after the edit, where a word stands for its look; '' leaves that out."""
        subject, start = self.thing.subject, f"{article(word)} {word}" if word else ""
        if subject == "man":
            noun, its = f"a man in {start} shirt" if word else "a man", "his"
        else:
            noun, its = f"{start} {subject}" if word else f"a {subject}", "its"
        return f"a photo of {noun} on the grass", f"a photo of {noun} raising {its} arms on the grass"


LOOKS = {
    "raglan": Look(Attributes(subject="man", color="blue"), ("arm",), PALETTE["yellow"], "yellow"),
    "candy": Look(Attributes(subject="man", color="red"), ("arm",), PALETTE["white"], "white"),
    "baseball": Look(Attributes(subject="man", color="white"), ("arm",), PALETTE["red"], "red"),
    "plum": Look(Attributes(subject="man", color="purple"), ("arm",), PALETTE["yellow"], "yellow"),
    "bear": Look(Attributes(subject="bear", color="brown"), ("arm", "leg"), PALETTE["yellow"], "yellow"),
    "rust": Look(Attributes(subject="man", color="brown"), ("torso", "arm"), (0.72, 0.32, 0.14), "orange"),
}
"""The first two are the ones that options were chosen by; the others are to report on. The embedded VAE can hold them,
which it can't every shade between the world's colours, nor every pair of colours side by side."""
TRUE_CHANGE = 0.05
"""Where the true edit changes a pixel by more than this, it counts as changed."""


@dataclass
class Evaluation:
    """What to compare."""

    out: Path = Path("outputs/personalization")
    """The results go into a new folder in here."""
    looks: tuple[str, ...] = tuple(LOOKS)[2:]
    """Which looks."""
    views: int = 8
    """Pictures to learn from."""
    steps: int = 120
    """Of the training."""
    learning_rate: float = 2e-3
    """Of the training: the embedded model's layers are small, and want more than those of large models."""
    samples: int = 4
    """Of the training: noises and times for each picture of a step."""
    prior_pictures: int = 8
    """Of the training."""
    edits: int = 3
    """Pictures to edit."""
    edit_steps: int = 50
    """Of each edit."""
    seed: int = 0
    """Of cameras, training and edits."""
    token: str = "sks"
    """The word for the look."""
    device: str = "auto"
    """Where to work, for example cuda:0; 'auto' takes the first GPU, else the CPU."""

    @property
    def place(self) -> torch.device:
        """Return the device to work on."""
        return resolve_device(self.device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@dataclass(frozen=True)
class Scores:
    """How near pictures are to the true edit, on average."""

    whole: float
    """dB of the whole picture."""
    changed: float
    """dB where the true edit changes it."""
    raised: float
    """Share of pictures in which the classifier sees raised arms."""
    off: float
    """Distance of the mean colour of the painted parts from the true one."""

    def cells(self) -> str:
        """Return them as cells of a table."""
        return f"{self.whole:.1f} | {self.changed:.1f} | {self.raised:.2f} | {self.off:.2f}"


@dataclass
class Case:
    """Pictures of one look to be edited, and what they should become."""

    look: Look
    """Whose."""
    cameras: Cameras
    """From where."""
    source: Views = field(init=False)
    """Before the edit."""
    truth: Views = field(init=False)
    """The true edit."""

    def __post_init__(self) -> None:
        self.source, self.truth = (self.look.photograph(arms, self.cameras) for arms in ARMS)
        self._changed = (self.truth - self.source).abs().amax(1, keepdim=True) > TRUE_CHANGE
        other = self.look.photograph("raised", self.cameras, paint=(0.0, 1.0, 1.0))
        self._painted = (self.truth - other).abs().amax(1, keepdim=True) > TRUE_CHANGE

    def score(self, images: Views) -> Scores:
        """Compare with the true edit."""
        difference = images - self.truth

        def inside(mask: Tensor, values: Tensor) -> Tensor:
            return (values * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1)

        changed = decibels(inside(self._changed, difference.square()).mean(1))
        raised = _classifier().read(images)["arms"] == ARMS.index("raised")
        off = inside(self._painted, difference).norm(dim=1)
        return Scores(*(float(value.mean()) for value in (psnr(images, self.truth), changed, raised.float(), off)))


@functools.cache
def _classifier() -> AttributeClassifier:
    return AttributeClassifier.load()


def learn(config: Evaluation, look: Look, folder: Path) -> Path:
    """Teach the model a look from pictures of it, and return the LoRA's file."""
    (folder / "views").mkdir(parents=True)
    for number, view in enumerate(look.photograph("down", walk_around(config.views, config.seed))):
        save_image(view, folder / "views" / f"{number}.png")
    return personalization.run(
        personalization.Personalize(
            data=folder / "views",
            subject=look.thing.subject,
            token=config.token,
            prompt=look.prompts(config.token)[0],
            class_prompt=look.prompts("")[0],
            steps=config.steps,
            learning_rate=config.learning_rate,
            samples=config.samples,
            prior_pictures=config.prior_pictures,
            seed=config.seed,
            device=config.device,
            output_dir=folder,
        )
    )


def edit(
    config: Evaluation, method: FlowEditMethod, source: Views, prompts: tuple[str, str], loras: tuple[str, ...]
) -> tuple[Views, Views]:
    """Edit pictures as pds-image does, all together. Return the edit before it is redrawn, and the finished one."""
    settings = replace(ImageEdit(Path(), *prompts), **RECIPES["local"].changes)
    guidance = Guidance.from_config(replace(settings.guidance, lora=loras, seed=config.seed), config.place)
    guidance.set_prompts(*prompts)
    flow_edit = replace(settings.edit.flow_edit, method=method, steps=config.edit_steps)
    how = replace(settings.edit, flow_edit=flow_edit, steps=config.edit_steps, refine=0.0)
    editor = ImageEditor(source, guidance, "latent")
    ImageEditLoop(editor, how).run()
    plain = carry_back(source, editor.before, editor.pictures())
    editor.redraw(settings.edit.redrawing)
    return plain, carry_back(source, editor.before, editor.pictures())


METHODS: dict[str, FlowEditMethod] = {"PDS": "off", "FlowEdit": "flowedit"}
"""By the names in the table, as the option edit.flow_edit.method has them."""


def compare(config: Evaluation, name: str, folder: Path) -> Iterator[tuple[str, str, Scores]]:
    """Yield for each way to edit its name, what its prompts say and its scores, and leave a contact sheet."""
    look = LOOKS[name]
    case = Case(look, walk_around(config.edits, config.seed + 100))
    lora = learn(config, look, folder)
    ways: dict[str, tuple[str, tuple[str, ...]]] = {
        "no word": ("", ()),
        "colour of the body": (look.thing.color, ()),
        "colour of the parts": (look.word, ()),
        "token, no LoRA": (config.token, ()),
        "token, LoRA": (config.token, (str(lora),)),
    }
    yield "no edit", "", case.score(case.source)
    rows = [case.source, case.truth]
    for method, option in METHODS.items():
        for says, (word, loras) in ways.items():
            plain, redrawn = edit(config, option, case.source, look.prompts(word), loras)
            yield method, says, case.score(plain)
            yield f"{method}, redrawn", says, case.score(redrawn)
            rows.append(redrawn)
    model = Denoiser.from_pretrained(EMBEDDED_MODEL, config.place, torch.float32)
    seen = model.decode_latents(model.encode_image(case.truth.to(model.device)).detach())
    yield "the true edit through the VAE", "", case.score(seen.cpu())
    save_image(torch.cat(rows), folder / "sheet.png", nrow=config.edits)


def mean(scores: list[Scores]) -> Scores:
    """Return the mean of each score."""
    columns = zip(*(astuple(some) for some in scores), strict=True)
    return Scores(*(math.fsum(column) / len(scores) for column in columns))


def main() -> None:
    """Run the comparison, and print its table."""
    config = tyro.cli(Evaluation, description=__doc__)
    warnings.filterwarnings("ignore", message="The model was never shown these words")
    lines = ["| look | edit | prompts | dB | dB where it changes | raised | colour off |", "|---" * 7 + "|"]
    found: dict[tuple[str, str], list[Scores]] = {}
    begun = time.perf_counter()
    try:
        folder = new_folder(config.out, "looks")
        for name in config.looks:
            for method, says, scores in compare(config, name, folder / name):
                found.setdefault((method, says), []).append(scores)
                lines.append(f"| {name} | {method} | {says} | {scores.cells()} |")
                print(f"{time.perf_counter() - begun:5.0f} s {lines[-1]}", flush=True)
    except UserError as error:
        sys.exit(str(error))
    lines += [f"| mean | {method} | {says} | {mean(of_all).cells()} |" for (method, says), of_all in found.items()]
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
