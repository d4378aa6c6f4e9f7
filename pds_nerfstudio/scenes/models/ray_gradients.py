"""Gradients of rays that are rendered for the gradients' sake."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn
from torch.func import functional_call

from pds_nerfstudio.scenes.models.ray_recordings import RayRecordings, kind_of
from pds_nerfstudio.scenes.ray_bundles import tensors_of, with_tensors

RenderRays = Callable[[RayBundle], tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]]
"""Colours of rays, and two losses of each."""


class Pull(NamedTuple):
    """What is asked of rays."""

    colors: Float[Tensor, "rays 3"]
    """Gradients on their colours."""
    first: Float[Tensor, "rays"]
    """Gradients on the first of their losses."""
    second: Float[Tensor, "rays"]
    """Gradients on the second."""
    shares: Float[Tensor, "rays"]
    """The share of each ray's losses in the sums."""


class RayGradients:
    """Renders rays with a graph, and returns the gradients of what is asked of them.

    That takes some thousand kernels, however few rays there are. On a GPU, batches that come again are recorded.

    Args:
        model: What is rendered.
        render: Renders rays of it. What it reads must stay where it is in memory.
        state: What else decides how, such as whether the model is in training.
    """

    def __init__(self, model: nn.Module, render: RenderRays, state: Callable[[], Hashable] = lambda: None) -> None:
        self.render = render
        self._rendering = _Rendering(model, render)
        self._state = state
        self._recordings = RayRecordings("back-propagated")

    def prepare(self, rays: RayBundle, wanted: Sequence[Tensor], autocast: dict[str, Any]) -> None:
        """Record what such rays need if as many have come before, and it can be recorded.

        That is not done when gradients are asked for: torch computes them in a thread of its own, in which numbers that
        nerfstudio makes on the CPU could not be made on the GPU.

        Args:
            rays: Any, as many as those to come.
            wanted: Weights of the model by which gradients will be wanted.
            autocast: Arguments of `torch.autocast`.
        """
        device, n = rays.origins.device, len(rays)
        uncached = {**autocast, "cache_enabled": False}  # weights in half precision are made anew in each run

        def compute(given: Sequence[Tensor]) -> list[Tensor | None]:
            return self._compute(rays, given, wanted, uncached)

        def inputs() -> list[Tensor]:
            return [*tensors_of(rays), torch.ones(n, 3, device=device), *torch.ones(3, n, device=device)]

        self._recordings.prepare(self._kind(rays, wanted, autocast), device, compute, inputs)

    def __call__(
        self, rays: RayBundle, pull: Pull, wanted: Sequence[Tensor], autocast: dict[str, Any]
    ) -> tuple[Float[Tensor, "2"], list[Tensor | None]]:
        """Return the sums of both losses, and gradients.

        Args:
            rays: In any number.
            pull: What is asked of them.
            wanted: By which of the model's weights.
            autocast: Arguments of `torch.autocast`.
        """
        inputs = [*tensors_of(rays), *(t.float() for t in pull)]
        recorded = self._recordings.of_kind(self._kind(rays, wanted, autocast))
        if recorded is not None:
            found = [None if t is None else t.clone() for t in recorded(inputs)]
        else:
            found = self._compute(rays, inputs, wanted, autocast)
        sums, *gradients = found
        assert sums is not None
        return sums, gradients

    def _kind(self, rays: RayBundle, wanted: Sequence[Tensor], autocast: dict[str, Any]) -> Hashable:
        return kind_of(rays, wanted, *autocast.items(), self._state())

    def _compute(
        self, like: RayBundle, inputs: Sequence[Tensor], wanted: Sequence[Tensor], autocast: dict[str, Any]
    ) -> list[Tensor | None]:
        *of_rays, colors, first, second, shares = inputs
        # Other leaves in the same memory: where a graph of the weights themselves is alive, the stream on which it was
        # made would have to wait for this one, which a recording must not ask for.
        leaves = [weight.detach().requires_grad_() for weight in wanted]
        names = {id(weight): name for name, weight in self._rendering.named_parameters()}
        ours = {names[id(weight)]: leaf for weight, leaf in zip(wanted, leaves, strict=True)}
        with torch.enable_grad(), torch.autocast(**autocast):
            # nerfacto's parts share modules, not weights. To tie weights would exchange those of such a module twice,
            # and put back the wrong ones.
            outputs = functional_call(self._rendering, ours, with_tensors(like, of_rays), tie_weights=False)
        sums = torch.stack([(shares * loss.detach()).sum() for loss in outputs[1:]]).to(shares)
        pairs = zip(outputs, (colors, first, second), strict=True)
        ends, given = zip(*((x, pull.to(x)) for x, pull in pairs if x.requires_grad), strict=True)
        return [sums, *torch.autograd.grad(ends, leaves, given, allow_unused=True)]


class _Rendering(nn.Module):
    """What renders a model, as a module whose weights can be exchanged for a call."""

    def __init__(self, model: nn.Module, render: RenderRays) -> None:
        super().__init__()
        self.model, self.render = model, render

    def forward(self, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
        return self.render(rays)
