"""What the options of an edit of a scene may be."""

from __future__ import annotations

from typing import Any, get_args

from nerfstudio.utils.comms import get_rank
from nerfstudio.utils.rich_utils import CONSOLE

from pds_nerfstudio.checks import at_least, check_parts, finite, known, share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODELS
from pds_nerfstudio.scenes.together import Strategy

_FEW_STEPS = 300
"""With fewer steps, a NeRF that is fitted to redrawn views hardly shows what is new in them."""


def check_edit(config: Any) -> None:
    """Refuse options that no edit can use, and warn of options that few edits want.

    Args:
        config: Of the edit, an `EditPipelineConfig`.

    Raises:
        UserError: Naming the option.
    """
    check_prompt("tgt-prompt", config.tgt_prompt, "should show")
    if config.guidance.model in EMBEDDED_MODELS:  # of others it is known once they are loaded
        check_prompt("src-prompt", config.src_prompt, "shows")
    at_least(config, 1, "views_per_step", "refine_rounds")
    at_least(config, 0, "reconstruct_steps", "refine_steps", "lr_warmup_steps", "turntable_frames")
    finite(config, "guidance_loss_mult", "photometric_loss_mult", "smallest_gradient", "lr_mult", "lr_final_mult")
    finite(config, "refine_lr_mult", above=True)
    share(config, "hold_below", of="a Gaussian's light")
    share(config, "redraw_final_mult", above=True, of="the strength")
    known(config, "strategy", get_args(Strategy))
    check_parts(config, "model", "only", "guidance", "refinement", "together")
    if config.refine_from == "source" and 0 < config.refine_steps < _FEW_STEPS and get_rank() == 0:
        CONSOLE.print(
            f"[yellow]--pipeline.refine-steps {config.refine_steps} may be too few to bring the edit back into "
            f"the source: give {_FEW_STEPS} or more, or --pipeline.refine-from edit."
        )


def check_prompt(name: str, prompt: str, says: str) -> None:
    """Refuse an empty prompt.

    Args:
        name: Of its option.
        prompt: What it is.
        says: What it says about the scene.

    Raises:
        UserError: If it is empty.
    """
    if not prompt.strip():
        raise UserError(f"--pipeline.{name} is missing: say in a few words what the scene {says}.")
