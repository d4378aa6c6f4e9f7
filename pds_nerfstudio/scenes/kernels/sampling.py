"""What samples rays, as nerfstudio has it."""

from collections.abc import Callable, Sequence

from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler
from torch import Tensor

SampleFn = Callable[[RayBundle, Sequence[Callable[..., Tensor]]], RaySamples]
"""From rays, with their near and far planes, and the density functions of the rounds to samples."""


def usual_samples(
    sampler: ProposalNetworkSampler, rays: RayBundle, density_fns: Sequence[Callable[..., Tensor]]
) -> RaySamples:
    """Return samples along rays by a sampler's own `forward`."""
    samples: RaySamples = sampler(rays, density_fns=density_fns)[0]
    return samples
