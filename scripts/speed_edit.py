"""Time the steps of NeRF and splat edits by their parts: render, guidance, backward pass, optimisers.

python scripts/speed_edit.py --method pds-splat-toyworld --model toyworld --size 128     # a CPU
python scripts/speed_edit.py --method pds-splat --size 512 --gaussians 200000            # a GPU
python scripts/speed_edit.py --method pds-nerf --size 512 --options="--pipeline.model.edit-rays-per-step 16384"
python scripts/speed_edit.py --size 512 --options="--machine.num-devices 2"           # each GPU another view
python scripts/speed_edit.py --size 512 --options="--pipeline.guidance.device cuda:1"    # the model on the second

The scene is one of the embedded world's, as it is before anything has been learned; with --reconstruct it is learned
first. Stable Diffusion is built with random weights. What a step costs depends on neither. On several GPUs the first
one's times count, and each has another view a step.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from configured_runs import TimedEdit
from nerfstudio.scripts.train import launch
from speed_timing import Timeline, machine, peak_memory_gb, reset_peak_memory

from pds_nerfstudio.scenes.trainer import EditTrainer, EditTrainerConfig


@dataclass
class EditSpeed(TimedEdit):
    """What is edited, and how many steps of it are timed."""

    reconstruct: int = 0
    """Steps that reconstruct the scene first."""
    steps: int = 60
    """Edit steps that are timed."""
    warm_up: int = 20
    """Edit steps before that, in which networks are compiled and sources encoded."""
    out: Path = Path("outputs/speed-edit.json")
    """Where the figures go; the scene and a model of random weights are kept beside them."""

    def run(self) -> None:
        """Measure, print, and write it down."""
        with tempfile.TemporaryDirectory() as folder:
            arguments: list[object] = [
                *("--max-num-iterations", self.warm_up + self.steps, "--pipeline.reconstruct-steps", self.reconstruct),
                *("--pipeline.strategy", "distil", "--pipeline.refine-steps", 0),
                *("--show-edit", False, "--steps-per-picture", 0),
            ]
            config = self.configured(arguments, Path(folder))
            launch(
                functools.partial(measure, self),
                num_devices_per_machine=config.machine.num_devices,
                device_type=config.machine.device_type,
                config=config,
            )


def measure(
    speed: EditSpeed, local_rank: int, world_size: int, config: EditTrainerConfig, global_rank: int = 0
) -> None:
    """Run the edit in one process, as ns-train does in each; in the first, print and write down the figures."""
    torch.backends.cudnn.benchmark = True  # as ns-train does
    torch.manual_seed(config.machine.seed + global_rank)
    trainer: EditTrainer = config.setup(local_rank=local_rank, world_size=world_size)
    trainer.setup()
    assert trainer.pipeline.guidance is not None
    device, guide = torch.device(trainer.device), trainer.pipeline.guidance.denoiser.device
    timeline = Timeline(device)
    watch(trainer, timeline)
    devices = dict.fromkeys((device, guide))
    for some in devices:
        reset_peak_memory(some)
    trainer.train()
    if local_rank != 0:
        return
    parts = timeline.medians(speed.warm_up)
    memory = {str(some): peak_memory_gb(some) for some in devices}
    about = f"{speed.method}, {speed.size} × {speed.size}, {speed.model}"
    print(f"\n{about}; {world_size} × {machine(device)}, torch {torch.__version__}")
    for name, milliseconds in parts.items():
        print(f"  {name:16s} {milliseconds:9.1f} ms  {100 * milliseconds / parts['step']:4.0f} %")
    for name, gigabytes in memory.items():
        print(f"  peak on {name:8s} {gigabytes:9.2f} GB")
    figures = {"machine": machine(device), "processes": world_size, "torch": torch.__version__}
    figures |= {"milliseconds": parts, "memory_gb": memory}
    speed.out.parent.mkdir(parents=True, exist_ok=True)
    speed.out.write_text(json.dumps({**asdict(speed), **figures}, indent=1, default=str) + "\n")
    print(f"Wrote {speed.out}")


def watch(trainer: EditTrainer, timeline: Timeline) -> None:
    """Tell the timeline of the parts of each edit step."""
    pipeline, model = trainer.pipeline, trainer.pipeline.model
    optimizers: Any = trainer.optimizers

    def wrap(owner: Any, name: str, before: Callable[[], None] | None, after: str) -> None:
        usual = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if before is not None:
                before()
            result = usual(*arguments, **options)
            timeline.mark(after)
            return result

        setattr(owner, name, watched)

    wrap(pipeline, "_edit_loss_dict", timeline.begin, "guidance")
    wrap(model, "see", None, "render")
    wrap(model, "compare_with_source", None, "anchor")
    # What lies between the losses and the optimisers is the backward pass.
    step = optimizers.optimizer_scaler_step_some

    def stepped(*arguments: Any) -> None:
        editing = pipeline.last_view is not None
        if editing:
            timeline.mark("backward")
        step(*arguments)
        if editing:
            timeline.mark("optimisers")

    optimizers.optimizer_scaler_step_some = stepped


if __name__ == "__main__":
    tyro.cli(EditSpeed).run()
