"""A field that an edit changes in a region of space, and that is what it was everywhere else.

The weights of a field are shared by all of space, so parts of it can't be held. Instead a frozen copy of the field, and
of the networks that propose where to take samples, answers for all points outside. A ray that misses the region is
rendered as before, to the bit, and no gradient reaches the field but through the region. If another region is chosen
while it is edited, what was done in the first one is frozen, too, where it is not in the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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


Layer = tuple[Region, FrozenParts]
"""A region, and what answers for it."""


class KeptSpace:
    """Keeps what a nerfacto shows of all space outside a region, until it is released.

    Args:
        model: From now on its field and its proposal networks answer for the region alone.
        region: Where the model may change.
        source: What answers for all else, as it was before the edit; None is the model as it is.
        layers: Regions that could change earlier, oldest first, with what answers for what is not in a later one.
    """

    def __init__(
        self, model: Parts, region: Region, source: FrozenParts | None = None, layers: Sequence[Layer] = ()
    ) -> None:
        self._model, self.region = model, region
        self._source, self._layers = source or FrozenParts(model), list(layers)
        self._usual = list(model.density_fns)
        self._field: Field = model.field
        ours = PartsForColors(self._usual, model.field.forward)
        parts = self.parts_of(ours, [PartsForColors(part.density_fns, part.field.forward) for part in self.frozen])
        model.density_fns[:], model.field.forward = parts.density_fns, parts.field

    @property
    def frozen(self) -> list[FrozenParts]:
        """What answers for all else: the source, and that of each layer."""
        return [self._source, *(parts for _, parts in self._layers)]

    def parts_of(self, ours: PartsForColors, frozen: Sequence[PartsForColors]) -> PartsForColors:
        """Return what renders all of space.

        Args:
            ours: What renders it as the model would.
            frozen: What renders it as each of `frozen` does.
        """
        kept, *layers = frozen
        for (region, _), layer in zip(self._layers, layers, strict=True):
            kept = _within(region, layer, kept)
        all_parts = _within(self.region, ours, kept)

        def outputs(samples: RaySamples, **options: Any) -> dict[FieldHeadNames, Tensor]:
            for parts in self.frozen:
                parts.field.training = self._field.training  # which decides whose appearance is meant
            return all_parts.field(samples, **options)

        return replace(all_parts, field=outputs)

    def moved(self, region: Region) -> KeptSpace:
        """Return what lets another region change, after this was released; what is not in it stays as it is now."""
        layers = self._layers
        if not region.covers(self.region):
            layers = [*layers, (self.region, FrozenParts(self._model))]
        return KeptSpace(self._model, region, self._source, layers)

    def release(self) -> None:
        """Let the model answer for all of space again."""
        self._model.density_fns[:] = self._usual
        del self._field.__dict__["forward"]

    def state_dict(self) -> dict[str, Any]:
        """Return the region, and the weights of what answers for all else, for a checkpoint."""
        layers = [_state(*layer) for layer in self._layers]
        return {**_state(self.region, self._source), **({"layers": layers} if layers else {})}

    @classmethod
    def from_state(cls, model: Parts, state: Mapping[str, Any], device: torch.device) -> KeptSpace:
        """Go on keeping what a checkpoint kept."""
        (region, source), *layers = [_from_state(model, part, device) for part in (state, *state.get("layers", []))]
        return cls(model, region, source, layers)


def _state(region: Region, parts: FrozenParts) -> dict[str, Any]:
    return {"region": region.state_dict(), "weights": {name: w.cpu() for name, w in parts.state_dict().items()}}


def _from_state(model: Parts, state: Mapping[str, Any], device: torch.device) -> Layer:
    parts = FrozenParts(model)
    parts.load_state_dict(state["weights"])
    return Region.from_state(state["region"], device), parts


def _within(region: Region, ours: PartsForColors, kept: PartsForColors) -> KeptPartsForColors:
    """Return what renders a region by `ours`, and all else by what is kept."""
    pairs = zip(ours.density_fns, kept.density_fns, strict=True)
    return KeptPartsForColors(
        [_densities(region, *pair) for pair in pairs], _outputs(region, ours.field, kept.field), (ours, kept)
    )


def _densities(region: Region, ours: DensityFn, kept: DensityFn) -> DensityFn:
    def densities(points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 1"]:
        with torch.no_grad():
            outside = kept(points)
        return torch.where(region.contains(points)[..., None], ours(points), outside)

    return densities


def _outputs(region: Region, ours: FieldFn, kept: FieldFn) -> FieldFn:
    def outputs(samples: RaySamples, **options: Any) -> dict[FieldHeadNames, Tensor]:
        inside = region.contains(samples.frustums.get_positions())[..., None]
        with torch.no_grad():
            outside = kept(samples, **options)
        return {name: torch.where(inside, value, outside[name]) for name, value in ours(samples, **options).items()}

    return outputs


@dataclass(frozen=True)
class KeptPartsForColors(PartsForColors):
    """What renders colours of a region and of all else."""

    of: tuple[PartsForColors, PartsForColors]
    """What they are made of."""

    @property
    def are_fast(self) -> bool:
        """Whether both are."""
        return all(parts.are_fast for parts in self.of)
