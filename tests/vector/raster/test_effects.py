"""Masks, filters, blend modes, patterns and pictures in scenes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.filter_graph import SOURCE, Blur, Filter, Region, Step
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import (
    Clip,
    ClipShape,
    Effects,
    Fill,
    Group,
    Masking,
    Node,
    Pattern,
    Picture,
    Shape,
    Solid,
    Stroke,
    is_plain,
)
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from tests.vector.conftest import SceneCheck


def _box(builder: SceneBuilder, x: float, y: float, width: float, height: float) -> int:
    return builder.add_polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def _rect(
    builder: SceneBuilder, box: tuple[float, float, float, float], color: tuple[float, float, float], alpha: float = 1.0
) -> Shape:
    fill = Fill(Solid(builder.add_color(*color)), (builder.add_opacity(alpha),))
    return Shape(_box(builder, *box), fill=fill)


def _draw(builder: SceneBuilder, *nodes: Node, size: int = 16, view: Affine = IDENTITY) -> Tensor:
    scene, parameters = builder.build(nodes)
    return Rasterizer(scene).render(parameters.map(lambda t: t.double()), size, size, view)


COLOR = (0.3, 0.6, 0.9)


@pytest.mark.parametrize(
    ("alpha", "linear", "wanted"),
    [
        (False, False, 0.7 * (0.2125 * 0.3 + 0.7154 * 0.6 + 0.0721 * 0.9)),
        (True, False, 0.7),
        (
            False,
            True,
            0.7 * sum(w * ((c + 0.055) / 1.055) ** 2.4 for w, c in zip((0.2125, 0.7154, 0.0721), COLOR, strict=True)),
        ),
    ],
)
def test_a_mask_shows_as_much_as_it_is_light(alpha: bool, linear: bool, wanted: float) -> None:
    builder = SceneBuilder()
    content = Group((_rect(builder, (0, 0, 16, 8), COLOR, 0.7),))
    region = Clip((ClipShape(_box(builder, 4, 0, 12, 16)),))
    masked = Group(
        (_rect(builder, (0, 0, 16, 16), (1, 0, 0)),), effects=Effects(masks=(Masking(content, region, alpha, linear),))
    )
    seen = _draw(builder, masked)[3]
    assert seen[4, 8] == pytest.approx(wanted, abs=1e-5)
    assert float(seen[12].abs().max()) == 0 and float(seen[4, :4].abs().max()) == 0


def test_a_mask_without_anything_hides_all() -> None:
    builder = SceneBuilder()
    effects = Effects(masks=(Masking(Group(())),))
    assert float(_draw(builder, Group((_rect(builder, (0, 0, 9, 9), COLOR),), effects=effects)).abs().max()) == 0


def _blurred(builder: SceneBuilder, node: Node, region: Region | None = None, deviation: float = 2.0) -> Group:
    steps = (Step(Blur(deviation, deviation), (SOURCE,)),)
    return Group((node,), effects=Effects(filters=(Filter(steps, region),)))


def test_what_lies_beyond_the_canvas_is_blurred_into_it() -> None:
    builder = SceneBuilder()
    seen = _draw(builder, _blurred(builder, _rect(builder, (-40, -40, 40, 96), COLOR)))[3, 8]
    x = torch.arange(16, dtype=torch.float64) + 0.5
    assert (seen - 0.5 * (1 - torch.erf(x / math.sqrt(8)))).abs().max() < 4e-3
    assert float(seen[0]) > 0.35


def test_a_filters_region_cuts_it_and_follows_a_box() -> None:
    builder = SceneBuilder()
    shape = _rect(builder, (4, 4, 6, 6), COLOR)
    path = builder.add_follower(_box(builder, -0.1, 0, 1.2, 1), IDENTITY, ((shape.path, IDENTITY),))
    scene, parameters = builder.build([_blurred(builder, shape, Region(builder.first_point(path)))])
    for move in (0.0, 5.0):
        points = parameters.points.clone()
        points[:4, 0] += move
        picture = Rasterizer(scene).render(type(parameters)(**{**vars(parameters), "points": points}), 20, 16)
        columns = picture[3].amax(0).nonzero()[:, 0]
        assert (columns.min(), columns.max()) == (3 + move, 10 + move)


def test_the_blur_is_as_wide_as_the_view_says() -> None:
    builder = SceneBuilder()
    scene, parameters = builder.build([_blurred(builder, _rect(builder, (4, 4, 8, 8), COLOR), deviation=1.0)])
    small = Rasterizer(scene).render(parameters, 16, 16)
    large = Rasterizer(scene).render(parameters, 64, 64, (4, 0, 0, 4, 0, 0))
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().max() < 0.04


def _over_and_mixed(builder: SceneBuilder, isolated: bool) -> Node:
    blue = Group((_rect(builder, (0, 0, 16, 16), (0.2, 0.4, 0.8)),), effects=Effects(blend="multiply"))
    inner = Group((blue,), effects=Effects(isolated=True) if isolated else None)
    return Group((_rect(builder, (0, 0, 8, 16), (0.5, 0.5, 0.5)), inner))


@pytest.mark.parametrize(("isolated", "wanted"), [(False, 0.4), (True, 0.8)])
def test_what_is_in_an_isolated_group_mixes_with_nothing_below(isolated: bool, wanted: float) -> None:
    builder = SceneBuilder()
    picture = _draw(builder, _over_and_mixed(builder, isolated))
    assert picture[2, 8, 4] == pytest.approx(wanted) and picture[2, 8, 12] == pytest.approx(0.8)


def test_a_drawing_mixes_with_no_background() -> None:
    builder = SceneBuilder()
    scene, parameters = builder.build([_over_and_mixed(builder, False)])
    picture = Rasterizer(scene).render(parameters, 16, 16, background=torch.full((3, 16, 16), 0.1))
    assert picture[:, 8, 12].tolist() == pytest.approx([0.2, 0.4, 0.8])


def _pattern(builder: SceneBuilder, tile: tuple[float, float, float, float], transform: Affine = IDENTITY) -> Pattern:
    dot = _rect(builder, (tile[0], tile[1] - 1, tile[2] / 2, tile[3] + 2), (0.8, 0.3, 0.2))
    return Pattern(Group((dot,)), tile, transform)


def test_tiles_repeat_from_where_the_first_one_is() -> None:
    builder = SceneBuilder()
    paint = _pattern(builder, (1, 0, 4, 4))
    seen = _draw(builder, Shape(_box(builder, 0, 0, 16, 16), fill=Fill(paint)))[3, 5]
    assert torch.allclose(seen, torch.tensor([0.0, 1, 1, 0] * 4, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1.3, 0.37])
def test_tiles_of_any_size_cover_what_they_cover(scale: float) -> None:
    builder = SceneBuilder()
    paint = _pattern(builder, (0, 0, 4, 4), (scale, 0, 0, scale, 0, 0))
    seen = _draw(builder, Shape(_box(builder, 0, 0, 16, 16), fill=Fill(paint)))[3, 5]
    edges = torch.arange(17, dtype=torch.float64) / scale
    covered = (edges / 4).floor() * 2 + (edges % 4).clamp(max=2)
    wanted = covered.diff() * scale
    assert (seen - wanted).abs().max() < 0.2 and (seen - wanted).square().mean().sqrt() < 0.07
    assert float(seen.mean()) == pytest.approx(float(wanted.mean()), abs=0.03)


def test_pixels_are_averaged_and_looked_up_in_their_place() -> None:
    pixels = torch.rand(4, 16, 24, generator=torch.Generator().manual_seed(0))
    picture = Picture(pixels, (2.0, 3.0, 12.0, 8.0), 0)
    drawn = _draw(SceneBuilder(), picture)
    wanted = torch.nn.functional.avg_pool2d(pixels.double(), 2)
    assert torch.allclose(drawn[:, 3:11, 2:14], wanted, atol=1e-6)
    assert float(drawn[:, :2].abs().max()) == 0 and float(drawn[:, :, 15:].abs().max()) == 0
    small = _draw(SceneBuilder(), picture, size=8, view=(0.5, 0, 0, 0.5, -1, -0.5))
    assert torch.allclose(small[:, 1:5, :6], torch.nn.functional.avg_pool2d(wanted, 2), atol=1e-6)


def _masked_scene(builder: SceneBuilder) -> Node:
    light = Group(
        (_rect(builder, (5, 4, 19, 22), (0.8, 0.5, 0.6), 0.8), _rect(builder, (11, 9, 14, 15), (0.2, 0.9, 0.4)))
    )
    region = Clip((ClipShape(_box(builder, 3.3, 2.2, 24, 26)),))
    shapes = (_rect(builder, (2, 6, 21, 17), (0.9, 0.3, 0.2)), _rect(builder, (9, 3, 20, 20), (0.1, 0.4, 0.9), 0.7))
    return Group(shapes, (builder.add_opacity(0.9),), effects=Effects(masks=(Masking(light, region),)))


def _mixed_scene(builder: SceneBuilder) -> Node:
    top = _rect(builder, (8.3, 10.4, 18.5, 15.3), (0.6, 0.7, 0.3), 0.8)
    mixed = Group((top,), effects=Effects(blend="soft-light"))
    return Group((_rect(builder, (3.3, 3.2, 16.5, 18.4), (0.4, 0.3, 0.8), 0.9), mixed))


def _tiled_scene(builder: SceneBuilder) -> Node:
    dot = _rect(builder, (1.3, 1.4, 4.5, 3.3), (0.8, 0.3, 0.2), 0.9)
    paint = Pattern(Group((dot,)), (0.4, 0.7, 7, 6), (1.2, 0.1, 0, 1.1, 0, 0))
    builder.widths.append(3.0)
    stroke = Stroke(paint, 0, (builder.add_opacity(0.8),))
    return Shape(_box(builder, 6.3, 5.4, 18, 19), fill=Fill(paint, (builder.add_opacity(0.5),)), stroke=stroke)


SCENES: dict[str, Callable[[SceneBuilder], Node]] = {
    "mask": _masked_scene,
    "blur": lambda b: _blurred(
        b, Group((_rect(b, (7, 8, 15, 13), COLOR), _rect(b, (1, 12, 18, 9), (0.8, 0.2, 0.1), 0.6)))
    ),
    "blend": _mixed_scene,
    "pattern": _tiled_scene,
}


@pytest.mark.parametrize("name", SCENES)
def test_gradients_are_right(name: str, scene_gradient_errors: SceneCheck) -> None:
    builder = SceneBuilder()
    scene, parameters = builder.build([SCENES[name](builder)])
    errors = scene_gradient_errors(scene, parameters)
    assert errors and max(errors.values()) < 1e-4, errors
    assert not is_plain(scene.root)
