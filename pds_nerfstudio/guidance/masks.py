"""A mask that keeps the edit where the two prompts differ.

Where the model predicts the same noise for both prompts, neither asks for a change; where the predictions
differ most is what the edit is about (DiffEdit, Couairon et al. 2023). A single pair of predictions is noisy,
so the masks of one view are averaged over the steps.
"""

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.guidance.cache import BoundedCache
from pds_nerfstudio.guidance.config import GuidanceConfig


def difference_mask(
    difference: Float[Tensor, "batch channels height width"], quantile: float = 0.95
) -> Float[Tensor, "batch 1 height width"]:
    """Return how much each latent pixel takes part in the edit, in [0, 1].

    The magnitude of the difference, averaged over channels and 3×3 pixels, relative to the element's own high
    quantile: the most different pixels get 1, and a single outlier does not set the scale.

    Args:
        difference: What is near 0 where the prompts agree, say ε̂_tgt − ε̂_src.
        quantile: The share of pixels that lie below 1.
    """
    magnitude = difference.abs().mean(dim=1, keepdim=True)
    blurred = F.avg_pool2d(F.pad(magnitude, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
    scale = torch.quantile(blurred.flatten(1), quantile, dim=1)[:, None, None, None]
    # Equal predictions ask for no edit anywhere; the text term is zero then, whatever the mask.
    return (blurred / scale.clamp_min(torch.finfo(scale.dtype).tiny)).clamp(max=1)


def sharpen(
    mask: Float[Tensor, "batch 1 height width"], low: float = 0.15, high: float = 0.4
) -> Float[Tensor, "batch 1 height width"]:
    """Take the noise floor off a mask: 0 up to `low`, 1 from `high`, straight between.

    Where the prompts agree, two noisy predictions still differ by a tenth to a fifth of their greatest difference.

    Args:
        mask: Values in [0, 1].
        low: What counts as agreement.
        high: What counts as full difference.
    """
    return ((mask - low) / (high - low)).clamp(0, 1)


def stretch(attention: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 1 height width"]:
    """Return each element's attention, moved and scaled to go from 0 to 1; 0 where all is the same."""
    lowest, highest = attention.amin((1, 2, 3), keepdim=True), attention.amax((1, 2, 3), keepdim=True)
    return (attention - lowest) / (highest - lowest).clamp_min(torch.finfo(attention.dtype).tiny)


def soften(
    mask: Float[Tensor, "batch 1 height width"], config: GuidanceConfig
) -> Float[Tensor, "batch 1 height width"]:
    """Return what the text term is multiplied by, where a raw or averaged mask is `mask`.

    Only masks of differences have a noise floor. With `localize` 0 the text acts everywhere.
    """
    return 1 - config.localize * (1 - (sharpen(mask) if config.localize_by == "difference" else mask))


class MaskAverage:
    """The exponential moving average of each view's mask.

    Args:
        capacity: How many views to remember; the least recently seen one makes room.
        decay: Share of the old average that one step keeps.
    """

    def __init__(self, capacity: int, decay: float = 0.9) -> None:
        self.decay = decay
        self._averages: BoundedCache[Tensor] = BoundedCache(capacity)

    def update(
        self, keys: Sequence[Hashable], masks: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        """Take new masks in and return the averages. A view seen for the first time starts at its mask.

        Masks that are not finite, from predictions that were not, are left out: an average would keep their NaN.
        """
        averages = []
        for key, mask in zip(keys, masks.unbind(), strict=True):
            before = self._averages.get(key)
            average = mask if before is None else _moved(before, mask, self.decay)
            self._averages.put(key, average)
            averages.append(average)
        return torch.stack(averages)

    def peek(self, key: Hashable) -> Float[Tensor, "1 height width"] | None:
        """Return the average of one view as it is; None for a view never seen."""
        return self._averages.get(key)

    def learned(
        self, keys: Sequence[Hashable], everywhere: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        """Return the averages of some views as they are; those of `everywhere` for views without a finite one."""
        masks = [self.peek((key, tuple(whole.shape))) for key, whole in zip(keys, everywhere, strict=True)]
        pairs = zip(masks, everywhere, strict=True)
        return torch.stack(
            [whole if mask is None else torch.where(_is_finite(mask), mask, whole) for mask, whole in pairs]
        )

    def state_dict(self) -> list[tuple[Hashable, Tensor]]:
        """Return all averages with their keys, the least recently seen first."""
        return list(self._averages.items())

    def load_state_dict(self, state: list[tuple[Hashable, Tensor]], device: torch.device) -> None:
        """Take up averages that were saved, on `device`."""
        for key, average in state:
            self._averages.put(key, average.to(device))

    def clear(self) -> None:
        """Forget everything, for when the prompts change."""
        self._averages.clear()


def _moved(
    before: Float[Tensor, "1 height width"], mask: Float[Tensor, "1 height width"], decay: float
) -> Float[Tensor, "1 height width"]:
    """Return an average with one mask more; the other of the two if one is not finite. The host doesn't look."""
    started = torch.where(_is_finite(before), torch.lerp(mask, before, decay), mask)
    return torch.where(_is_finite(mask), started, before)


def _is_finite(mask: Float[Tensor, "1 height width"]) -> Bool[Tensor, ""]:
    return mask.isfinite().all()
