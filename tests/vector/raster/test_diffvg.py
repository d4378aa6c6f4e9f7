"""What pydiffvg would be given; pydiffvg itself is on no package index, so a stand-in with its signatures takes it."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.raster.diffvg import DiffvgRenderer
from pds_nerfstudio.vector.raster.scene import SceneParameters
from pds_nerfstudio.vector.svg.document import Document

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""One black pixel."""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the arguments of every call, by name."""
    calls = SimpleNamespace(paths=[], groups=[], gpu=None)

    class Path:
        def __init__(
            self,
            num_control_points: Any,
            points: Any,
            is_closed: Any,
            stroke_width: Any,
            id: Any = "",
            use_distance_approx: Any = False,
        ) -> None:
            vars(self).update(locals())
            calls.paths.append(self)

    class ShapeGroup:
        def __init__(
            self,
            shape_ids: Any,
            fill_color: Any,
            use_even_odd_rule: Any = True,
            stroke_color: Any = None,
            shape_to_canvas: Any = None,
        ) -> None:
            vars(self).update(locals())
            calls.groups.append(self)

    class RenderFunction:
        @staticmethod
        def serialize_scene(width: int, height: int, shapes: list, groups: list) -> tuple[list, list]:
            return shapes, groups

        @staticmethod
        def apply(
            width: int,
            height: int,
            samples_x: int,
            samples_y: int,
            seed: int,
            background: Tensor,
            shapes: list,
            groups: list,
        ) -> Tensor:
            assert background.shape == (height, width, 4) and background.is_contiguous()
            return background + sum(path.points.sum() for path in shapes)

    module = ModuleType("pydiffvg")
    vars(module).update(
        Path=Path,
        ShapeGroup=ShapeGroup,
        RenderFunction=RenderFunction,
        set_use_gpu=lambda use: setattr(calls, "gpu", use),
    )
    monkeypatch.setitem(sys.modules, "pydiffvg", module)
    return calls


def _render(body: str, size: int = 20) -> tuple[Tensor, SceneParameters]:
    document = Document(f'<svg viewBox="0 0 10 10" width="10" height="10">{body}</svg>'.encode())
    parameters = document.parameters.map(lambda t: t.requires_grad_())
    renderer = DiffvgRenderer(document.scene)
    image = renderer.render(parameters, size, size, document.view(size, size), torch.ones(3, size, size))
    return image, parameters


def test_points_come_in_pixels_in_pydiffvg_s_order(given: SimpleNamespace) -> None:
    _render('<path transform="translate(1 0)" d="M0 0L4 0C5 1 5 2 4 3Z"/>')
    (path,), (group,) = given.paths, given.groups
    assert path.num_control_points.tolist() == [0, 2, 0] and path.is_closed and given.gpu is False
    assert path.points.tolist() == [[2, 0], [10, 0], [12, 2], [12, 4], [10, 6]]
    assert group.shape_ids.tolist() == [0] and group.stroke_color is None and not group.use_even_odd_rule


def test_an_open_contour_has_its_last_point(given: SimpleNamespace) -> None:
    _render('<path fill="none" stroke="red" stroke-width="3" d="M1 1L4 1"/>')
    (path,), (group,) = given.paths, given.groups
    assert path.points.tolist() == [[2, 2], [8, 2]] and not path.is_closed
    assert path.stroke_width == 3  # half of 3 units of two pixels
    assert group.fill_color is None and group.stroke_color.tolist() == [1, 0, 0, 1]


def test_holes_share_a_group_and_opacities_multiply(given: SimpleNamespace) -> None:
    _render('<path fill="#f00" fill-rule="evenodd" fill-opacity=".5" opacity=".5" d="M0 0H9V9H0ZM3 3H6V6H3Z"/>')
    (group,) = given.groups
    assert len(given.paths) == 2 and group.shape_ids.tolist() == [0, 1] and group.use_even_odd_rule
    assert group.fill_color.tolist() == pytest.approx([1, 0, 0, 0.25])


def test_fill_and_stroke_are_painted_in_order(given: SimpleNamespace) -> None:
    _render('<rect width="4" height="4" fill="red" stroke="blue"/><rect width="4" height="4"/>')
    assert [g.stroke_color is None for g in given.groups] == [True, False, True]


def test_gradients_reach_the_parameters(given: SimpleNamespace) -> None:
    image, parameters = _render('<rect width="4" height="4"/>')
    assert image.shape == (3, 20, 20)
    image.sum().backward()
    assert parameters.points.grad is not None and bool(parameters.points.grad.all())


@pytest.mark.parametrize(
    ("body", "lacks"),
    [
        ('<g opacity=".5"><rect width="4" height="4"/><rect width="2" height="4"/></g>', "opacity of groups"),
        ('<rect width="4" height="4" stroke="red" opacity=".5"/>', "together"),
        ('<path stroke="red" stroke-dasharray="1" d="M0 0L9 9"/>', "dashes"),
        (
            '<clipPath id="c"><rect width="2" height="2"/></clipPath><rect clip-path="url(#c)" width="4" height="4"/>',
            "clip",
        ),
        (
            '<linearGradient id="g"><stop stop-color="red"/><stop offset="1"/></linearGradient>'
            '<rect fill="url(#g)" width="4" height="4"/>',
            "gradients",
        ),
        ('<rect width="4" height="4" style="filter:blur(1px)"/>', "masks, filters and blend modes"),
        (f'<image href="data:image/png;base64,{DOT}" width="4" height="4"/>', "pictures"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*drawn, but not edited")
def test_what_it_lacks_is_named(given: SimpleNamespace, body: str, lacks: str) -> None:
    with pytest.raises(UserError, match=lacks):
        _render(body)


def test_without_pydiffvg_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydiffvg", None)
    with pytest.raises(UserError, match="not installed"):
        _render('<rect width="4" height="4"/>')
