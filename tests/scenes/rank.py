"""One of several processes that edit scenes together on a CPU: `python rank.py RANK WORLD_SIZE PORT CONFIGS OUT`.

Leaves in OUT what each step saw and had for gradients, before and after the ranks took their mean, and the parameters.
"""

import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from nerfstudio.utils import comms, profiler, writer

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes import optimizers
from pds_nerfstudio.scenes.pipeline import EditPipeline


def edit(rank: int, world_size: int, config: Any) -> dict[str, Any]:
    """One edit, as ns-train runs it."""
    for pile in (writer.EVENT_WRITERS, writer.EVENT_STORAGE, writer.GLOBAL_BUFFER, profiler.PROFILER):
        pile.clear()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.machine.seed + rank)
    seen: dict[str, Any] = {"steps": [], "views": [], "noise": []}

    def watched_average(parameters: Any) -> None:
        parameters = list(parameters)
        own = [p.grad.clone() for p in parameters if p.grad is not None]
        average(parameters)
        seen["steps"].append({"own": own, "mean": [p.grad.clone() for p in parameters if p.grad is not None]})

    def watched_loss(self: EditPipeline, step: int) -> Any:
        result = loss(self, step)
        assert self.last_view is not None and self.guidance is not None
        seen["views"].append(self.last_view.index)
        seen["noise"].append(self.guidance._draws.state())
        return result

    average, loss = optimizers.average_gradients, EditPipeline._edit_loss_dict
    optimizers.average_gradients = watched_average
    EditPipeline._edit_loss_dict = watched_loss  # type: ignore[method-assign]
    try:
        trainer = config.setup(local_rank=rank, world_size=world_size)
        trainer.setup()
        trainer.train()
    finally:
        optimizers.average_gradients = average
        EditPipeline._edit_loss_dict = loss  # type: ignore[method-assign]
    seen["parameters"] = {name: p.detach() for name, p in trainer.pipeline.model.named_parameters()}
    seen["moments"] = {
        name: [state["exp_avg"] for state in optimizer.state.values()]
        for name, optimizer in trainer.optimizers.optimizers.items()
    }
    return seen


def left_half(self: Guidance, image: Any, *_: Any) -> torch.Tensor:
    """What is asked of each view, in place of what an untrained model sees: everything everywhere."""
    return (torch.arange(20) < 10).float().expand(1, 1, 14, 20)


def main(rank: int, world_size: int, port: int, configs: dict[str, Any], out: Path) -> None:
    torch.set_num_threads(1)
    Guidance.look = left_half  # type: ignore[method-assign,assignment]
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    comms.LOCAL_PROCESS_GROUP = dist.new_group(range(world_size))  # type: ignore[assignment]
    torch.save({kind: edit(rank, world_size, config) for kind, config in configs.items()}, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with open(sys.argv[4], "rb") as file:
        settings = pickle.load(file)
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), settings, Path(sys.argv[5]))
