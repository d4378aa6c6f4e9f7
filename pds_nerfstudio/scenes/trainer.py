"""nerfstudio's trainer, taught what a text edit needs: its own count of steps, and never losing what a user has."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils.rich_utils import CONSOLE
from torch.cuda.amp.grad_scaler import GradScaler

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.checkpoints import Checkpoint, adopt_architecture, find_checkpoint, read_checkpoint
from pds_nerfstudio.scenes.pipeline import EditPipeline, EditPipelineConfig
from pds_nerfstudio.scenes.plan import EditPlan

_BAD_STEPS_IN_A_ROW = 20


@dataclass
class EditTrainerConfig(TrainerConfig):
    """A run that edits a scene by text."""

    _target: type = field(default_factory=lambda: EditTrainer)
    pipeline: EditPipelineConfig = field(default_factory=EditPipelineConfig)
    """The scene, its model, the prompts and the guidance."""
    max_num_iterations: int = 3000
    """Edit steps to run. A run that starts from no checkpoint reconstructs the scene first, for
    --pipeline.reconstruct-steps more; a resumed run does what is left of its edit steps."""
    load_dir: Path | None = None
    """Folder nerfstudio_models of the run to start from: a finished nerfacto (for pds-nerf) or splatfacto (for
    pds-splat), or an edit to resume. Without it (and without --load-checkpoint) the scene is reconstructed first."""
    load_checkpoint: Path | None = None
    """A single checkpoint file to start from, instead of --load-dir."""
    show_edit: bool = True
    """When the edit is done: write the edited views as a data set, a before/after sheet and a turntable video."""


class EditOptimizers(Optimizers):
    """nerfstudio's optimisers, which leave out a step whose gradients are not finite."""

    skipped = 0
    """Steps that were left out."""
    _in_a_row = 0

    def optimizer_scaler_step_some(self, grad_scaler: GradScaler, param_groups: list[str]) -> None:
        """Step the groups, or none of them if any gradient holds an infinity or a NaN.

        Raises:
            UserError: After many such steps in a row, which no single step has harmed.
        """
        gradients = [p.grad for name in param_groups for p in self.parameters_now(name) if p.grad is not None]
        finite = _all_finite(gradients)
        # With mixed precision the scaler leaves the step out itself, and needs to see infinities to lower its scale.
        if finite or grad_scaler.is_enabled():
            super().optimizer_scaler_step_some(grad_scaler, param_groups)
        if finite:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        CONSOLE.print(f"[yellow]A gradient is not finite: this step is left out ({self.skipped} so far).")
        if self._in_a_row >= _BAD_STEPS_IN_A_ROW:
            raise UserError(
                f"{self._in_a_row} steps in a row had gradients that are not finite: lower the learning rates or "
                "--pipeline.guidance.guidance-scale, or set --pipeline.guidance.dtype float32."
            )

    def parameters_now(self, name: str) -> list[torch.nn.Parameter]:
        """The parameters of a group as they are now: densification replaces them in the optimiser."""
        return [p for group in self.optimizers[name].param_groups for p in group["params"]]


def _all_finite(gradients: list[torch.Tensor]) -> bool:
    if not gradients:
        return True
    return bool(torch.stack([g.abs().amax() for g in gradients if g.numel()]).isfinite().all())


class EditTrainer(Trainer):
    """Trains for a number of edit steps, saves safely, and turns a user's mistakes into one line."""

    config: EditTrainerConfig
    pipeline: EditPipeline
    _interrupted = False
    _last_step: int | None = None

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """nerfstudio's setup, with a checkpoint's architecture taken over first."""
        with one_line_errors():
            if self.config.max_num_iterations < 1:
                raise UserError(
                    f"--max-num-iterations is {self.config.max_num_iterations}: give at least one edit step."
                )
            self._check_data()
            path = find_checkpoint(self.config.load_dir, self.config.load_step, self.config.load_checkpoint)
            self._checkpoint = None if path is None else read_checkpoint(path)
            if self._checkpoint is not None:
                wanted = "splat" if issubclass(self.config.pipeline.model._target, SplatfactoModel) else "nerf"
                if self._checkpoint.kind != wanted:
                    other = {"splat": "a splat scene: use pds-splat", "nerf": "a NeRF: use pds-nerf"}
                    found = other.get(self._checkpoint.kind, "neither nerfacto's nor splatfacto's")
                    raise UserError(f"{path} can't be edited with {self.config.method_name}, it is {found}.")
                adopt_architecture(self.config.pipeline.model, self._checkpoint)
                self.config.save_config()  # ns-viewer and the others build the model from it
            super().setup(test_mode)

    def _check_data(self) -> None:
        """Refuse a path that holds no scene; data of other kinds than nerfstudio's own are left to their parsers."""
        datamanager = self.config.pipeline.datamanager
        dataparser = getattr(datamanager, "dataparser", None)
        if not isinstance(dataparser, NerfstudioDataParserConfig):
            return
        data = Path(datamanager.data or self.config.data or dataparser.data)
        if not data.is_file() and not (data / "transforms.json").is_file():
            raise UserError(f"--data {data} holds no transforms.json: make one with ns-process-data, or mend the path.")

    def setup_optimizers(self) -> Optimizers:
        """The optimisers, which skip steps that are not finite."""
        return EditOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def _load_checkpoint(self) -> None:
        """Take up weights (and, of an edit, everything else), and plan the steps of this run."""
        checkpoint, steps = self._checkpoint, self.config.max_num_iterations
        if checkpoint is None:
            CONSOLE.print(
                f"No checkpoint to start from: reconstructing for {self.config.pipeline.reconstruct_steps} steps, "
                f"then editing for {steps}."
            )
            start = self.config.pipeline.reconstruct_steps
        else:
            start = self._load(checkpoint)
        self.pipeline.plan = EditPlan(start, steps, self.config.pipeline.refine_steps)
        if self._start_step >= self.pipeline.plan.end:
            raise UserError(
                f"The edit in {checkpoint.path if checkpoint else 'this run'} has run its {steps} steps: "
                "raise --max-num-iterations to go on."
            )
        # nerfstudio 1.1.5 runs this many more steps, its main branch runs up to this step. Both pass plan.end, where
        # this trainer stops them; and the time left that nerfstudio shows is reckoned from it.
        self.config = dataclasses.replace(self.config, max_num_iterations=self.pipeline.plan.end)

    def _load(self, checkpoint: Checkpoint) -> int:
        """Load weights and optimisers; returns the step at which the edit begins."""
        state = checkpoint.state
        self._start_step = checkpoint.step + 1
        try:
            self.pipeline.load_pipeline(state["pipeline"], checkpoint.step)
        except (RuntimeError, KeyError) as error:
            reason = str(error).strip().split("\n")[-1].strip()
            raise UserError(
                f"The weights in {checkpoint.path} don't fit ({reason}): keep the run's config.yml beside its folder "
                "nerfstudio_models, or give the same --pipeline.model options."
            ) from None
        lacking = [
            name
            for name in self.pipeline.model.state_dict()
            if name not in checkpoint.model_weights and "lpips" not in name
        ]
        if lacking:
            raise UserError(
                f"{checkpoint.path} lacks the weights {', '.join(lacking[:3])}: it is of another method or an older "
                "version; train the scene anew with this nerfstudio."
            )
        self._check_coordinates(checkpoint)
        # Loading a splat has replaced its parameters: optimisers made before would go on with the old ones.
        self.optimizers = self.setup_optimizers()
        if not checkpoint.is_edit:
            CONSOLE.print(f"Editing the scene in {checkpoint.path}, with fresh optimisers.")
            return self._start_step
        try:
            self.optimizers.load_optimizers(state["optimizers"])
            self.grad_scaler.load_state_dict(state["scalers"])
        except (ValueError, KeyError, RuntimeError):
            self.optimizers = self.setup_optimizers()  # some of them may have been loaded
            CONSOLE.print(f"[yellow]The optimisers in {checkpoint.path} don't fit this run: starting with fresh ones.")
        CONSOLE.print(f"Resuming the edit in {checkpoint.path} at step {self._start_step}.")
        return self.pipeline.plan.start

    def _check_coordinates(self, checkpoint: Checkpoint) -> None:
        """Refuse a scene trained in other coordinates than this run's, in which every camera would look elsewhere."""
        written = checkpoint.path.parent.parent / "dataparser_transforms.json"
        dataset = self.pipeline.datamanager.train_dataset
        assert dataset is not None
        ours = dataset._dataparser_outputs
        try:
            theirs = json.loads(written.read_text())
            transform, scale = torch.tensor(theirs["transform"]), torch.tensor(theirs["scale"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        same_scale = torch.isclose(scale, torch.tensor(ours.dataparser_scale), rtol=1e-3)
        if not same_scale or not torch.allclose(transform, ours.dataparser_transform.to(transform), atol=1e-3):
            raise UserError(
                f"The scene in {checkpoint.path} was trained in other coordinates: give the same data and the same "
                "options of the data parser as its config.yml."
            )

    def train(self) -> None:
        """Run the planned steps; Ctrl-C ends the run after its current step, with a checkpoint to resume from."""
        with one_line_errors(), self._stopped_by_ctrl_c():
            super().train()

    def train_iteration(self, step: int):  # noqa: ANN201 (nerfstudio's tuple of losses)
        """One step; the last one tells nerfstudio's loop to end."""
        self._last_step = step
        result = super().train_iteration(step)
        if step + 1 == self.pipeline.plan.start:
            # The scene as it was before any edit, for the next edit to start from.
            self._save_to(self.base_dir / "reconstruction", step)
        # An interruption before the loop has begun is forgotten by nerfstudio, not by this.
        if self._interrupted or step + 1 >= self.pipeline.plan.end:
            self.stop_training = True
        return result

    def _after_train(self) -> None:
        if self._last_step is None:
            CONSOLE.print("Stopped before the first step: there is nothing to save.")
            return
        self.step = self._last_step  # the loop has counted one further to notice that it should end
        if self._interrupted:
            self.save_checkpoint(self.step)
            CONSOLE.print(
                f"Stopped after step {self.step}. To go on, give the same command again with "
                f"--load-dir {self.checkpoint_dir}"
            )
            return
        if self.config.show_edit and self.local_rank == 0:
            # Written before nerfstudio's own ending, which may wait in the viewer for good. The weights come first.
            self.save_checkpoint(self.step)
            self.pipeline.eval()
            for path in self.pipeline.write_results(self.base_dir):
                CONSOLE.print(f"Wrote {path}")
        super()._after_train()

    @contextmanager
    def _stopped_by_ctrl_c(self) -> Iterator[None]:
        """The first Ctrl-C lets the current step finish; a second one ends at once, as Python does by default."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def stop(signum: int, frame: object) -> None:
            signal.signal(signal.SIGINT, before)
            if self.training_state == "completed":
                raise KeyboardInterrupt
            CONSOLE.print("Stopping after this step (Ctrl-C again stops at once, and loses it) ...")
            self._interrupted = True
            self.stop_training = True

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def save_checkpoint(self, step: int) -> None:
        """Write a checkpoint, and only then let it take the last one's place.

        Raises:
            UserError: If it can't be written, say because the disk is full; the last checkpoint is kept.
        """
        self._save_to(self.checkpoint_dir, step)

    def _save_to(self, folder: Path, step: int) -> None:
        # Not inside `folder`, in which nerfstudio's viewer and the others look for nothing but checkpoints.
        unfinished, name = self.base_dir / "unfinished", f"step-{step:09d}.ckpt"
        usual, self.checkpoint_dir = self.checkpoint_dir, unfinished
        try:
            super().save_checkpoint(step)
            if self.local_rank != 0:
                return
            folder.mkdir(parents=True, exist_ok=True)
            os.replace(unfinished / name, folder / name)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            has_earlier = any(usual.glob("step-*.ckpt"))
            way_out = f"resume with --load-dir {usual} from the last good one" if has_earlier else "start again"
            raise UserError(
                f"The checkpoint of step {step} can't be written to {folder} ({reason}): make room on the disk, then "
                f"{way_out}."
            ) from None
        finally:
            self.checkpoint_dir = usual
            if self.local_rank == 0:
                shutil.rmtree(unfinished, ignore_errors=True)
        if self.config.save_only_latest_checkpoint:
            for path in folder.glob("step-*.ckpt"):
                if path.name != name:
                    path.unlink()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with a `UserError`'s one line in place of a traceback."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
