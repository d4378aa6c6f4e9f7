"""Pictures side by side, under any title."""

import numpy as np
import pytest

from pds_nerfstudio.contact_sheet import contact_sheet


def test_its_size_and_places() -> None:
    red = np.full((20, 40, 3), (255, 0, 0), np.uint8)
    tall = np.full((40, 10, 3), (0, 0, 255), np.uint8)
    sheet = np.array(contact_sheet({"a": [red, tall], "b": [tall]}, side=80))
    assert sheet.shape == (2 * (80 + 22), 2 * 80, 3)
    assert tuple(sheet[22 + 40, 40]) == (255, 0, 0) and tuple(sheet[22 + 5, 40]) == (255, 255, 255)
    assert tuple(sheet[22 + 40, 120]) == (0, 0, 255) and tuple(sheet[22 + 40, 85]) == (255, 255, 255)
    assert tuple(sheet[102 + 22 + 40, 40]) == (0, 0, 255) and (sheet[102 + 22 :, 80:] == 255).all()


def title_of(text: str, side: int = 100) -> np.ndarray:
    sheet = np.array(contact_sheet({text: [np.full((10, 10, 3), 255, np.uint8)]}, side=side))
    assert (sheet[22:] == 255).all()
    return sheet[:22]


@pytest.mark.parametrize(
    "text", ["a fox", "狐狸 🦊", "лиса", "ثعلب", "a\nfox", "\udcff", "\x00\x1b[1m fox", "fox " * 999]
)
def test_any_title_is_written_on_its_line(text: str) -> None:
    title = title_of(text)
    assert title.min() < 128 and (title[:, -6:] == 255).all()


def test_letters_are_told_apart() -> None:
    """A font that lacks them draws the same box for all."""
    assert not np.array_equal(title_of("ü"), title_of("é"))
    assert not np.array_equal(title_of("л"), title_of("ж"))


def test_a_title_that_is_cut_says_so() -> None:
    assert np.array_equal(title_of("fox " * 500, 60), title_of("fox fox…", 60))


def test_no_title_has_a_place_too() -> None:
    assert (title_of("") == 255).all() and (title_of("fox", 12) == 255).all()
