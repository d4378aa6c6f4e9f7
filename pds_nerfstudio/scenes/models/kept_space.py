"""A field that an edit changes in a region of space, and that is what it was everywhere else.

The weights of a field are shared by all of space, so parts of it can't be held. Instead a frozen copy of the field, and
of the networks that propose where to take samples, answers for all points outside. A ray that misses the region is
rendered as before, to the bit, and no gradient reaches the field but through the region.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor, nn

from pds_nerfstudio.scenes.kernels.nerfacto import Parts, PartsForColors
from pds_nerfstudio.scenes.selection.region import Region

DensityFn = Callable[[Float[Tensor, "*points 3"]], Float[Tensor, "*points 1"]]
FieldFn = Callable[..., dict[FieldHeadNames, Tensor]]

_OF_THE_LAST_CALL = ("_sample_locations", "_density_before_activation")


class FrozenParts(nn.Module):
    """A copy of a nerfacto's field and proposal networks, as they are, that no step changes.

    Args:
        model: The nerfacto.
    """

    def __init__(self, model: Parts) -> None:
        super().__init__()
        for name in _OF_THE_LAST_CALL:  # belongs to a graph, and can't be copied
            model.field.__dict__.pop(name, None)
        self.field, self.proposal_networks = copy.deepcopy((model.field, model.proposal_networks))
        for parameter in self.requires_grad_(False).parameters():
            parameter.grad = None
        rounds = len(model.density_fns) // len(self.proposal_networks)  # one network may serve all of them
        densities = [cast(Field, network).density_fn for network in self.proposal_networks]
        self.density_fns: list[Any] = densities * rounds


class KeptSpace:
    """Keeps what a nerfacto shows of all space outside a region, until it is released.

    Args:
        model: From now on its field and its proposal networks answer for the region alone.
        region: Where the model may change.
    """

    def __init__(self, model: Parts, region: Region) -> None:
        self._model, self._region = model, region
        self.source = FrozenParts(model)
        """What answers for all else."""
        self._usual = list(model.density_fns)
        self._field: Field = model.field
        both = (
            PartsForColors(self._usual, model.field.forward),
            PartsForColors(self.source.density_fns, self.source.field.forward),
        )
        parts = self.parts_of(*both)
        model.density_fns[:], model.field.forward = parts.density_fns, parts.field

    def parts_of(self, ours: PartsForColors, source: PartsForColors) -> PartsForColors:
        """Return what renders all of space.

        Args:
            ours: What renders it as the model would.
            source: What renders it as the frozen copy does.
        """
        pairs = zip(ours.density_fns, source.density_fns, strict=True)
        densities = [self._densities(*pair) for pair in pairs]
        return KeptPartsForColors(densities, self._outputs(ours.field, source.field), (ours, source))

    def _densities(self, ours: DensityFn, source: DensityFn) -> DensityFn:
        def densities(points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 1"]:
            with torch.no_grad():
                kept = source(points)
            return torch.where(self._region.contains(points)[..., None], ours(points), kept)

        return densities

    def _outputs(self, ours: FieldFn, source: FieldFn) -> FieldFn:
        def outputs(samples: RaySamples, **options: Any) -> dict[FieldHeadNames, Tensor]:
            inside = self._region.contains(samples.frustums.get_positions())[..., None]
            self.source.field.training = self._field.training  # which decides whose appearance is meant
            with torch.no_grad():
                kept = source(samples, **options)
            return {name: torch.where(inside, value, kept[name]) for name, value in ours(samples, **options).items()}

        return outputs

    def release(self) -> None:
        """Let the model answer for all of space again."""
        self._model.density_fns[:] = self._usual
        del self._field.__dict__["forward"]

    def state_dict(self) -> dict[str, Any]:
        """Return the region, and the weights of what answers for all else, for a checkpoint."""
        weights = {name: value.cpu() for name, value in self.source.state_dict().items()}
        return {"region": self._region.state_dict(), "weights": weights}

    @classmethod
    def from_state(cls, model: Parts, state: Mapping[str, Any], device: torch.device) -> KeptSpace:
        """Go on keeping what a checkpoint kept."""
        kept = cls(model, Region.from_state(state["region"], device))
        kept.source.load_state_dict(state["weights"])
        return kept


@dataclass(frozen=True)
class KeptPartsForColors(PartsForColors):
    """What renders colours of a region and of all else."""

    of: tuple[PartsForColors, PartsForColors]
    """What they are made of."""

    @property
    def are_fast(self) -> bool:
        """Whether both are."""
        return all(parts.are_fast for parts in self.of)
