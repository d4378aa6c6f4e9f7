"""The rasteriser in Triton beside the one in PyTorch. Without a GPU, Triton's interpreter runs it."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.affine import IDENTITY, Affine
from pds_nerfstudio.vector.raster.backend import exact
from pds_nerfstudio.vector.raster.filter_graph import SOURCE, Blur, Filter, Step
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.raster.scene import (
    Cap,
    Clip,
    ClipShape,
    Effects,
    Fill,
    Gradient,
    Group,
    Join,
    Paint,
    Scene,
    SceneParameters,
    Shape,
    Solid,
    Stroke,
)
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder

if TYPE_CHECKING:
    from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

triton = pytest.importorskip("triton")
Result = tuple[Tensor, dict[str, Tensor | None]]
"""A picture, and the gradients by its numbers."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WIDTH, HEIGHT = 47, 33


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests below run here")
def test_all_below_in_the_interpreter(passes_in_the_interpreter: Callable[[str], None]) -> None:
    passes_in_the_interpreter(__file__)


@pytest.fixture
def tiled() -> type[TiledRasterizer]:
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("runs in the interpreter, in a process of its own")
    from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

    return TiledRasterizer


class _Drawing:
    """Shapes drawn at random, of every kind; `chance` decides."""

    def __init__(self, seed: int) -> None:
        self.chance, self.builder = random.Random(seed), SceneBuilder()

    def points(self, count: int) -> list[tuple[float, float]]:
        """Return points near one another, now and then partly or all off the canvas."""
        x, y = self.chance.uniform(-4, WIDTH + 4), self.chance.uniform(-4, HEIGHT + 4)
        return [(x + self.chance.uniform(-8, 8), y + self.chance.uniform(-8, 8)) for _ in range(count)]

    def path(self) -> int:
        """Add a path: on pixel borders, of straight lines, of curves, or of curves and lines, some of them points."""
        kind = self.chance.randrange(4)
        if kind == 0:
            left, top = self.chance.randrange(-4, WIDTH - 8), self.chance.randrange(HEIGHT - 8)
            right, bottom = left + self.chance.randrange(3, 15), top + self.chance.randrange(3, 15)
            return self.builder.add_polygon([(left, top), (right, top), (right, bottom), (left, bottom)])
        if kind == 1:
            return self.builder.add_polygon(self.points(3), closed=self.chance.random() < 0.5)
        points, contours = self.points(6), [([(0, 1, 2, 3), (3, 4, 5, 0)], True)]
        if kind == 2:
            points += self.points(3)
            contours.append(([(6, 7, 8, 8), (8, 8, 8, 8)], False))
        return self.builder.add_path(points, contours)

    def opacities(self) -> tuple[int, ...]:
        return tuple(self.builder.add_opacity(self.chance.uniform(0.2, 1)) for _ in range(self.chance.randrange(3)))

    def color(self) -> tuple[float, float, float]:
        return self.chance.random(), self.chance.random(), self.chance.random()

    def paint(self) -> Paint:
        if self.chance.random() < 0.5:
            return Solid(self.builder.add_color(*self.color()))
        radial, boxed = self.chance.random() < 0.5, self.chance.random() < 0.5
        places = sorted(self.chance.uniform(-0.1, 1.1) for _ in range(self.chance.randrange(2, 5)))
        if self.chance.random() < 0.5:
            places[-1] = places[-2]
        stops = tuple(self.builder.add_stop(p, self.color(), self.chance.uniform(0.3, 1)) for p in places)
        numbers = [self.chance.uniform(0.1, 0.9) for _ in range(6)]
        numbers[5] *= 0.1
        size = 1 if boxed else 30
        return Gradient(
            self.builder.add_gradient(*(n * size for n in numbers[: 6 if radial else 4])),
            stops,
            radial,
            self.chance.choice(["pad", "reflect", "repeat"]),
            self.transform(),
            boxed,
        )

    def transform(self) -> Affine:
        if self.chance.random() < 0.5:
            return IDENTITY
        a, b, c, d = (self.chance.uniform(-0.3, 0.3) for _ in range(4))
        return 1 + a, b, c, 1 + d, self.chance.uniform(-0.1, 0.1), self.chance.uniform(-0.1, 0.1)

    def clip(self, depth: int = 0) -> Clip | None:
        if self.chance.random() < 0.7:
            return None
        shapes = tuple(
            ClipShape(self.path(), self.transform(), self.chance.random() < 0.5, self.clip(1) if depth == 0 else None)
            for _ in range(self.chance.randrange(3))
        )
        return Clip(shapes, self.clip(1) if depth == 0 else None)

    def shape(self) -> Shape:
        fill = Fill(self.paint(), self.opacities(), self.chance.random() < 0.5)
        stroke = None
        if self.chance.random() < 0.3:
            stroke = Stroke(
                self.paint(),
                self.builder.add_width(self.chance.uniform(0.5, 4)),
                self.opacities(),
                self.chance.choice(list(Cap)),
                self.chance.choice(list(Join)),
                dashes=self.chance.choice([(), (), (5.0, 2.5)]),
            )
        return Shape(
            self.path(), self.transform(), fill, stroke, self.chance.random() < 0.5, self.opacities(), self.clip()
        )

    def group(self, depth: int = 0) -> Group:
        children: list[Shape | Group] = [self.shape() for _ in range(self.chance.randrange(1, 3))]
        if depth == 0:
            children.append(self.group(1))
        return Group(tuple(children), self.opacities(), self.clip())

    def build(self) -> tuple[Scene, SceneParameters]:
        empty = Shape(self.builder.add_path([], []), fill=Fill(Solid(self.builder.add_color(1, 0, 0))))
        return self.builder.build([self.shape(), self.shape(), empty, self.group(), self.shape()])


def _leaf(dtype: torch.dtype, values: Tensor) -> Tensor:
    return values.to(DEVICE, dtype).requires_grad_()


def _pair(
    tiled: type[TiledRasterizer],
    scene: Scene,
    parameters: SceneParameters,
    opaque: bool,
    view: Affine = IDENTITY,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> tuple[Result, Result]:
    """Return pictures and gradients by PyTorch in float64 and by Triton in float32."""
    generator = torch.Generator().manual_seed(0)
    ground, weight = (torch.randn(4, size[1], size[0], generator=generator) for _ in range(2))
    results = []
    for renderer, dtype in ((Rasterizer(scene), torch.float64), (tiled(scene), torch.float32)):
        numbers = parameters.map(partial(_leaf, dtype))
        background = ground[:3].to(DEVICE, dtype).requires_grad_() if opaque else None
        picture = renderer.render(numbers, *size, view, background)
        assert picture.dtype == dtype
        (picture * weight[: len(picture)].to(picture)).sum().backward()
        gradients = {k: v.grad for k, v in (*vars(numbers).items(), ("background", background)) if v is not None}
        results.append((picture.detach().double(), gradients))
    reference, ours = results
    return reference, ours


def _assert_alike(reference: Result, ours: Result, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(ours[0], reference[0], rtol=0, atol=1e-5)
    for name, expected in reference[1].items():
        found = ours[1][name]
        if expected is not None and found is not None and expected.numel():
            error = (found.double() - expected).norm() / expected.norm().clamp(min=1e-6)
            assert error < tolerance, (name, float(error))


@pytest.mark.parametrize("seed", [5, 40])
def test_drawings_of_all_kinds_are_drawn_alike(tiled: type[TiledRasterizer], seed: int) -> None:
    """Of these the one in PyTorch makes the same in float32 as in float64; some others turn on a number's last bits."""
    scene, parameters = _Drawing(seed).build()
    view = IDENTITY if seed % 2 == 0 else (0.93, 0.07, -0.04, 1.06, 0.31, -0.27)
    _assert_alike(*_pair(tiled, scene, parameters, opaque=seed % 3 != 0, view=view))


def test_where_outlines_cross_pixels_are_supersampled_alike(tiled: type[TiledRasterizer]) -> None:
    builder = SceneBuilder()
    star = [(6.13, 0.71), (9.37, 10.22), (1.19, 4.24), (10.94, 4.08), (2.61, 10.33)]
    bow = [(12.3, 3.1), (16.8, 8.7), (16.2, 2.6), (11.7, 9.4)]
    twice = 2 * [(12.21, 11.17), (17.38, 12.06), (14.62, 15.71)]
    paint, half = Solid(builder.add_color(0.9, 0.3, 0.1)), (builder.add_opacity(0.8),)
    rules = [(star, False), (bow, False), (twice, False), (twice, True)]
    shapes = [Shape(builder.add_polygon(points), fill=Fill(paint, half, rule)) for points, rule in rules]
    _assert_alike(*_pair(tiled, *builder.build(shapes), opaque=True, size=(19, 17)))


def test_edges_on_pixel_borders_pull_alike(tiled: type[TiledRasterizer]) -> None:
    """Within the canvas and at its sides the gradient has two sides to be taken from."""
    builder = SceneBuilder()
    fills = [Fill(Solid(builder.add_color(0.2, 0.6, 0.4)), (builder.add_opacity(0.5),), rule) for rule in (False, True)]
    frame = builder.add_path(
        [(0, 0), (20, 0), (20, 16), (0, 16), (4, 4), (4, 8), (8, 8), (8, 4)],
        [([(k, k, b + (k + 1) % 4, b + (k + 1) % 4) for k in range(b, b + 4)], True) for b in (0, 4)],
    )
    low = builder.add_polygon([(5, 3.5), (9.5, 3.5), (9.5, 12), (5, 12)])
    shapes = [Shape(path, fill=fill) for path, fill in ((frame, fills[0]), (low, fills[1]), (frame, fills[1]))]
    _assert_alike(*_pair(tiled, *builder.build(shapes), opaque=False, size=(20, 16)))


def test_strokes_of_all_kinds_are_drawn_alike(tiled: type[TiledRasterizer]) -> None:
    builder = SceneBuilder()
    shapes = []
    for k, (cap, join) in enumerate(zip(Cap, Join, strict=True)):
        x = 1.7 + 9 * k
        path = builder.add_path([(x, 2.1), (x + 6.3, 3.2), (x + 5.1, 9.4), (x - 2, 8.9)], [([(0, 1, 2, 3)], False)])
        corner = builder.add_polygon([(x, 20.3), (x + 3.1, 11.8), (x + 6.2, 19.1)], closed=k == 1)
        stroke = Stroke(Solid(builder.add_color(k / 3, 0.5, 0)), builder.add_width(1.3 + k), (), cap, join)
        shapes += [Shape(path, stroke=stroke), Shape(corner, stroke=stroke)]
    assert shapes[0].stroke is not None
    dashed = Stroke(shapes[0].stroke.paint, builder.add_width(1.2), dashes=(3.0, 2.0), dash_offset=0.7)
    shapes.append(Shape(builder.add_polygon([(1, 22.2), (28.6, 21.4)], closed=False), stroke=dashed))
    _assert_alike(*_pair(tiled, *builder.build(shapes), opaque=True, size=(30, 24)))


def _outlined_discs(size: float) -> tuple[Scene, SceneParameters]:
    builder = SceneBuilder()
    shapes = []
    for k in range(3):
        x, y, r = 8.3 + 4 * k, 9.1 + 2 * k, size * (3.1 + k)
        points = [(x + r * math.cos(a / 6 * math.pi), y + r * math.sin(a / 6 * math.pi)) for a in range(12)]
        path = builder.add_path(points, [([(3 * a, 3 * a + 1, 3 * a + 2, (3 * a + 3) % 12) for a in range(4)], True)])
        paint = Solid(builder.add_color(k / 3, 0.5, 0.2))
        fill = Fill(paint, (builder.add_opacity(0.6),))
        shapes.append(Shape(path, fill=fill, stroke=Stroke(paint, builder.add_width(1.7))))
    return builder.build(shapes)


def test_with_room_the_host_waits_for_nothing_and_the_picture_is_the_same(tiled: type[TiledRasterizer]) -> None:
    """More room than is needed changes nothing; with less, nothing is drawn, and what was needed is known."""
    from pds_nerfstudio.vector.raster.triton.room import Room

    scene, parameters = _outlined_discs(1.0)
    ground = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)).to(DEVICE)

    def drawn(room: Room | None) -> tuple[Tensor, list[int], list[Tensor | None]]:
        renderer, needs = tiled(scene), []

        def draw(inputs: Any, size: Any) -> Tensor:
            picture, needed = renderer._draw(inputs, size, room)
            needs.extend(needed.tolist())
            return picture

        renderer._drawer = draw  # type: ignore[assignment]
        numbers = parameters.map(partial(_leaf, torch.float32))
        picture = renderer.render(numbers, WIDTH, HEIGHT, IDENTITY, ground)
        (picture * ground.flip(0)).sum().backward()
        return picture.detach(), needs, [t.grad for t in (numbers.points, numbers.widths, numbers.colors)]

    picture, needed, gradients = drawn(None)
    assert min(needed) > 0
    assert (picture - ground).abs().max() > 0.1
    room = Room.for_(needed)
    assert room.holds(needed)
    roomy, same, others = drawn(room)
    assert same == needed
    torch.testing.assert_close(roomy, picture, rtol=0, atol=1e-6)
    for theirs, ours in zip(gradients, others, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    chords, edges, cells = needed
    small = (Room(64, edges, cells), Room(chords, 64, cells), Room(chords, edges, 64))
    for which, room in enumerate(small):
        assert not room.holds(needed)
        nothing, found, _ = drawn(room)
        assert found[which] == needed[which]  # of chords; without them there are no edges to count, and fewer cells
        if which == 2:
            assert torch.equal(nothing, ground)
        else:  # no strokes
            assert (nothing - picture).abs().max() > 0.1


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_pictures_that_come_again_are_recorded_and_stay_the_same() -> None:
    """Also those that need more room than the ones before, and gradients of a picture older than the last one."""
    from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

    scene, parameters = _outlined_discs(1.0)
    recorded, ground = TiledRasterizer(scene), torch.ones(3, HEIGHT, WIDTH, device=DEVICE)

    def numbers(size: float) -> SceneParameters:
        return replace(parameters, points=parameters.points * size).map(partial(_leaf, torch.float32))

    def plain(size: float) -> tuple[Tensor, Tensor]:
        leaves = numbers(size)
        picture = TiledRasterizer(scene).render(leaves, WIDTH, HEIGHT, IDENTITY, ground)
        (picture * picture.detach().sin()).sum().backward()
        assert leaves.points.grad is not None
        return picture.detach(), leaves.points.grad

    def check(leaves: SceneParameters, picture: Tensor, size: float) -> None:
        expected, gradient = plain(size)
        torch.testing.assert_close(picture, expected, rtol=0, atol=1e-6)
        (picture * picture.detach().sin()).sum().backward()
        torch.testing.assert_close(leaves.points.grad, gradient, rtol=1e-4, atol=1e-5)

    sizes = [0.5, 0.5, 0.5, 0.6, 0.4, 1.1, 1.1, 0.7]  # the sixth has twice the area of what there is room for
    for size in sizes:
        leaves = numbers(size)
        check(leaves, recorded.render(leaves, WIDTH, HEIGHT, IDENTITY, ground), size)
    (kind,) = recorded._drawer._kinds._known.values()
    assert kind.recorded is not None
    first, second = numbers(0.5), numbers(0.8)
    before = recorded.render(first, WIDTH, HEIGHT, IDENTITY, ground)
    after = recorded.render(second, WIDTH, HEIGHT, IDENTITY, ground)
    check(first, before, 0.5)
    check(second, after, 0.8)


@pytest.mark.parametrize("opaque", [False, True])
def test_followers_cones_flat_boxes_and_viewports_are_drawn_alike(tiled: type[TiledRasterizer], opaque: bool) -> None:
    builder = SceneBuilder()
    kite = builder.add_polygon([(3.1, 7.3), (16.2, 2.9), (27.4, 9.1), (15.7, 20.2)])
    wedge = builder.add_polygon([(0, 0), (50, 3), (20, 50)])
    follower = builder.add_follower(wedge, (0.02, 0, 0, 0.02, 0.1, 0), ((kite, (0.9, 0.1, 0, 0.8, 1, 2)),))
    stops = tuple(builder.add_stop(t, (t, 0.4, 1 - t), 0.8) for t in (0.1, 0.9))
    half = (builder.add_opacity(0.5),)
    cones = [
        Gradient(builder.add_gradient(*numbers), stops, True, spread)
        for numbers, spread in (((9, 9, 6, 20, 14, 1), "pad"), ((20, 4, 2, 6, 12, 6), "reflect"))
    ]
    boxed = Gradient(builder.add_gradient(0, 0, 1, 1), stops, bounding_box=True)
    flat = builder.add_polygon([(2.2, 18), (25.1, 18)], closed=False)
    dashed = Stroke(cones[0], builder.add_width(2.1), half, dashes=(3.0, 2.0), dash_offset=0.5, path_length=20)
    shapes = [
        Shape(kite, fill=Fill(cones[0], half), stroke=dashed),
        Shape(kite, (1, 0.2, 0, 1, 0, 0), fill=Fill(cones[1]), clip=Clip((ClipShape(follower),))),
        Shape(follower, fill=Fill(boxed, half)),
        Shape(flat, stroke=Stroke(boxed, builder.add_width(3.2))),
    ]
    scene, parameters = builder.build(shapes, (22.5, 17.25))
    view: Affine = (0.97, 0, 0, 1.03, 1.3, 2.6)
    _assert_alike(*_pair(tiled, scene, parameters, opaque, view, (30, 24)))


def test_nothing_to_draw(tiled: type[TiledRasterizer]) -> None:
    scene, parameters = SceneBuilder().build([])
    parameters = parameters.map(lambda t: t.to(DEVICE))
    assert tiled(scene).render(parameters, 5, 3).abs().max() == 0
    background = torch.rand(3, 3, 5, device=DEVICE)
    assert torch.equal(tiled(scene).render(parameters, 5, 3, background=background), background)
    builder = SceneBuilder()
    far = Shape(builder.add_polygon([(99, 99), (98, 99), (99, 98)]), fill=Fill(Solid(builder.add_color(1, 1, 1))))
    reference, ours = _pair(tiled, *builder.build([far]), opaque=True, size=(5, 3))
    _assert_alike(reference, ours)


def test_what_triton_cannot_take_is_left_to_pytorch(
    tiled: type[TiledRasterizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, parameters = _Drawing(8).build()
    double = parameters.map(lambda t: t.double())
    assert torch.equal(tiled(scene).render(double, 24, 20), Rasterizer(scene).render(double, 24, 20))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert torch.equal(tiled(scene).render(parameters, 24, 20), Rasterizer(scene).render(parameters, 24, 20))


@pytest.mark.filterwarnings("ignore:Masks, filters")
def test_drawings_with_effects_are_left_to_pytorch(tiled: type[TiledRasterizer]) -> None:
    builder = SceneBuilder()
    fill = Fill(Solid(builder.add_color(1, 0, 0)))
    shape = Shape(builder.add_polygon([(3, 3), (20, 4), (9, 25)]), fill=fill)
    blur = Effects(filters=(Filter((Step(Blur(2, 2), (SOURCE,)),), None),))
    scene, parameters = builder.build([Group((shape,), effects=blur)])
    with pytest.warns(UserWarning, match="by PyTorch and not by Triton"):
        renderer = tiled(scene)
    numbers = parameters.map(lambda t: t.to(DEVICE))
    assert torch.equal(renderer.render(numbers, 32, 32), Rasterizer(scene).render(numbers, 32, 32))


@pytest.mark.skipif(DEVICE == "cuda", reason="says what is chosen without a GPU")
def test_without_a_gpu_pytorch_draws() -> None:
    scene, _ = SceneBuilder().build([])
    assert isinstance(exact(scene), Rasterizer)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_a_large_drawing_on_a_gpu() -> None:
    from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

    chance, builder, shapes = random.Random(0), SceneBuilder(), []
    for _ in range(200):
        x, y, r = chance.uniform(0, 512), chance.uniform(0, 512), chance.uniform(15, 75)
        points = [(x + r * math.cos(k / 6 * math.pi), y + r * math.sin(k / 6 * math.pi)) for k in range(12)]
        path = builder.add_path(points, [([(3 * k, 3 * k + 1, 3 * k + 2, (3 * k + 3) % 12) for k in range(4)], True)])
        color = builder.add_color(chance.random(), chance.random(), chance.random())
        fill = Fill(Solid(color), (builder.add_opacity(chance.uniform(0.5, 1)),))
        shapes.append(Shape(path, fill=fill, stroke=Stroke(Solid(color), builder.add_width(2))))
    scene, parameters = builder.build(shapes)
    reference, ours = _pair(TiledRasterizer, scene, parameters, opaque=True, size=(512, 512))
    assert isinstance(exact(scene), TiledRasterizer)
    # coordinates of hundreds have a last bit of some 3e-5 pixels: in float32, PyTorch is off by 4e-4 and 3e-4 itself
    torch.testing.assert_close(ours[0], reference[0], rtol=0, atol=2e-3)
    for name, expected in reference[1].items():
        found = ours[1][name]
        if expected is not None and found is not None and expected.numel():
            assert (found.double() - expected).norm() < 2e-3 * expected.norm(), name


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_every_kernel_compiles_for_an_nvidia_gpu(compiled_kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one: the launches of a picture with everything in it are compiled and not run."""
    from pds_nerfstudio.vector.raster.triton.rasterizer import TiledRasterizer

    def lay_out(name: str, values: dict[str, Any]) -> None:
        if name == "lay_out":
            values["offsets"].fill_(640)

    compiled_kernels.on_launch = lay_out
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    scene, parameters = _Drawing(0).build()
    for background in (torch.zeros(3, HEIGHT, WIDTH), None):
        numbers = parameters.map(lambda t: t.requires_grad_())
        TiledRasterizer(scene).render(numbers, WIDTH, HEIGHT, IDENTITY, background).sum().backward()
    assert {name for name, *_ in compiled_kernels} == {
        "bound", "lay_out", "scatter", "accumulate", "find_ambiguous", "supersample", "union", "paint", "composite",
        "composite_backward", "union_backward", "paint_backward", "pull_supersampled", "pull",
        "count_chords", "flatten", "flatten_backward", "count_edges", "outline", "outline_backward",
    }  # fmt: skip
    assert all("cubin" in kernel.asm for kernel in compiled_kernels.values())
