"""The options of a run that edits a scene, its folder, and what of them is worth telling."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nerfstudio.engine.trainer import TrainerConfig

from pds_nerfstudio.checks import at_least, check_parts, seeds
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes.again import write_config
from pds_nerfstudio.scenes.data import data_of, ending_of
from pds_nerfstudio.scenes.files.orbit import USUAL_ORBIT, OrbitConfig
from pds_nerfstudio.scenes.optimizers import EditAdamConfig
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.run import GUIDANCE_SETTINGS
from pds_nerfstudio.scenes.run_folder import claim_folder
from pds_nerfstudio.scenes.signals import hand_on_signals, one_line_errors
from pds_nerfstudio.scenes.terminal import say


@dataclass
class EditRunConfig(TrainerConfig):
    """What a run that edits a scene by text is asked for."""

    pipeline: EditPipelineConfig = field(default_factory=EditPipelineConfig)
    """The scene, its model, the prompts and the guidance."""
    max_num_iterations: int = 3000
    """Edit steps to run. A run that starts from no checkpoint reconstructs the scene first, for
    --pipeline.reconstruct-steps more; a resumed run does what is left of its edit steps."""
    load_dir: Path | None = None
    """Folder of the run to start from, or nerfstudio_models in it: a finished nerfacto (for pds-nerf) or splatfacto
    (for pds-splat), or an edit to resume. Without it (and without --load-checkpoint) the scene is reconstructed
    first."""
    load_checkpoint: Path | None = None
    """A single checkpoint file to start from, instead of --load-dir."""
    load_ply: Path | None = None
    """A splat of another tool to edit, instead of --load-dir: a .ply (3DGS, gsplat, Postshot, Polycam, SuperSplat, also
    compressed) or a .spz. The cameras are those of --data; without it, an orbit around what the splat shows."""
    ply_coordinates: Literal["auto", "world", "scene"] = "auto"
    """Where the splat of --load-ply lies. world: in the coordinates of the data set, COLMAP's for example, where 3DGS
    and most others leave it. scene: in those that nerfstudio trains in, where ns-export leaves it. auto: in which of
    them it looks more like the photos."""
    orbit: OrbitConfig = USUAL_ORBIT
    """The views of a splat from --load-ply without --data."""
    show_edit: bool = True
    """When the edit is done: write the edited views as a data set, a before/after sheet, a turntable video and
    report.html."""
    steps_per_picture: int = 50
    """Edit steps from one picture of the edit in the run's folder history to the next; 0 keeps none."""
    replay: Path | None = None
    """Repeat what was asked for in the viewer of an earlier run, at the same steps: that run's session.jsonl. Give the
    other options as they were given then."""

    def check(self) -> None:
        """Refuse values that mean nothing, in the words of the command line.

        Raises:
            UserError: Naming the option.
        """
        try:
            at_least(self, 1, "max_num_iterations", give="at least one edit step")
            at_least(self, 0, "steps_per_picture", "steps_per_save")
            check_parts(self, "orbit", "pipeline")
            self._check_optimizers()
        except UserError as error:
            raise UserError(error.on_command_line()) from None

    def _check_optimizers(self) -> None:
        for group, parts in self.optimizers.items():
            try:
                if isinstance(parts["optimizer"], EditAdamConfig):
                    parts["optimizer"].check()
            except UserError as error:
                error.within(f"optimizers.{group}.optimizer")
                raise

    def set_timestamp(self) -> None:
        """Name the run and make its folder, which no other run has."""
        super().set_timestamp()
        with one_line_errors():
            seeds(self.machine, "seed", below=1 << 32)  # nerfstudio uses it before anything else
            if self.prompt is not None:
                raise UserError(
                    "--prompt is an option of other methods: give --pipeline.src-prompt, what the scene shows, and "
                    "--pipeline.tgt-prompt, what it should show."
                )
            claim_folder(self)
        if self.machine.num_devices * self.machine.num_machines > 1:
            hand_on_signals()

    def save_config(self) -> None:
        """Write config.yml, and again.sh beside it, into the run's folder."""
        write_config(self, self.get_base_dir())

    def print_to_terminal(self) -> None:
        """Print the main settings in a few lines; config.yml has all."""
        pipeline = self.pipeline
        say(f"{self.method_name}: '{pipeline.src_prompt}' -> '{pipeline.tgt_prompt}'", "bold")
        say(
            f"scene {self.load_ply or data_of(self)}, model {pipeline.guidance.model}, {self._way()}, "
            f"{self.max_num_iterations} edit steps",
            before="  ",
        )
        say(f"all settings: {self.get_base_dir() / 'config.yml'}", before="  ")

    def _way(self) -> str:
        """Return in words how edit steps edit."""
        guidance = self.pipeline.guidance
        distilled = f"{guidance.objective} with {_scale(guidance.guidance_scale)} guidance scale"
        ways = {"together": "views edited together", "both": f"views edited together, then {distilled}"}
        return ways.get(self.pipeline.strategy, distilled)

    def facts(self) -> dict[str, str]:
        """Return the settings that a reader wants to know, by names in plain words; config.yml has all."""
        pipeline, guidance = self.pipeline, self.pipeline.guidance
        chosen = {
            "method": self.method_name,
            "data": data_of(self),
            "model": guidance.model,
            "strategy": pipeline.strategy,
            **{name: getattr(guidance, name) for name in GUIDANCE_SETTINGS},
            "guidance_scale": _scale(guidance.guidance_scale),
            "num_inference_steps": guidance.num_inference_steps,
            "photometric_loss_mult": pipeline.photometric_loss_mult,
            "lr_mult": pipeline.lr_mult,
            "seed": guidance.seed,
        }
        if self.load_ply is not None:
            chosen["splat"] = self.load_ply
        if parser := ending_of(self):
            chosen["data_parser"] = parser
        return {name.replace("_", " "): str(value) for name, value in chosen.items()}


def _scale(guidance_scale: float) -> str:
    """Return a guidance scale in words."""
    return f"{guidance_scale:g}" if guidance_scale else "the model's own"
