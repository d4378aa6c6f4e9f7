"""The verdict on an edit: counted from its pictures, and said in words."""

import numpy as np
import pytest

from pds_nerfstudio.page import Picture
from pds_nerfstudio.verdict import Change

GREY: Picture = np.full((40, 50, 3), 100, np.uint8)


def changed(rows: int, by: int, rest: int = 0) -> Picture:
    """Grey of which some rows are brighter, and all others a little."""
    picture = GREY + np.uint8(rest)
    picture[:rows] = 100 + by
    return picture


@pytest.mark.parametrize(
    ("after", "share", "decibels"),
    [
        (GREY, 0.0, 60.0),
        (changed(10, by=80), 0.25, 60.0),
        (changed(40, by=80), 1.0, 0.0),
        (changed(10, by=80, rest=5), 0.25, 20 * np.log10(255 / 5)),
        (changed(10, by=10, rest=10), 0.0, 20 * np.log10(255 / 10)),
    ],
)
def test_what_is_counted(after: Picture, share: float, decibels: float) -> None:
    change = Change.between([GREY], [after])
    assert change.share == pytest.approx(share) and change.rest_decibels == pytest.approx(decibels, abs=1e-3)


def test_pictures_of_several_sizes_count_by_their_pixels() -> None:
    small = GREY[:10]
    assert Change.between([GREY, small], [GREY, small + np.uint8(99)]).share == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(0.0, 60), "Hardly anything has changed."),
        (Change(0.005, 45), "Less than 1% of the picture has clearly changed. The rest is as it was (45 dB)."),
        (Change(0.12, 33), "12% of the picture has clearly changed. The rest is nearly as it was (33 dB)."),
        (Change(0.9, 15), "90% of the picture has clearly changed. The rest changed as well, though less (15 dB)."),
    ],
)
def test_what_is_said(change: Change, words: str) -> None:
    assert change.words == words
