"""Basic shapes that are moved as wholes stay what they are, and look as the edit says."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Oracle, Render

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32" viewBox="0 0 32 32">'
Map = tuple[tuple[float, float], tuple[float, float]]


def _turn(degrees: float) -> Map:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cos, -sin), (sin, cos)


def _about(matrix: Map, x: float, y: float) -> Callable[[Tensor], Tensor]:
    middle = torch.tensor([x, y])
    return lambda points: (points - middle) @ torch.tensor(matrix).T + middle


STRETCH, MIRROR, SLANT = ((1.5, 0.0), (0.0, 0.75)), ((-1.0, 0.0), (0.0, 1.0)), ((1.0, 0.5), (0.0, 1.0))
RECT = '<rect x="10" y="14" width="12" height="4"{}/>'
ROUND = '<rect x="10" y="14" width="12" height="4" rx="2" stroke="red"{}/>'
CIRCLE = '<circle cx="16" cy="16" r="8"{}/>'
ELLIPSE = '<ellipse cx="16" cy="16" rx="8" ry="4"{}/>'
LINE = '<line x1="12" y1="16" x2="20" y2="16" stroke="red"/>'
MOVES = [
    (RECT, _turn(30), RECT.format(' transform="rotate(30 16 16)"')),
    (RECT, _turn(90), '<rect x="14" y="10" width="4" height="12"/>'),
    (RECT, _turn(180), RECT.format("")),
    (RECT, MIRROR, RECT.format("")),
    (ROUND, _turn(-45), ROUND.format(' transform="rotate(-45 16 16)"')),
    (RECT, SLANT, RECT.format(' transform="matrix(1 0 0.5 1 -8 0)"')),
    (CIRCLE, _turn(30), CIRCLE.format("")),
    (CIRCLE, STRETCH, '<ellipse cx="16" cy="16" rx="12" ry="6"/>'),
    (ELLIPSE, _turn(30), ELLIPSE.format(' transform="rotate(30 16 16)"')),
    (ELLIPSE, _turn(90), '<ellipse cx="16" cy="16" rx="4" ry="8"/>'),
    (LINE, _turn(90), '<line x1="16" y1="12" x2="16" y2="20" stroke="red"/>'),
]  # fmt: skip


def _moved(body: str, move: Callable[[Tensor], Tensor]) -> tuple[Document, Tensor, str]:
    """Return a document, the picture of it moved, and the body of the file that is written."""
    document = Document((HEAD + body + "</svg>").encode())
    now = replace(document.parameters, points=move(document.parameters.points))
    said = Rasterizer(document.scene).render(now, 128, 128, document.view(128, 128), torch.ones(3, 128, 128))
    return document, said, document.write(now).decode()[len(HEAD) : -6]


@pytest.mark.parametrize(("before", "matrix", "after"), MOVES)
def test_moved_as_a_whole(before: str, matrix: Map, after: str, render: Render, oracle: Oracle) -> None:
    _, said, found = _moved(before.format(""), _about(matrix, 16, 16))
    assert found == after
    data = (HEAD + found + "</svg>").encode()
    assert psnr(said, render(Document(data))) > 45
    assert psnr(said, oracle(data, 128, 4)) > 36


BLEND = '<linearGradient id="g" gradientUnits="userSpaceOnUse" x2="32"><stop/><stop offset="1" stop-color="red"/>'
KEPT_AS_PATHS = [
    (RECT.format(' stroke="red" stroke-width="3"'), SLANT),  # its line would be slanted
    (BLEND + "</linearGradient>" + RECT.format(' fill="url(#g)"'), _turn(30)),  # its gradient would be turned
    (f'<clipPath id="c">{CIRCLE}</clipPath>'.format("") + RECT.format(' clip-path="url(#c)"'), _turn(30)),
    ("<style>rect{transform:scale(.9)}</style>" + RECT.format(""), _turn(30)),
    (CIRCLE.format(' stroke="red" stroke-width="3" stroke-dasharray="9 4"'), _turn(30)),
]


@pytest.mark.parametrize(("body", "matrix"), KEPT_AS_PATHS)
def test_what_a_transform_would_change_besides_becomes_a_path(
    body: str, matrix: Map, render: Render, oracle: Oracle
) -> None:
    _, said, found = _moved(body, _about(matrix, 16, 16))
    assert "<path" in found
    data = (HEAD + found + "</svg>").encode()
    assert psnr(said, render(Document(data))) > 45
    assert psnr(said, oracle(data, 128, 4)) > 36


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ("translate(1 2)", "translate(1 2) rotate(30 16 16)"),
        ("none", "rotate(30 16 16)"),
        ("scale(1.1) rotate(10 16 16)", "scale(1.1) rotate(40 16 16)"),
        ("rotate(90)", "rotate(120 -16 16)"),
    ],
)
def test_turns_are_added_to_the_transform_that_is_there(given: str, after: str, render: Render) -> None:
    body = RECT.format(f' transform="{given}"')
    _, said, found = _moved(body, _about(_turn(30), 16, 16))
    assert f'transform="{after}"' in found
    assert psnr(said, render(Document((HEAD + found + "</svg>").encode()))) > 45


def test_turning_on_and_on_adds_nothing_but_numbers(render: Render) -> None:
    body = RECT.format("") + RECT.format("")
    for _ in range(4):
        _, said, body = _moved(
            body, lambda p: torch.cat([_about(_turn(20), 14, 16)(p[:4]), _about(SLANT, 16, 14)(p[4:])])
        )
        assert psnr(said, render(Document((HEAD + body + "</svg>").encode()))) > 45
    assert body.count("rotate") == body.count("matrix") == 1
    angle = re.search(r"rotate\((\S+)", body)
    assert angle is not None and float(angle[1]) == pytest.approx(80, abs=0.1)
