"""A nerfacto's costly parts, each computed by what is fastest on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler
from nerfstudio.models.nerfacto import NerfactoModel
from torch import Tensor, nn

from pds_nerfstudio.scenes.kernels.checked import CheckedFunction
from pds_nerfstudio.scenes.kernels.hash_encoding import speed_up
from pds_nerfstudio.scenes.kernels.sampling import SampleFn, usual_samples

_RAYS_TO_CHECK = 256
"""Rays that a kernel's results are compared with PyTorch's on."""


@dataclass(frozen=True)
class PartsForColors:
    """What renders colours, where no gradients are wanted."""

    density_fns: Sequence[Callable[..., Tensor]]
    """Of the proposal networks, one for each round of proposals."""
    field: Callable[[RaySamples], dict[FieldHeadNames, Tensor]]
    """From samples to their densities and colours."""

    @property
    def are_fast(self) -> bool:
        """Whether all parts are kernels that need little memory; False until the first call, which shows it."""
        parts = (*self.density_fns, self.field)
        return all(isinstance(part, CheckedFunction) and part.is_fast for part in parts)


@runtime_checkable
class Parts(Protocol):
    """The costly parts of a nerfacto."""

    field: Any
    proposal_networks: nn.ModuleList
    density_fns: list[Any]


def speed_up_nerfacto(model: NerfactoModel, triton: bool) -> PartsForColors:
    """Speed up a model's hash encodings, and return the parts that render its colours.

    Args:
        model: Its encodings are changed in place.
        triton: Whether Triton is there, and to be used. Where it is not used, the parts are the model's own.
    """
    speed_up(model, triton)
    return parts_for_colors(model, triton)


def parts_for_colors(model: Parts, triton: bool) -> PartsForColors:
    """Return the parts that render the colours of a model whose hash encodings have been sped up.

    Args:
        model: Or what has been copied of it.
        triton: Whether Triton is there, and to be used.
    """
    if not triton:
        return PartsForColors(list(model.density_fns), model.field.forward)
    from pds_nerfstudio.scenes.kernels.fused_density import density_without_gradients
    from pds_nerfstudio.scenes.kernels.fused_field import field_without_gradients

    fast = [_checked_densities(density_without_gradients, cast(Field, part)) for part in model.proposal_networks]
    field = CheckedFunction(
        field_without_gradients(model.field),
        model.field.forward,
        "colours",
        few=lambda samples: samples[:_RAYS_TO_CHECK],
        numbers=lambda outputs: (outputs[FieldHeadNames.DENSITY], outputs[FieldHeadNames.RGB]),
    )
    # One network may serve all rounds of proposals.
    return PartsForColors(fast * (len(model.density_fns) // len(fast)), field)


def sampling_for_colors(sampler: ProposalNetworkSampler, triton: bool) -> SampleFn:
    """Return what samples rays as a sampler does, where no gradients are wanted.

    Args:
        sampler: Of a nerfacto.
        triton: Whether Triton is there, and to be used.
    """
    if not triton:
        return partial(usual_samples, sampler)
    from pds_nerfstudio.scenes.kernels.fused_sampler import sampler_without_gradients

    fast = sampler_without_gradients(sampler)
    checked = CheckedFunction(
        lambda given: fast(*given),
        lambda given: usual_samples(sampler, *given),
        "samples",
        few=lambda given: (given[0][:_RAYS_TO_CHECK], given[1]),
        numbers=lambda samples: (samples.frustums.ends,),
    )
    return lambda rays, density_fns: checked((rays, density_fns))


def _checked_densities(
    without_gradients: Callable[[Field], Callable[[Tensor], Tensor]], network: Field
) -> CheckedFunction[Tensor, Tensor]:
    return CheckedFunction(
        without_gradients(network),
        network.density_fn,
        "densities",
        few=lambda positions: positions[:_RAYS_TO_CHECK],
        numbers=lambda densities: (densities,),
    )
