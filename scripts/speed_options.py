"""Time a step of guidance with different options, in turns, so that other work on the machine slows all alike.

python scripts/speed_options.py                       # the embedded model, on a CPU or a GPU
python scripts/speed_options.py --variants pds pds,samples=2 lusd --steps 40
python scripts/speed_options.py --model outputs/sd15-random

A step goes from the image to the gradient on it. Options of the guidance that aren't here change numbers, not work:
they cost nothing. Below the variants stands one redrawing of a view.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from speed_guidance import PROMPTS, editors_step
from speed_timing import instant, machine, milliseconds, synchronize

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.representations import Variant, configured
from pds_nerfstudio.guidance.config import GuidanceConfig, resolve_device, resolve_dtypes
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL
from pds_nerfstudio.guidance.redraw import RedrawConfig


@dataclass
class OptionsSpeed:
    """What to time."""

    variants: tuple[str, ...] = (
        "pds",
        "pds,localize=1",
        "pds,localize=1,localize_by=attention",
        "pds,localize=1,identity_inside=.5,t_schedule=annealed,t_power=2",
        "pds,samples=2",
        "pds,samples=4",
        "pds,fixed_point_steps=3",
        "dreamcatalyst",
        "dds",
        "ssd",
        "lusd",
        "sds",
    )
    """An objective, and after commas options of the guidance as name=value. The first is what the others are compared
    with."""
    model: str = EMBEDDED_MODEL
    """'toyworld', or a folder or hub id of Stable Diffusion."""
    compile: bool = False
    """Whether networks are compiled, which takes minutes for each number of latents among the variants."""
    steps: int = 25
    """Steps of each that are timed."""
    warm_up: int = 2
    """Steps of each before that."""
    device: str = "auto"
    """Where to work; 'auto' takes the first GPU, else the CPU."""
    out: Path = Path("outputs/speed-options.json")
    """Where the figures go."""


def main(speed: OptionsSpeed) -> None:
    """Measure, print the table, and write it down."""
    device = resolve_device(speed.device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    dtype, vae_dtype = resolve_dtypes("auto", device)
    denoiser = Denoiser.from_pretrained(speed.model, device, dtype, speed.compile, vae_dtype)
    rng = torch.Generator().manual_seed(0)
    source, image = (torch.rand(1, 3, denoiser.resolution, denoiser.resolution, generator=rng) for _ in range(2))
    source, image = source.to(device), torch.lerp(source, image, 0.3).to(device).requires_grad_()
    steps: dict[str, Callable[[], object]] = {
        text: functools.partial(editors_step(guidance_of(text, denoiser)), image, source) for text in speed.variants
    }
    first = guidance_of(speed.variants[0], denoiser)
    steps["a redrawing"] = lambda: first.redraw(image.detach(), source, RedrawConfig())
    for step in steps.values():
        for _ in range(speed.warm_up):
            step()
    times: dict[str, list[float]] = {text: [] for text in steps}
    for _ in track(range(speed.steps), "Timing"):
        instants = [instant(device)]
        for step in steps.values():
            step()
            instants.append(instant(device))
        synchronize(device)
        for text, begin, end in zip(steps, instants, instants[1:], strict=False):
            times[text].append(milliseconds(begin, end))
    medians = {text: statistics.median(some) for text, some in times.items()}
    base = medians[speed.variants[0]]
    size = " × ".join(map(str, image.shape[-2:]))
    table = Table("variant", "ms", "more", "times", title=f"{speed.model}, {size}; {machine(device)}")
    for text, median in medians.items():
        table.add_row(text, f"{median:.1f}", f"{median - base:+.1f}", f"{median / base:.2f}")
    Console(width=110).print(table)
    speed.out.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine(device), "torch": torch.__version__, "milliseconds": medians}
    speed.out.write_text(json.dumps({**asdict(speed), **figures}, indent=1, default=str) + "\n")
    print(f"Wrote {speed.out}")


def guidance_of(text: str, denoiser: Denoiser) -> Guidance:
    """Return the guidance of a variant.

    Raises:
        UserError: If there is no such objective or option.
    """
    config, rest = configured(GuidanceConfig(), Variant(text).options)
    if rest:
        raise UserError(f"'{text}': there is no option {', '.join(rest)} of the guidance.")
    guidance = Guidance(config, denoiser)
    guidance.set_prompts(*PROMPTS)
    return guidance


if __name__ == "__main__":
    try:
        main(tyro.cli(OptionsSpeed, description=__doc__))
    except UserError as error:
        sys.exit(f"Error: {error}")
