"""Heat maps, triptychs, plots."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from pds_nerfstudio.scenes.output.pictures import EditedView, heat, plot


def test_heat_goes_from_faint_grey_over_red_to_white() -> None:
    amount = torch.tensor([[0.0, 1 / 3, 2 / 3, 1.0, 7.0]])
    result = heat(amount, torch.full((1, 5, 3), 0.5))
    expected = [[0.15, 0.15, 0.15], [1, 0.1, 0.1], [1, 1, 0.05], [1, 1, 1], [1, 1, 1]]
    assert torch.allclose(result, torch.tensor([expected]), atol=1e-6)


def test_a_triptych_shows_where_the_gradient_is() -> None:
    gradient = torch.zeros(4, 6, 3)
    gradient[1, 2] = 5.0
    view = EditedView(3, torch.zeros(4, 6, 3), torch.full((4, 6, 3), 0.5), gradient)
    picture = view.triptych()
    assert picture.shape == (4, 18, 3)
    source, current, where = np.split(picture, 3, axis=1)
    assert (source == 0).all() and (current == 128).all()
    assert (where[1, 2] == 255).all() and where.sum(-1).argmax() == 1 * 6 + 2


def test_a_triptych_of_no_gradient_is_dark() -> None:
    zeros = torch.zeros(4, 6, 3)
    assert EditedView(0, zeros, zeros, zeros).triptych().max() == 0


class TestPlot:
    @staticmethod
    def line(svg: str) -> list[tuple[float, float]]:
        points = re.search(r'points="([^"]*)"', svg)
        assert points is not None
        return [tuple(map(float, point.split(","))) for point in points[1].split()]  # type: ignore[misc]

    def test_points_lie_where_their_numbers_are(self) -> None:
        svg = plot("a < b", {"x": [(0, 0.0), (5, 10.0), (10, 5.0)]}, width=168, height=124)
        ElementTree.fromstring(svg)  # well-formed, the title escaped
        # The plot's field is x 60..160, y 24..104, from the top.
        assert self.line(svg) == [(60, 104), (110, 24), (160, 64)]

    def test_numbers_that_are_not_finite_are_left_out(self) -> None:
        assert len(self.line(plot("", {"x": [(0, 1.0), (1, float("nan")), (2, 3.0)]}))) == 2

    def test_many_points_are_averaged(self) -> None:
        line = self.line(plot("", {"x": [(i, float(i % 2)) for i in range(6000)]}, height=124))
        assert len(line) == 300
        assert [y for _, y in line] == pytest.approx([24.0] * 300)  # all means are equal, so each is the highest

    def test_nothing_to_plot(self) -> None:
        ElementTree.fromstring(plot("", {"x": []}))
