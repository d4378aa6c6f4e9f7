from collections.abc import Callable, Sequence

from pds_nerfstudio.vector.raster.plan import Draw, Layer, Plan, make_plan
from pds_nerfstudio.vector.raster.scene import Clip, ClipShape, Fill, Group, Shape, Solid, Stroke
from pds_nerfstudio.vector.raster.scene_builder import SceneBuilder


def _plan(make: Callable[[int, Fill, Stroke, int], Sequence[Shape | Group]]) -> Plan:
    builder = SceneBuilder()
    path = builder.add_polygon([(0, 0), (1, 0), (1, 1)])
    fill = Fill(Solid(builder.add_color(1, 0, 0)))
    stroke = Stroke(Solid(builder.add_color(0, 0, 1)), builder.add_width(1))
    half = builder.add_opacity(0.5)
    return make_plan(builder.build(make(path, fill, stroke, half))[0])


def test_opacity_of_a_single_draw_needs_no_layer() -> None:
    plan = _plan(lambda path, fill, stroke, half: [Group((Shape(path, fill=fill, opacities=(half,)),), (half,))])
    (draw,) = plan.root.items
    assert isinstance(draw, Draw) and draw.opacities == (0, 0)


def test_opacity_over_fill_and_stroke_needs_one() -> None:
    plan = _plan(lambda path, fill, stroke, half: [Shape(path, fill=fill, stroke=stroke, opacities=(half,))])
    (layer,) = plan.root.items
    assert isinstance(layer, Layer) and len(layer.items) == 2 and layer.opacities == (0,)


def test_plain_groups_are_flattened_and_order_is_kept() -> None:
    plan = _plan(
        lambda path, fill, stroke, half: [
            Group((Shape(path, fill=fill), Group((Shape(path, stroke=stroke, fill=fill, stroke_first=True),)))),
            Group(()),
        ]
    )
    paints = [item.paint for item in plan.root.items if isinstance(item, Draw)]
    assert paints == [Solid(0), Solid(1), Solid(0)]
    assert list(plan.strokes) == [1]


def test_a_clip_used_twice_is_one_region() -> None:
    clip = Clip((ClipShape(0, evenodd=True),))
    plan = _plan(lambda path, fill, stroke, half: [Shape(path, fill=fill, clip=clip)] * 2)
    assert plan.regions == 3
    assert plan.evenodd.tolist().count(True) == 1


def test_open_contours_are_closed_for_the_fill_only() -> None:
    builder = SceneBuilder()
    path = builder.add_polygon([(0, 0), (1, 0), (1, 1)], closed=False)
    paint = Solid(builder.add_color(1, 0, 0))
    shape = Shape(path, fill=Fill(paint), stroke=Stroke(paint, builder.add_width(1)))
    plan = make_plan(builder.build([shape])[0])
    assert plan.closing.tolist() == [[2, 0]]
    assert plan.stroked.instance_closed.tolist() == [False]
