"""nerfstudio's optimisers, which leave out steps whose gradients are not finite, without waiting for the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from pds_nerfstudio.checks import finite
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.distributed import average_gradients
from pds_nerfstudio.scenes.readback import Readback

BAD_STEPS_IN_A_ROW = 20
"""Steps in a row that are not finite, after which a run ends."""


@dataclass
class EditAdamConfig(AdamOptimizerConfig):
    """Adam."""

    fused: bool = field(default_factory=torch.cuda.is_available)
    """Take a step in one kernel, which also checks whether the gradients are finite. For GPUs."""

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserError: Naming the option.
        """
        finite(self, "lr", "eps", "weight_decay")


class EditOptimizers(Optimizers):
    """nerfstudio's optimisers, which leave out a step whose gradients are not finite.

    Fused optimisers are handed the verdict as a number on their device, so the host neither waits for it nor knows it
    at once: the steps left out are counted, and a run of them ended, a step or two later. Nothing is harmed by then.
    """

    skipped = 0
    """Steps that were left out."""
    whole = True
    """Whether the scene is as the last step left it: not from the moment on at which the next one begins to change it.
    Who runs the steps says when one is done."""
    _in_a_row = 0

    def __init__(self, config: dict[str, Any], param_groups: dict[str, list[torch.nn.Parameter]]) -> None:
        super().__init__(config, param_groups)
        self._verdicts: Readback[None] = Readback()
        self._floors: dict[str, list[Tensor]] = {}  # until Adam has memories that they can be with

    def optimizer_scaler_step_some(self, grad_scaler: GradScaler, param_groups: list[str]) -> None:
        """Step the groups with the mean of all ranks' gradients, or none of them if that holds an infinity or a NaN.

        Raises:
            UserError: After many such steps in a row. None of them has changed a parameter.
        """
        average_gradients(parameter for name in param_groups for parameter in self.parameters_now(name))
        gradients = [p.grad for name in param_groups for p in self.parameters_now(name) if p.grad is not None]
        bad = _any_not_finite(gradients)
        if bad is None:
            return
        self._verdicts.put(None, [bad])
        self.whole = False
        with self._above_floors(param_groups):
            self._step(grad_scaler, param_groups, bad)
        self.count()

    def _step(self, grad_scaler: GradScaler, param_groups: list[str], bad: Float[Tensor, ""]) -> None:
        # With mixed precision the scaler leaves the step out itself, and needs to see infinities to lower its scale.
        if grad_scaler.is_enabled():
            super().optimizer_scaler_step_some(grad_scaler, param_groups)  # type: ignore[arg-type]
        elif all(self._fused(name) for name in param_groups):
            with self._told(param_groups, bad):
                super().optimizer_scaler_step_some(grad_scaler, param_groups)  # type: ignore[arg-type]
        elif not bad:  # waits for the device, if it is a GPU
            super().optimizer_scaler_step_some(grad_scaler, param_groups)  # type: ignore[arg-type]

    def count(self, wait: bool = False) -> None:
        """Count the steps that are known to be left out.

        Args:
            wait: Wait until the outcome of all steps is known.

        Raises:
            UserError: If there were too many in a row.
        """
        for _, (bad,) in self._verdicts.take(wait):
            if not bad:
                self._in_a_row = 0
                continue
            self.skipped += 1
            self._in_a_row += 1
            CONSOLE.print(f"[yellow]A gradient is not finite: this step is left out ({self.skipped} so far).")
            if self._in_a_row >= BAD_STEPS_IN_A_ROW:
                raise self._failed()

    def check_outcome(self, steps: int) -> None:
        """Refuse the outcome of an edit that has come to nothing before its end.

        Args:
            steps: Of the edit.

        Raises:
            UserError: If many of its last steps were left out.
        """
        if self._in_a_row >= max(1, min(steps // 2, BAD_STEPS_IN_A_ROW)):
            raise self._failed()

    def _failed(self) -> UserError:
        self.whole = False  # what led to such gradients is not worth to replace an earlier checkpoint
        return UserError(
            f"{self._in_a_row} steps in a row had gradients that are not finite: lower the learning rates "
            "(--pipeline.lr-mult) or --pipeline.guidance.guidance-scale, or set --pipeline.guidance.dtype float32."
        )

    def come_to_rest(self) -> None:
        """Forget where the last steps went, but not how large gradients are.

        What an edit begins with has been reconstructed at full rate until its last step. Adam's momentum would go on
        for some steps more, with nothing of the reconstruction to call it back.
        """
        for optimizer in self.optimizers.values():
            for memory in optimizer.state.values():
                if "exp_avg" in memory:
                    memory["exp_avg"].zero_()

    def set_rates(self, mult: float) -> None:
        """Set all learning rates to a multiple of those that were configured."""
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.config[name]["optimizer"].lr * mult

    def set_floor(self, name: str, squares: list[Tensor]) -> None:
        """Shorten a group's steps wherever gradients are small beside some; see `signal`.

        What is added to the group's parameters after this takes full steps.

        Args:
            name: Of the group.
            squares: Of those gradients, one tensor for each of the group's parameters.
        """
        self._floors[name] = squares
        for memory in self._memories(name):
            memory.pop("floor", None)  # of an edit before this one

    @contextmanager
    def _above_floors(self, names: list[str]) -> Iterator[None]:
        """Shorten the steps that are taken inside."""
        groups = [
            name for name in names if name in self._floors or any("floor" in memory for memory in self._memories(name))
        ]
        before = {name: [p.detach().clone() for p in self.parameters_now(name)] for name in groups}
        yield
        for name in groups:
            beta = self.optimizers[name].param_groups[0]["betas"][1]
            for k, (p, memory) in enumerate(zip(self.parameters_now(name), self._memories(name), strict=True)):
                if "exp_avg_sq" not in memory:
                    continue  # it has had no gradient yet
                if "floor" not in memory and name not in self._floors:
                    continue  # it had no gradient before the run was resumed
                if "floor" not in memory:
                    # Among Adam's memories, it grows and shrinks with the Gaussians, and goes into checkpoints.
                    memory["floor"] = _padded(self._floors[name][k], p)
                tiny = torch.finfo(p.dtype).tiny
                square = memory["exp_avg_sq"] / (1 - beta ** memory["step"]).to(p).clamp_min(tiny)
                p.data.lerp_(before[name][k], 1 - (square / (square + memory["floor"]).clamp_min(tiny)).sqrt())
            if all("floor" in memory for memory in self._memories(name)):
                self._floors.pop(name, None)

    def _memories(self, name: str) -> list[dict[str, Any]]:
        return [self.optimizers[name].state.get(p, {}) for p in self.parameters_now(name)]

    def parameters_now(self, name: str) -> list[torch.nn.Parameter]:
        """Return the parameters of a group as they are now: densification replaces them in the optimiser."""
        return [p for group in self.optimizers[name].param_groups for p in group["params"]]

    def _fused(self, name: str) -> bool:
        return all(group.get("fused") for group in self.optimizers[name].param_groups)

    @contextmanager
    def _told(self, names: list[str], bad: Float[Tensor, ""]) -> Iterator[None]:
        """Tell fused optimisers on their device whether to leave out a step, as a GradScaler does."""
        optimizers: list[Any] = [self.optimizers[name] for name in names]
        for optimizer in optimizers:
            optimizer.found_inf = bad
        try:
            yield
        finally:
            for optimizer in optimizers:
                del optimizer.found_inf


def _padded(floor: Tensor, like: Tensor) -> Tensor:
    """Return a floor for a parameter that may have grown at its end since: none for what is new."""
    return torch.cat([floor, like.new_zeros(len(like) - len(floor), *like.shape[1:])]) if like.ndim else floor


def _any_not_finite(gradients: list[Tensor]) -> Float[Tensor, ""] | None:
    """Return 1 if a number among the gradients is not finite, else 0; None if there are no numbers."""
    largest = [gradient.abs().amax() for gradient in gradients if gradient.numel()]
    return 1 - torch.stack(largest).isfinite().all().float() if largest else None
