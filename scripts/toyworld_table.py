"""How right an embedded model's samples are: what its table says of it, whichever pipeline it is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from torchvision.utils import save_image
from training_run import Run

from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, caption, labels, sample


def read_accuracy(classifier: AttributeClassifier, images: Tensor, things: list[Attributes]) -> dict[str, float]:
    """Return how often the classifier reads each attribute right, where it shows (a sky: where captions name it)."""
    read = [classifier.read(part) for part in images.split(250)]
    truth = torch.tensor([labels(thing) for thing in things], device=images.device)
    day = torch.tensor([thing.sky == "day" for thing in things], device=images.device)
    accuracy = {}
    for i, name in enumerate(VALUES):
        right = torch.cat([part[name] for part in read]) == truth[:, i]
        shown = (truth[:, i] >= 0) & ~(day if name == "sky" else torch.zeros_like(day))
        accuracy[name] = round(right[shown].float().mean().item(), 4)
    return accuracy


def evaluate(
    run: Run,
    folder: Path,
    classifier: AttributeClassifier,
    out: Path,
    seed: int,
    n: int = 512,
    steps: int = 40,
    batch: int = 128,
) -> dict[str, dict[str, float]]:
    """Sample from captions never seen, read the samples with the classifier, and say how often they are right.

    Args:
        run: Where it runs, and the log.
        folder: The pipeline's, of whichever kind.
        classifier: Reads the samples.
        out: Folder for contact sheets and their captions.
        seed: Of the captions and the noise.
        n: Captions a row of the table.
        steps: Of the pipeline's own sampler.
        batch: Captions at a time.

    Returns:
        For each row, how often each attribute is right.
    """
    index = json.loads((folder / "model_index.json").read_text())
    absent = {name: None for name, part in index.items() if part == [None, None]}  # T5 has to be said to be absent
    pipeline = DiffusionPipeline.from_pretrained(folder, **absent).to(run.device, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    table = {}
    for name, held_out, guidance_scale in (
        ("new captions, CFG 3", False, 3.0),
        ("held-out combinations, CFG 3", True, 3.0),
        ("new captions, CFG 7.5", False, 7.5),
    ):
        rng = random.Random(seed + 1000)
        things = [sample(rng, held_out) for _ in range(n)]
        captions = [caption(thing) for thing in things]
        generator = torch.Generator(run.device).manual_seed(seed)
        images = torch.cat(
            [
                pipeline(
                    captions[i : i + batch],
                    num_inference_steps=steps,
                    guidance_scale=guidance_scale,
                    generator=generator,
                    output_type="pt",
                ).images
                for i in range(0, n, batch)
            ]
        ).float()
        table[name] = read_accuracy(classifier, images, things)
        run.log(name, **table[name])
        if not held_out:
            save_image(images[:64], out / f"samples_cfg{guidance_scale:g}.png", nrow=16)
            (out / "samples.txt").write_text("\n".join(captions[:64]) + "\n")
    return table
