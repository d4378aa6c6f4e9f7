"""Framings: views and backgrounds that are drawn at random, or not."""

from __future__ import annotations

import pytest
import torch

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.edit.augmentation import Augmentation
from pds_nerfstudio.vector.raster.affine import apply

VIEW = (2.0, 0.0, 0.0, 2.0, 5.0, 6.0)


def test_without_chance_every_framing_is_the_same() -> None:
    augmentation = Augmentation("#ff8000", 1.0)
    framing = augmentation.draw(VIEW, 16, torch.Generator(), torch.zeros(1))
    assert not augmentation.varies and framing.view == VIEW
    torch.testing.assert_close(framing.background[:, 3, 4], torch.tensor([1, 128 / 255, 0]))


def test_crops_lie_on_the_canvas_and_fill_it() -> None:
    augmentation = Augmentation("random", 0.5)
    generator = torch.Generator().manual_seed(0)
    colors, sides = set(), []
    for _ in range(50):
        framing = augmentation.draw((1, 0, 0, 1, 0, 0), 100, generator, torch.zeros(1))
        scale = framing.view[0]
        # the part of the whole canvas that is seen
        left, top = (-framing.view[4] / scale, -framing.view[5] / scale)
        assert left >= -1e-9 and top >= -1e-9 and left + 100 / scale <= 100 + 1e-9 and top + 100 / scale <= 100 + 1e-9
        assert apply(framing.view, left + 100 / scale, top) == pytest.approx((100, 0))
        sides.append(1 / scale)
        colors.add(tuple(framing.background[:, 0, 0].tolist()))
    assert len(colors) == 50 and 0.5 <= min(sides) < 0.6 and 0.9 < max(sides) <= 1


@pytest.mark.parametrize(
    "augmentation", [Augmentation("nonsense", 1), Augmentation("white", 0), Augmentation("red", 2)]
)
def test_nonsense_is_refused(augmentation: Augmentation) -> None:
    with pytest.raises(UserError):
        augmentation.check()
