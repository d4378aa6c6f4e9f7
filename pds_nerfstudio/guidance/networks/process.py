"""What a model was trained to predict and the noise it was trained with, as its scheduler says."""

from typing import Any

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule

_PARAMETRIZATIONS: dict[str, Parametrization] = {"epsilon": "noise", "v_prediction": "velocity"}


def read_process(scheduler: Any) -> tuple[Parametrization, Schedule]:
    """Return what the model of a diffusers scheduler predicts, and its levels of noise.

    Raises:
        UserError: If the model predicts something else, or the scheduler has no noise schedule.
    """
    predicts = scheduler.config.get("prediction_type", "epsilon")
    if predicts not in _PARAMETRIZATIONS:
        raise UserError(
            f"The model predicts '{predicts}': choose one whose scheduler says 'epsilon' or 'v_prediction'."
        )
    return _PARAMETRIZATIONS[predicts], Schedule.from_scheduler(scheduler)


def takes_few_steps(scheduler: Any) -> bool:
    """Return whether a model was distilled to few steps and no guidance, as turbo and lightning models are.

    Their schedulers visit the last time first, as only those of zero-terminal-SNR models do beside.
    """
    config = scheduler.config
    return config.get("timestep_spacing") == "trailing" and not config.get("rescale_betas_zero_snr")
