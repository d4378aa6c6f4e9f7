"""Small runs of the real methods in processes of their own, which say what they are about to do."""

from __future__ import annotations

import copy
import fcntl
import json
import mmap
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes import checkpointing, trainer
from pds_nerfstudio.scenes.live.loop import LiveEdit
from pds_nerfstudio.scenes.pipeline import EditPipeline
from pds_nerfstudio.scenes.trainer import EditTrainer, EditTrainerConfig
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import Attributes
from tests.guidance.miniature import save_pipeline
from tests.scenes.conftest import set_option, shrink

PHASES = (
    "loading",
    "between",
    "reconstruction",
    "edit",
    "saving",
    "redrawing",
    "results",
    "export",
    "branch",
    "source",
)
_FULL_DISK_BYTES = 64
_OUTPUT_BYTES = 1 << 20


@dataclass
class Inputs:
    """What runs read, and must not change."""

    folder: Path
    scene: Path = field(init=False)
    model: Path = field(init=False)
    replay: Path = field(init=False)

    def __post_init__(self) -> None:
        self.scene = self.folder / "man"
        for _ in write_scene(self.scene, Attributes(), Attributes(arms="raised"), 8, 48, 32, seed_points=200):
            pass
        self.model = save_pipeline(self.folder / "model", {}, {})
        self.replay = self.folder / "session.jsonl"
        asked = [(6, "branch"), (7, "export"), (8, "branch")]
        self.replay.write_text("".join(json.dumps({"step": at, "action": action}) + "\n" for at, action in asked))

    def config(self, kind: str, out: Path, name: str, load_dir: Path | None, asks: bool) -> EditTrainerConfig:
        """Return the configuration of a run that goes through everything: 4 steps reconstruct, 5 edit, 2 refine."""
        config = copy.deepcopy({"splat": pds_splat, "nerf": pds_nerf}[kind].config)
        assert isinstance(config, EditTrainerConfig)
        config.data = config.pipeline.datamanager.data = self.scene
        config.output_dir, config.experiment_name, config.timestamp = out, "test", name
        config.vis, config.viewer.quit_on_train_completion = "tensorboard", True
        config.logging.local_writer.enable = False
        config.machine.device_type = "cpu"
        config.max_num_iterations, config.pipeline.reconstruct_steps, config.steps_per_save = 5, 4, 2
        config.pipeline.src_prompt, config.pipeline.tgt_prompt = "a cat", "a dog"
        config.pipeline.guidance = replace(config.pipeline.guidance, model=str(self.model))
        config.pipeline.refine_steps, config.pipeline.refine_from = 2, "source"
        config.pipeline.turntable_frames, config.steps_per_picture = 3, 2
        config.load_dir, config.replay = load_dir, self.replay if asks else None
        shrink(config.pipeline.model)
        if kind == "nerf":
            set_option(config, ["pipeline", "datamanager", "train_num_rays_per_batch"], 64)
        return config


class Phase:
    """What a process is about to do, as another one sees it."""

    def __init__(self) -> None:
        self._seen = mmap.mmap(-1, 2)

    @property
    def name(self) -> str:
        """Its name."""
        return PHASES[self._seen[0]]

    @property
    def count(self) -> int:
        """How often one has begun, up to 255."""
        return self._seen[1]

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Say that something is done inside."""
        before = self._seen[0]
        self._seen[0], self._seen[1] = PHASES.index(name), (self._seen[1] + 1) % 256
        yield
        self._seen[0] = before

    def begin(self) -> None:
        """Say that loading is over."""
        self._seen[0] = PHASES.index("between")

    def watch(self) -> None:
        """Have this process say what it does."""
        step = EditTrainer.train_iteration

        def stepped(run: EditTrainer, number: int) -> Any:
            with self.during("edit" if run.pipeline.plan.edits(number) else "reconstruction"):
                return step(run, number)

        EditTrainer.train_iteration = stepped  # type: ignore[method-assign,assignment]
        for owner, name, phase in (
            (checkpointing, "_write_whole", "saving"),
            (EditPipeline, "redraw_all", "redrawing"),
            (trainer, "write_results", "results"),
            (LiveEdit, "_export", "export"),
            (EditTrainer, "write_branch", "branch"),
            (checkpointing.KeptSource, "keep", "source"),
        ):
            setattr(owner, name, self._said(getattr(owner, name), phase))

    def _said(self, usual: Callable[..., Any], name: str) -> Callable[..., Any]:
        def said(*args: Any, **options: Any) -> Any:
            with self.during(name):
                return usual(*args, **options)

        return said


@dataclass
class Ended:
    """How a run has ended."""

    code: int
    """Its exit status; below 0 a signal's number."""
    said: str
    """Its output."""
    writes: int
    """Files and folders that it has begun to write."""


class Run:
    """A run in a process of its own.

    Args:
        config: Of the run.
        full_at: From which write on the disk is full; None leaves it empty.
    """

    def __init__(self, config: EditTrainerConfig, full_at: int | None = None) -> None:
        self.phase, self._writes = Phase(), mmap.mmap(-1, 4)
        self._reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _OUTPUT_BYTES)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            code = 1
            try:
                code = self._do(config, full_at)
            finally:
                os._exit(code)
        os.close(writer)

    def _do(self, config: EditTrainerConfig, full_at: int | None) -> int:
        sys.addaudithook(lambda event, args: self._count(event, args, str(config.output_dir), full_at))
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1) for fd in (1, 2))
        code = 1
        try:
            config.set_timestamp()
            config.save_config()
            for seed in (random.seed, np.random.seed, torch.manual_seed):
                seed(config.machine.seed)
            self.phase.watch()
            run = config.setup()
            run.setup()
            self.phase.begin()
            run.train()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
            print(ended.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        return code

    def _count(self, event: str, args: tuple[Any, ...], folder: str, full_at: int | None) -> None:
        writes = event in ("os.mkdir", "os.rename") or (event == "open" and bool(set(str(args[1])) & set("wax+")))
        if not writes or not str(args[0]).startswith(folder):
            return
        count = int.from_bytes(self._writes[:], "little")
        self._writes[:] = (count + 1).to_bytes(4, "little")
        if count == full_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (_FULL_DISK_BYTES, resource.RLIM_INFINITY))

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_for(self, phase: str, occurrence: int) -> bool:
        """Wait until something is begun for the nth time; return whether that comes before the end."""
        seen = last = -1
        while self.running:
            if self.phase.name == phase and self.phase.count != last:
                last, seen = self.phase.count, seen + 1
                if seen == occurrence:
                    return True
            time.sleep(0.0005)
        return False

    def kill(self, signum: int) -> None:
        """Send a signal."""
        os.kill(self.pid, signum)

    def stop_reading(self) -> None:
        """Leave its output to nobody."""
        os.close(self._reader)
        self._reader = -1

    def ended(self) -> Ended:
        """Wait for the end."""
        said = b""
        while self._reader >= 0 and (part := os.read(self._reader, 1 << 16)):
            said += part
        if self._reader >= 0:
            os.close(self._reader)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, said.decode(errors="replace"), int.from_bytes(self._writes[:], "little"))
