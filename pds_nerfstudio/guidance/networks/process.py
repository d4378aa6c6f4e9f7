"""What a model was trained to predict and the noise it was trained with, as its files say."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.parametrization import Parametrization
from pds_nerfstudio.guidance.schedule import Schedule

_PARAMETRIZATIONS: dict[str, Parametrization] = {
    "epsilon": "noise",
    "v_prediction": "velocity",
    "flow_prediction": "flow",
}


def read_process(scheduler: Any) -> tuple[Parametrization, Schedule]:
    """Return what the model of a diffusers scheduler predicts, and its levels of noise.

    A scheduler's shift says which times a sampler visits; those that an edit visits are said by their noise.

    Raises:
        UserError: If the model predicts something else, or the scheduler has no noise schedule.
    """
    name, config = type(scheduler).__name__, scheduler.config
    predicts = "flow_prediction" if name.startswith("FlowMatch") else config.get("prediction_type", "epsilon")
    if predicts not in _PARAMETRIZATIONS:
        raise UserError(
            f"The model's {name} says that it predicts '{predicts}': choose a model that predicts 'epsilon', "
            "'v_prediction' or 'flow_prediction'."
        )
    if predicts == "flow_prediction":
        return "flow", Schedule.rectified_flow(config.num_train_timesteps)
    if config.get("use_flow_sigmas"):
        raise UserError(
            f"The model's {name} samples a flow (use_flow_sigmas) and says that the model predicts '{predicts}': set "
            "prediction_type in its scheduler_config.json to flow_prediction, or use_flow_sigmas to false."
        )
    return _PARAMETRIZATIONS[predicts], Schedule.from_scheduler(scheduler)


def training_time(predicts: Parametrization, time: Tensor, schedule: Schedule) -> Tensor:
    """Return the time that networks of discrete times are given: an index into the schedule, or τ·T of a flow."""
    return time * schedule.num_steps if predicts == "flow" else time


def takes_few_steps(scheduler: Any) -> bool:
    """Return whether a model was distilled to few steps and no guidance, as turbo and lightning models are.

    Their schedulers visit the last time first, as only those of zero-terminal-SNR models do beside.
    """
    config = scheduler.config
    return config.get("timestep_spacing") == "trailing" and not config.get("rescale_betas_zero_snr")


def is_called_turbo(pipeline: Any) -> bool:
    """Return whether a flow was distilled to few steps and no guidance, which only its name tells."""
    return "turbo" in str(pipeline.config.get("_name_or_path")).lower()


def refuse_consistency_model(unet: Mapping[str, Any], name: str) -> None:
    """Refuse a UNet that takes the scale of its guidance as an input, as latent consistency models do.

    They jump from any noise to where a sampler of many steps ends, and know no prompt that is none (Luo et al. 2023):
    what they predict is not the noise that objectives speak of.

    Args:
        unet: Its configuration.
        name: What the user calls the model.

    Raises:
        UserError: Naming the model.
    """
    if unet.get("time_cond_proj_dim") is not None:
        raise UserError(
            f"'{name}' is a latent consistency model, whose UNet2DConditionModel takes the guidance as an input "
            "(time_cond_proj_dim): choose the model that it was distilled from."
        )
