"""Pictures in pages; tests/scenes/output/test_report.py looks at a whole page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pds_nerfstudio.page import Fineness, data_url, heading, jpeg, slider


def test_a_picture_survives_being_a_url() -> None:
    picture = np.full((8, 10, 3), (200, 100, 50), np.uint8)
    url = data_url(jpeg(picture, 95), "image/jpeg")
    head, content = url.split(",")
    assert head == "data:image/jpeg;base64"
    back = np.array(Image.open(io.BytesIO(base64.b64decode(content))))
    assert np.abs(back.astype(int) - picture).max() < 8


class TestFineness:
    NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)

    def test_what_fits_is_kept(self) -> None:
        assert Fineness.that_fits([self.NOISE], 100, 10**9) == Fineness(100)
        assert Image.open(io.BytesIO(Fineness(100).jpeg(self.NOISE))).size == (100, 75)
        assert Image.open(io.BytesIO(Fineness(1000).jpeg(self.NOISE))).size == (120, 90)

    @pytest.mark.parametrize("most", [20_000, 8_000, 3_000])
    def test_what_does_not_fit_is_made_to_but_no_smaller(self, most: int) -> None:
        fineness = Fineness.that_fits([self.NOISE] * 2, 100, most)
        assert most / 2 < 2 * len(fineness.jpeg(self.NOISE)) <= most

    def test_no_pictures_fit(self) -> None:
        assert Fineness.that_fits([], 100, 0) == Fineness(100)


def test_a_slider_says_what_it_compares() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    text = slider(picture, picture, "a <drawing>", labels=("draft", "after"))
    assert 'aria-label="Draft and after, a &lt;drawing&gt;"' in text
    assert "<span>Draft</span>" in text and 'alt="a &lt;drawing&gt;, draft"' in text


def test_a_heading_shows_prompts_as_they_are() -> None:
    assert "<span>a &lt;b&gt;</span> <b>→</b> c" in heading("a <b>", "c")
    assert heading(" ", "c").endswith("<h1>c</h1></header>")
