"""Rays of nerfstudio's, taken apart into tensors and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from nerfstudio.cameras.rays import RayBundle
from torch import Tensor


def tensors_of(rays: RayBundle) -> list[Tensor]:
    """Return all tensors of rays, in an order of their own."""
    values = [getattr(rays, field.name) for field in fields(rays)] + [rays.metadata[name] for name in rays.metadata]
    return [value for value in values if isinstance(value, Tensor)]


def with_tensors(like: RayBundle, tensors: Sequence[Tensor]) -> RayBundle:
    """Return rays made of other tensors than those that they are like."""
    left = iter(tensors)
    values = {field.name: getattr(like, field.name) for field in fields(like)}
    values |= {name: next(left) for name, value in values.items() if isinstance(value, Tensor)}
    values["metadata"] = {
        name: next(left) if isinstance(value, Tensor) else value for name, value in like.metadata.items()
    }
    return RayBundle(**values)
