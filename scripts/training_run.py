"""A training that may be cut anywhere: its clock, its log, and the states that it goes on from."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn


class OutOfTime(Exception):
    """The time limit came; the state is saved."""


class TrainingState:
    """The weights and the optimiser of one stage, and how far it is.

    Args:
        path: The file to go on from, if there is one, and to save to.
        module: What is trained.
        lr: The learning rate, for a start.
        device: Where it is trained.
    """

    def __init__(self, path: Path, module: nn.Module, lr: float, device: torch.device) -> None:
        self.module = module
        self.averaged = copy.deepcopy(module).requires_grad_(False)
        self.step, self.spent, self.done = 0, 0.0, False
        self._path = path
        self._parameters: list[Tensor] = list(module.parameters())
        self._optimizer = torch.optim.AdamW(self._parameters, lr=lr, weight_decay=0.01, fused=device.type == "cuda")
        if not path.exists():
            return
        state = torch.load(path, map_location=device, weights_only=True)
        self.step, self.spent, self.done = state["step"], state["spent"], state["done"]
        self.averaged.load_state_dict(state["averaged"])
        if not self.done:
            module.load_state_dict(state["module"])
            self._optimizer.load_state_dict(state["optimizer"])

    def descend(self, loss: Callable[[], Tensor], lr: float, ema: float) -> Tensor:
        """Take a step, and return the loss before it.

        Args:
            loss: What to minimise.
            lr: The learning rate of this step.
            ema: Of the averaged weights, how much remains; less at first.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        value = loss()
        self._optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        with torch.no_grad():
            decay = min(ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.averaged.parameters()), self._parameters, 1 - decay)
        self.step += 1
        return value

    def save(self, spent: float, done: bool = False) -> None:
        """Write the state, with the seconds of training so far; the file is whole at any time."""
        state = {"step": self.step, "spent": spent, "done": done, "averaged": self.averaged.state_dict()}
        if not done:
            state |= {"module": self.module.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, self._path.with_suffix(".new"))
        self._path.with_suffix(".new").rename(self._path)

    def settle(self) -> None:
        """Leave the averaged weights in the module, which is not trained any more."""
        self.module.load_state_dict(self.averaged.state_dict())
        self.module.eval().requires_grad_(False)


class Run:
    """The clock, the log, and where states are kept.

    Args:
        state: Folder for what a cut run goes on from.
        out: Folder for the log.
        device: Where to train.
        seed: Of what is drawn while training.
        time_limit: Seconds after which the state is saved and `OutOfTime` raised.
    """

    def __init__(self, state: Path, out: Path, device: torch.device, seed: int, time_limit: float) -> None:
        self.device = device
        self._state, self._out, self._seed, self._time_limit = state, out, seed, time_limit
        self.stopped = False
        self._start = time.monotonic()
        state.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)

    def seconds(self) -> float:
        """Return the time since the command began."""
        return time.monotonic() - self._start

    def log(self, stage: str, **values: float | str) -> None:
        """Write a line on screen and in log.jsonl."""
        record = {"seconds": round(self.seconds(), 1), "stage": stage, **values}
        with open(self._out / "log.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"[{self.seconds():6.1f} s] {stage:<10} {shown}", flush=True)

    def autocast(self) -> torch.autocast:
        """Return a context of bfloat16, where that is quick."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def compile(self, function: Callable) -> Callable:
        """Return the function compiled on a GPU, and as it is on a CPU."""
        return torch.compile(function, dynamic=False) if self.device.type == "cuda" else function

    def train(
        self,
        stage: str,
        module: nn.Module,
        loss: Callable[[], Tensor],
        steps: int,
        lr: float,
        ema: float,
        seconds: float = math.inf,
    ) -> None:
        """Minimise `loss` with AdamW (warm-up, then a cosine to zero), and leave the averaged weights in `module`.

        They are left there at a stop too, which `stopped` tells from an end.

        Args:
            stage: Its name in the log and among the states.
            module: What is trained.
            loss: Draws a batch.
            steps: How many to take.
            lr: The largest learning rate.
            ema: Of the averaged weights, how much remains at a step.
            seconds: Time after which training ends earlier, the learning rate having fallen accordingly.

        Raises:
            OutOfTime: If the time limit came.
        """
        state = TrainingState(self._state / f"{stage}.pt", module, lr, self.device)
        first, before = state.step, state.spent
        torch.manual_seed(self._seed + 7919 * first)
        begun = last_log = last_save = time.monotonic()

        def spent() -> float:
            return before + time.monotonic() - begun

        while not state.done:
            progress = max(state.step / steps if steps else 1, spent() / seconds)
            if progress >= 1:
                state.save(spent(), done=True)
                break
            rate = lr * min(1.0, (state.step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * progress))
            value = state.descend(loss, rate, ema)
            if state.step % 100 == 0 and time.monotonic() - last_log > 15:
                last_log = time.monotonic()
                per_step = (last_log - begun) / (state.step - first)
                left = min(per_step * (steps - state.step), seconds - spent())
                self.log(stage, step=state.step, of=steps, loss=value.item(), ms=1e3 * per_step, left=left)
            if state.step % 10 == 0 and self.seconds() > self._time_limit:
                state.save(spent())
                state.settle()
                self.stopped = True
                raise OutOfTime
            if state.step % 10 == 0 and time.monotonic() - last_save > 120:
                state.save(spent())
                last_save = time.monotonic()
        self.log(stage, done_at_step=state.step)
        state.settle()
