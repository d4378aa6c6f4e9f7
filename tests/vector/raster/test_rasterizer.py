import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine, compose, scaling, translation
from pds_nerfstudio.vector.raster.following import Followers
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import (
    Clip,
    ClipShape,
    Fill,
    Gradient,
    Group,
    Join,
    Scene,
    SceneParameters,
    Shape,
    Solid,
    Stroke,
)
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder
from tests.vector.conftest import SceneCheck


def _square(builder: SceneBuilder, x: float, y: float, size: float) -> int:
    return builder.add_polygon([(x, y), (x + size, y), (x + size, y + size), (x, y + size)])


def _render(builder: SceneBuilder, children: Iterable[Shape | Group], size: int = 16, **options: Any) -> Tensor:
    scene, parameters = builder.build(children)
    return Rasterizer(scene).render(parameters, size, size, **options)


def test_without_a_background_the_picture_is_premultiplied() -> None:
    builder = SceneBuilder()
    fill = Fill(Solid(builder.add_color(1, 0.5, 0)), (builder.add_opacity(0.5),))
    image = _render(builder, [Shape(_square(builder, 2, 2, 4), fill=fill)])
    torch.testing.assert_close(image[:, 3, 3], torch.tensor([0.5, 0.25, 0, 0.5]))
    assert image[:, 10, 10].abs().sum() == 0


def test_over_a_background_it_is_the_same_picture() -> None:
    builder = SceneBuilder()
    paint = Solid(builder.add_color(1, 0.5, 0))
    shape = Shape(_square(builder, 2.3, 2.6, 7), fill=Fill(paint), stroke=Stroke(paint, builder.add_width(2)))
    children: list[Shape | Group] = [Group((shape,), (builder.add_opacity(0.4),)), shape]
    background = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    rgba = _render(builder, children)
    torch.testing.assert_close(_render(builder, children, background=background), rgba[:3] + (1 - rgba[3]) * background)


def test_a_group_is_painted_before_its_opacity_applies() -> None:
    builder = SceneBuilder()
    fill = Fill(Solid(builder.add_color(1, 1, 1)))
    shapes = tuple(Shape(_square(builder, x, 2, 8), fill=fill) for x in (1, 5))
    half = (builder.add_opacity(0.5),)
    apart = _render(builder, [Shape(s.path, fill=fill, opacities=half) for s in shapes])
    together = _render(builder, [Group(shapes, half)])
    assert apart[3, 5, 7] == 0.75 and together[3, 5, 7] == 0.5
    assert together[3, 5, 2] == 0.5


def test_clips_cut_shapes_groups_and_each_other() -> None:
    builder = SceneBuilder()
    fill = Fill(Solid(builder.add_color(1, 1, 1)))
    whole, left, top = (builder.add_polygon(p) for p in (
        [(0, 0), (16, 0), (16, 16), (0, 16)],
        [(0, 0), (4.5, 0), (4.5, 16), (0, 16)],
        [(0, 0), (16, 0), (16, 8), (0, 8)],
    ))  # fmt: skip
    shape = Shape(whole, fill=fill, clip=Clip((ClipShape(left),)))
    alpha = _render(builder, [shape])[3]
    assert alpha[:, :4].min() == 1 and torch.allclose(alpha[:, 4], torch.tensor(0.5)) and alpha[:, 5:].max() == 0
    both = Clip((ClipShape(left),), Clip((ClipShape(top),)))
    cases: list[list[Shape | Group]] = [
        [Shape(whole, fill=fill, clip=both)],
        [Group((shape, shape), clip=Clip((ClipShape(top),)))],
    ]
    for children in cases:
        assert float(_render(builder, children)[3, :8, :4].min()) == 1
        assert float(_render(builder, children)[3, 8:].max()) == 0
    assert _render(builder, [Shape(whole, fill=fill, clip=Clip(()))]).abs().max() == 0
    union = Clip((ClipShape(left), ClipShape(top)))
    assert _render(builder, [Shape(whole, fill=fill, clip=union)])[3, 12, 2] == 1


def test_linear_gradient_in_units_of_the_bounding_box() -> None:
    builder = SceneBuilder()
    stops = (builder.add_stop(0, (0, 0, 0)), builder.add_stop(1, (1, 0, 0), 0.5))
    paint = Gradient(builder.add_gradient(0, 0, 1, 0), stops, bounding_box=True)
    image = _render(builder, [Shape(_square(builder, 4, 4, 8), fill=Fill(paint))])
    t = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(image[3, 6, 4:12], 1 - t / 2)
    torch.testing.assert_close(image[0, 6, 4:12], t * (1 - t / 2))


def test_radial_gradient_follows_the_transforms() -> None:
    builder = SceneBuilder()
    stops = (builder.add_stop(0, (0, 0, 0)), builder.add_stop(1, (1, 1, 1)))
    paint = Gradient(builder.add_gradient(0, 0, 1, 0, 0, 0), stops, radial=True, transform=scaling(5, 5))
    square = _square(builder, -8, -8, 16)
    shape = Shape(square, compose(translation(8, 8), scaling(1, 0.5)), fill=Fill(paint))
    image = _render(builder, [shape])
    assert float(image[0, 8, 8 + 2]) == pytest.approx((2.5**2 + 1**2) ** 0.5 / 5, abs=1e-5)
    assert float(image[0, 8 + 1, 8]) == pytest.approx((0.5**2 + 3**2) ** 0.5 / 5, abs=1e-5)


def test_the_view_moves_and_scales() -> None:
    builder = SceneBuilder()
    shape = Shape(_square(builder, 1, 1, 2), fill=Fill(Solid(builder.add_color(1, 1, 1))))
    image = _render(builder, [shape], view=(4, 0, 0, 4, -2, -2))
    assert float(image[3].sum()) == 64 and image[3, 2:10, 2:10].min() == 1


def test_hostile_numbers_stay_finite() -> None:
    builder = SceneBuilder()
    paint = Solid(builder.add_color(1, 1, 1))
    path = builder.add_path([(-1e30, 5), (1e30, -1e30), (3, 1e38), (8, 8)], [([(0, 1, 2, 3)], False)])
    image = _render(builder, [Shape(path, fill=Fill(paint), stroke=Stroke(paint, builder.add_width(1e30)))])
    assert image.isfinite().all()


def test_an_empty_scene_is_its_background() -> None:
    assert _render(SceneBuilder(), []).abs().max() == 0
    builder = SceneBuilder()
    far = Shape(_square(builder, 99, 99, 2), fill=Fill(Solid(builder.add_color(1, 1, 1))))
    assert _render(builder, [far]).abs().max() == 0


def test_nothing_shows_outside_of_the_viewport() -> None:
    builder = SceneBuilder()
    red = Fill(Solid(builder.add_color(1, 0, 0)))
    scene, parameters = builder.build([Shape(_square(builder, -9, -9, 40), fill=red)], (10, 4))
    below = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    view: Affine = (1, 0, 0, 1, 1.25, 4)
    picture = Rasterizer(scene).render(parameters, 12, 12, view, below)
    plain = Rasterizer(replace(scene, window=None)).render(parameters, 12, 12, view, below)
    cover = torch.zeros(12, 12)
    cover[4:8, 1:12] = torch.tensor([0.75, *(1.0,) * 9, 0.25])
    torch.testing.assert_close(picture, below + cover * (plain - below))
    alone = Rasterizer(scene).render(parameters, 12, 12, view)
    torch.testing.assert_close(alone[3], cover)


def test_what_ends_at_the_viewport_is_not_cut_twice() -> None:
    builder = SceneBuilder()
    red = Fill(Solid(builder.add_color(1, 0, 0)))
    corners = [(0.0, 0.0), (10.0, 0.0), (10.0, 4.0), (0.0, 4.0)]
    scene, parameters = builder.build([Shape(builder.add_polygon(corners), fill=red)], (10, 4))
    views: list[Affine] = [(1, 0, 0, 1, 1.25, 3.6), (0, 1, 1, 0, 3.7, 1.4), (-1, 0, 0, 1, 11.5, 1.4)]
    for view in views:
        alone = Rasterizer(scene).render(parameters, 12, 12, view)
        torch.testing.assert_close(alone, Rasterizer(replace(scene, window=None)).render(parameters, 12, 12, view))


def test_a_turned_viewport_has_its_area() -> None:
    builder = SceneBuilder()
    red = Fill(Solid(builder.add_color(1, 0, 0)))
    scene, parameters = builder.build([Shape(_square(builder, -90, -90, 400), fill=red)], (30, 20))
    cos, sin = math.cos(0.4), math.sin(0.4)
    alpha = Rasterizer(scene).render(parameters, 64, 64, (cos, sin, -sin, cos, 24, 12))[3]
    assert float(alpha.sum()) == pytest.approx(600, rel=2e-3)


def test_a_view_within_the_viewport_is_left_as_it_is() -> None:
    scene, parameters = _everything()
    bounded = replace(scene, window=(32.0, 32.0))
    pictures = [Rasterizer(s).render(parameters, 32, 32) for s in (scene, bounded)]
    assert torch.equal(*pictures)


def test_what_follows_a_box_is_stretched_over_it() -> None:
    builder = SceneBuilder()
    first, second = (builder.add_polygon([(x, 2), (x + 4, 2), (x + 4, 6), (x, 6)]) for x in (2, 10))
    wedge = builder.add_polygon([(0, 0), (50, 0), (0, 50)])
    members: tuple[tuple[int, Affine], ...] = ((first, IDENTITY), (second, (1, 0, 0, 1, 0, 3)))
    follower = builder.add_follower(wedge, (0.02, 0, 0, 0.02, 0, 0), members)
    red = Fill(Solid(builder.add_color(1, 0, 0)))
    scene, parameters = builder.build([Shape(follower, fill=red)])
    points = Followers(scene)(parameters.points)
    assert points[-3:].tolist() == [[2, 2], [14, 2], [2, 9]]
    assert torch.equal(points[:-3], parameters.points[:-3])
    step = torch.zeros_like(points)
    step[:8, 0] = 3
    moved = replace(parameters, points=parameters.points + step)
    there = Rasterizer(scene).render(moved, 24, 16)[:, :, 3:]
    torch.testing.assert_close(there, Rasterizer(scene).render(parameters, 24, 16)[:, :, :-3])


def test_a_flat_box_paints_nothing_and_a_thin_one_does() -> None:
    for height, seen in ((0.0, False), (0.001, True)):
        builder = SceneBuilder()
        stops = (builder.add_stop(0, (1, 0, 0)), builder.add_stop(1, (0, 0, 1)))
        paint = Gradient(builder.add_gradient(0, 0, 1, 0), stops, bounding_box=True)
        path = builder.add_polygon([(2, 8), (14, 8 + height)], closed=False)
        scene, parameters = builder.build([Shape(path, stroke=Stroke(paint, builder.add_width(4)))])
        assert (Rasterizer(scene).render(parameters, 16, 16)[3].max() > 0.9) == seen


def _everything() -> tuple[Scene, SceneParameters]:
    """Return a scene with every differentiable quantity in it, away from changes of topology."""
    builder = SceneBuilder()
    blob = builder.add_path(
        [(6.2, 8.1), (9.7, 2.2), (20.3, 3.1), (24.9, 9.3), (27.8, 20.2), (17.1, 26.7), (9.4, 21.6)],
        [([(0, 1, 2, 3), (3, 4, 5, 6), (6, 6, 0, 0)], True)],
    )
    kite = builder.add_polygon([(3.1, 17.3), (16.2, 12.9), (29.4, 19.1), (15.7, 30.2)])
    hole = builder.add_path(
        [(2.1, 2.3), (14.2, 3.4), (12.9, 14.7), (4.2, 5.1), (9.3, 5.9), (9.8, 10.2)],
        [
            ([(0, 0, 1, 1), (1, 1, 2, 2), (2, 2, 0, 0)], True),
            ([(3, 3, 4, 4), (4, 4, 5, 5), (5, 5, 3, 3)], True),
        ],
    )
    stops = (
        builder.add_stop(0.1, (0.9, 0.1, 0.2), 0.7),
        builder.add_stop(0.45, (0.2, 0.8, 0.3), 0.9),
        builder.add_stop(0.8, (0.1, 0.2, 0.9), 0.6),
    )
    linear = Gradient(builder.add_gradient(0.1, 0.2, 0.8, 0.9), stops, spread="reflect", bounding_box=True)
    radial = Gradient(
        builder.add_gradient(15, 20, 11, 13, 18, 2),
        stops[::2],
        True,
        "repeat",
        transform=(1, 0.1, 0, 0.9, 1, 0),
    )
    solid = Solid(builder.add_color(0.3, 0.6, 0.4))
    half, most = builder.add_opacity(0.5), builder.add_opacity(0.8)
    turned = (0.9, 0.2, -0.15, 1.1, 2, -3)
    clip = Clip((ClipShape(kite, turned),))
    line = Stroke(linear, builder.add_width(1.7), (most,), join=Join.ROUND)
    plain = Stroke(Solid(builder.add_color(0.7, 0.1, 0.5)), builder.add_width(2.3), (builder.add_opacity(0.7),))
    follower = builder.add_follower(kite, (0.03, 0, 0, 0.03, 0, 0), ((blob, (0.9, 0.1, 0, 0.8, 1, 2)), (hole, turned)))
    cone = Gradient(builder.add_gradient(12, 9, 5, 25, 22, 2), stops[::2], True)
    dashed = Stroke(solid, builder.add_width(2.1), dashes=(3.0, 2.0), dash_offset=0.5, path_length=20)
    return builder.build(
        [
            Shape(blob, fill=Fill(linear, (most,))),
            Shape(follower, fill=Fill(cone, (half,)), stroke=dashed),
            Group(
                (
                    Shape(kite, fill=Fill(radial), stroke=line),
                    Shape(hole, turned, Fill(solid, (half,), True)),
                ),
                (half,),
                clip,
            ),
            Shape(blob, turned, fill=Fill(solid, (half,)), clip=Clip((ClipShape(hole, evenodd=True),))),
            Shape(builder.add_polygon([(22.3, 3.2), (29.1, 8.4), (20.7, 13.9)]), fill=Fill(solid), stroke=plain),
        ]
    )


def test_every_gradient_agrees_with_finite_differences(scene_gradient_errors: SceneCheck) -> None:
    scene, parameters = _everything()
    errors = scene_gradient_errors(scene, parameters, view=(0.95, 0.05, 0, 1.02, 0.31, 0.27))
    assert set(errors) == {"points", "colors", "opacities", "widths", "gradients", "offsets"}
    assert max(errors.values()) < 1e-4, errors


def test_it_is_deterministic() -> None:
    scene, parameters = _everything()
    rasterizer = Rasterizer(scene)

    def run() -> list[Tensor]:
        numbers = parameters.map(lambda t: t.clone().requires_grad_())
        image = rasterizer.render(numbers, 64, 64, scaling(2, 2), torch.ones(3, 64, 64))
        image.square().sum().backward()
        return [image, *(t.grad for t in vars(numbers).values())]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)
