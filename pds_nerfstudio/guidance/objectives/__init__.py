"""What is distilled: every objective a closed unit of one form.

`form` has the formula that all share, `registry` finds one by its name. To add an objective, derive a frozen dataclass
from `Objective` in a file of its own, here or in another package: see docs/extending.md.
"""

from typing import Any

from pds_nerfstudio.guidance.objectives.form import (
    NOISE,
    SOURCE,
    SOURCE_UNPROMPTED,
    TARGET,
    TARGET_AS_SOURCE,
    TARGET_UNPROMPTED,
    Combination,
    Objective,
    constant,
    guided_difference,
    guided_source,
    guided_target,
    linear,
    prompt_difference,
)
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES, make_objective
from pds_nerfstudio.moved import renamed


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)


__all__ = [
    "NOISE",
    "OBJECTIVES",
    "SOURCE",
    "SOURCE_UNPROMPTED",
    "TARGET",
    "TARGET_AS_SOURCE",
    "TARGET_UNPROMPTED",
    "Combination",
    "Objective",
    "constant",
    "guided_difference",
    "guided_source",
    "guided_target",
    "linear",
    "make_objective",
    "prompt_difference",
]
