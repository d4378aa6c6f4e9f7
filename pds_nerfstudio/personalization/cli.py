"""pds-personalize: teach a model one subject from pictures of it, as a LoRA for later edits."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.progress import track

from pds_nerfstudio.checks import at_least, finite, seeds
from pds_nerfstudio.command_help import CommandHelp, FirstOption
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import resolve_device, resolve_dtypes
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.networks.card import ModelCard
from pds_nerfstudio.guidance.networks.loading import find_card, load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.personalization.lora import Lora, saver_of
from pds_nerfstudio.personalization.pictures import find_pictures, latents_of
from pds_nerfstudio.personalization.prior import draw_prior
from pds_nerfstudio.personalization.results import PROMPTS, PersonalResults, Unfinished, begin_folder, keep_pictures
from pds_nerfstudio.personalization.training import DreamBooth, Lesson
from pds_nerfstudio.runs import load_config, read_command

HELP = CommandHelp(
    command="pds-personalize",
    summary="Teach a model your subject from pictures: DreamBooth as a LoRA.",
    options=(
        FirstOption("--data", "pictures: a folder, one, or a data set", required=True),
        FirstOption("--subject", "what it is, in a word: man, dog", required=True),
        FirstOption("--token", "the word that will stand for yours"),
        FirstOption("--model", "the diffusion model: hub id or folder"),
        FirstOption("--steps", "steps of training"),
        FirstOption("--learning-rate", "length of a step"),
        FirstOption("--rank", "how much the LoRA can hold"),
        FirstOption("--prior-pictures", "of others of its kind, made by the model"),
        FirstOption("--seed", "another number makes another LoRA"),
        FirstOption("--output-dir", "results get a folder in here"),
    ),
    examples=(
        """\
pds-personalize --data scenes/man --subject man \\
    --model stable-diffusion-v1-5/stable-diffusion-v1-5""",
        """\
pds-personalize --data photos-of-my-dog --subject dog --token rex \\
    --model stabilityai/stable-diffusion-xl-base-1.0 --recompute""",
        "pds-personalize --repeat outputs/personal/sks-man/config.json",
        "pds-personalize --resume outputs/personal/sks-man",
    ),
)


@dataclass
class Personalize:
    """Teach a model one subject: DreamBooth (Ruiz et al. 2023) as a LoRA (Hu et al. 2022), with prior preservation."""

    data: Path
    """Pictures of the subject: a folder, one picture, or a nerfstudio data set (its training views)."""
    subject: str
    """What it is, in a word or two: man, dog, teddy bear."""
    token: str = "sks"
    """The word that will stand for yours in prompts: one that means nothing to the model yet."""
    prompt: str = ""
    """What the pictures show, with the token in it; left empty: a photo of TOKEN SUBJECT."""
    class_prompt: str = ""
    """What pictures of others of its kind show; left empty: a photo of a SUBJECT."""
    model: str = "toyworld"
    """The diffusion model: a hub id, a local folder or a single file of Stable Diffusion 1, 2, XL, 3 or 3.5, FLUX.1 or
    2, Chroma, Z-Image, Qwen-Image, Sana or Lumina 2. Take the one that you will edit with."""
    model_config: str = ""
    """For a model in a single file: folder of a model of the same kind."""
    steps: int = 500
    """Steps of training, each with one picture of the subject and one of its kind. More learn it better, and at last
    know nothing but the pictures."""
    learning_rate: float = 1e-4
    """Length of a step; it falls evenly towards the end."""
    rank: int = 16
    """How much the LoRA can hold; its file grows with it."""
    samples: int = 1
    """Noises and times for each picture of a step. More make steadier steps, which cost as much more."""
    prior_pictures: int = 50
    """How many pictures of its kind the model draws before it is trained, and goes on knowing; 0 does without."""
    prior_steps: int = 20
    """Sampling steps of each of them."""
    prior_weight: float = 1.0
    """How much they count, beside the subject's pictures."""
    resolution: int = 0
    """Side in pixels of the square whose area pictures are resized to; 0 takes the model's own."""
    recompute: bool = False
    """Whether activations are computed again on the way back: less memory, and slower steps."""
    seed: int = 0
    """Seeds the adapter, noise and times. The same seed repeats the same LoRA on the same machine."""
    save_every: int = 100
    """Steps from one save of the unfinished LoRA, and of what --resume goes on from, to the next."""
    device: str = "auto"
    """Where to work, for example cuda:0; 'auto' takes the first GPU, else the CPU."""
    output_dir: Path = Path("outputs/personal")
    """The results go into a new folder of the token's and the subject's name in here."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        for name in ("subject", "token"):
            if not getattr(self, name).strip():
                raise UserError(f"{name} is empty: give --{name} a word.")
        if self.token not in self.subject_prompt:
            raise UserError(f"prompt lacks the token '{self.token}': put it where your subject is named.")
        at_least(self, 1, "steps", "rank", "samples", "prior_steps", "save_every")
        at_least(self, 0, "prior_pictures", "resolution")
        finite(self, "learning_rate", above=True)
        finite(self, "prior_weight")
        seeds(self, "seed")

    @property
    def subject_prompt(self) -> str:
        """Return what the pictures show."""
        return self.prompt or f"a photo of {self.token} {self.subject}"

    @property
    def kind_prompt(self) -> str:
        """Return what pictures of others of its kind show."""
        return self.class_prompt or f"a photo of {'an' if self.subject[:1].lower() in 'aeiou' else 'a'} {self.subject}"

    def advice(self, file: Path) -> str:
        """Return which options and prompts an edit takes then."""
        return (
            f"model:         --guidance.model {self.model}\n"
            f"LoRA:          --guidance.lora {file} (scenes: --pipeline.guidance.lora)\n"
            f"source prompt: {self.subject_prompt}\n"
            f'target prompt: the same and the edit, as in "{self.subject_prompt} wearing a hat"\n'
        )


def load(config: Personalize, card: ModelCard) -> Denoiser:
    """Load the model to be trained.

    On a GPU it runs in bfloat16: gradients as small as those of training leave float16's range.

    Raises:
        UserError: If it or the device is not available.
    """
    device = resolve_device(config.device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    dtype, vae_dtype = resolve_dtypes("auto", device, torch.bfloat16)
    options = LoadOptions(device, dtype, vae_dtype, merged=False)
    return Denoiser(load_network(config.model, lambda half: options, config.model_config or None))


@contextmanager
def _new_words() -> Iterator[None]:
    """Let a model that lists its words be taught another one, without the warning that it doesn't know that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The model was never shown these words")
        yield


def _training(
    config: Personalize, denoiser: Denoiser, lora: Lora, lessons: Sequence[Lesson], draws: Draws
) -> DreamBooth:
    with _new_words():
        return DreamBooth(denoiser, lora.parameters, lessons, draws, config.steps, config.learning_rate, config.samples)


def run(config: Personalize) -> Path:
    """Teach a model a subject, and leave the LoRA in a new folder.

    Returns:
        The LoRA's file.

    Raises:
        UserError: If something is wrong with the configuration, the pictures or the model.
    """
    config.check()
    paths = find_pictures(config.data)
    card = find_card(config.model, config.model_config or None)
    saver_of(card)  # refuses those that nothing can be saved for, before anything is loaded
    denoiser = load(config, card)
    lora = Lora(denoiser.network, config.rank, config.seed, config.recompute)
    resolution = config.resolution or denoiser.resolution
    draws = Draws(config.seed, denoiser.device)
    latents = list(track(latents_of(paths, denoiser, resolution), "Reading pictures", len(paths)))
    lessons = [Lesson("subject", latents, config.subject_prompt)]
    folder = begin_folder(config, config.output_dir, f"{config.token}-{config.subject}")
    keep_pictures(folder / "seen", latents, denoiser)
    if config.prior_pictures:
        count, steps = config.prior_pictures, config.prior_steps
        drawn = draw_prior(denoiser, config.kind_prompt, count, resolution, steps, draws)
        kept = keep_pictures(folder / "prior", track(drawn, "Drawing others of its kind", count), denoiser)
        lessons.append(Lesson("prior", kept, config.kind_prompt, config.prior_weight))
    training = _training(config, denoiser, lora, lessons, draws)
    return PersonalResults(folder, config.save_every, config.advice, card).leave(training, lora, lessons)


def resume(folder: Path) -> Path:
    """Go on with a training that was cut short, from its last state.

    Args:
        folder: What it left.

    Returns:
        The LoRA's file.

    Raises:
        UserError: If the folder holds no training that is not finished, or its model or device is not there any more.
    """
    unfinished = Unfinished.read(folder)
    config = load_config(Personalize, folder / "config.json")
    card = find_card(config.model, config.model_config or None)
    denoiser = load(config, card)
    lora = Lora(denoiser.network, config.rank, config.seed, config.recompute)
    lessons = unfinished.lessons(denoiser.device)
    training = _training(config, denoiser, lora, lessons, Draws(config.seed, denoiser.device))
    training.go_on_from(unfinished.training)
    results = PersonalResults(folder, config.save_every, config.advice, card, unfinished)
    return results.leave(training, lora, lessons)


@dataclass
class _GoOn:
    """Go on with a training that was cut short, from its last state."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder that it left."""


def main() -> None:
    """Run the command `pds-personalize`."""
    try:
        if sys.argv[1:2] == ["--resume"]:
            file = resume(tyro.cli(_GoOn, prog=f"{HELP.command} --resume", args=sys.argv[2:]).folder)
        else:
            file = run(read_command(HELP, Personalize(data=Path(), subject="")))
    except UserError as error:
        sys.exit(error.on_command_line())
    print(one_line(f"Wrote {file} (and prompts.txt beside it). To edit with it:"))
    print("\n".join(one_line(line) for line in (file.parent / PROMPTS).read_text(encoding="utf-8").splitlines()))
