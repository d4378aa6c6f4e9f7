"""The solids: where they are, and that cameras know how far they reach."""

import math

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor

from pds_nerfstudio.toyworld.geometry import BOUNDS_CENTER, BOUNDS_RADIUS, PALETTE, build
from pds_nerfstudio.toyworld.grammar import ARMS, BALLOONS, COLORS, HATS, LIMBED, SUBJECTS, Attributes
from pds_nerfstudio.toyworld.renderer import distance, distance_and_color

SHAPES = [
    Attributes(subject=subject, arms=arms, hat=hat, balloon=balloon)
    for subject in SUBJECTS
    for arms in ARMS
    for hat in HATS
    for balloon in BALLOONS
    if subject in LIMBED or (arms, balloon) == ("down", "none")
]
"""Everything that differs in shape."""


def sphere(radius: float, n: int = 8000) -> Tensor:
    """Return points spread evenly over a sphere around the middle of the bounds, those under the ground left out."""
    i = torch.arange(n) + 0.5
    z, turn = 1 - 2 * i / n, i * math.pi * (3 - math.sqrt(5))
    flat = (1 - z * z).sqrt()
    points = torch.tensor(BOUNDS_CENTER) + radius * torch.stack([flat * turn.cos(), flat * turn.sin(), z], -1)
    return points[points[:, 2] >= 0]


def shape_cases() -> list[ParameterSet]:
    return [
        pytest.param(
            thing,
            id=f"{thing.subject}-{thing.arms}-{thing.hat}-{thing.balloon}",
        )
        for thing in SHAPES
    ]


@pytest.mark.parametrize("thing", shape_cases())
def test_lies_in_the_ball(thing: Attributes) -> None:
    # What is in one piece, has a part inside and crosses the sphere nowhere lies inside.
    solids = build([thing])
    inside = torch.tensor([[BOUNDS_CENTER]]) - torch.tensor([0, 0, 0.3])
    assert distance(inside, solids.cones, solids.boxes) < 0.3
    assert distance(sphere(BOUNDS_RADIUS)[None], solids.cones, solids.boxes).min() > 0


@pytest.mark.parametrize("thing", SHAPES, ids=str)
def test_hardly_leaves_the_ball(thing: Attributes) -> None:
    solids = build([thing])
    assert distance(sphere(BOUNDS_RADIUS + 0.03)[None], solids.cones, solids.boxes).min() > 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_stands_on_the_ground_at_the_origin(subject: str) -> None:
    solids = build([Attributes(subject=subject)])  # type: ignore[arg-type]
    grid = torch.linspace(-1.4, 1.4, 57)
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    low = torch.stack([x, y, torch.full_like(x, 0.02)], -1).reshape(1, -1, 3)
    footprint = distance(low, solids.cones, solids.boxes)
    feet = torch.stack([x, y], -1).reshape(-1, 2)[footprint[0] < 0]
    assert len(feet) > 0
    assert feet.mean(0).norm() < 0.1


def test_faces_minus_y_and_holds_the_balloon_in_one_hand() -> None:
    solids = build([Attributes(balloon="held", balloon_color="pink", color="green")])
    colors = solids.cones[0, :, 8:]
    balloon = solids.cones[0][(colors == torch.tensor(PALETTE["pink"])).all(-1)]
    assert len(balloon) == 1
    assert balloon[0, 0] > 0.3  # on the right in a picture from the front
    eyes = solids.cones[0][solids.cones[0, :, 6] == 0.04]
    assert len(eyes) == 2
    assert (eyes[:, 1] < -0.1).all()


@pytest.mark.parametrize("subject", LIMBED)
def test_raising_arms_moves_hands_up_alone(subject: str) -> None:
    down, raised = (build([Attributes(subject=subject, arms=arms)]).cones[0] for arms in ARMS)  # type: ignore[arg-type]
    moved = (down - raised).abs().amax(1) > 0
    assert 2 <= moved.sum() <= 4
    assert (raised[moved][:, 5] - down[moved][:, 5] > 0.8).all()
    assert torch.equal(down[:, 8:], raised[:, 8:])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_color_hat_and_balloon_wear_their_colors(subject: str) -> None:
    def paints(thing: Attributes) -> set[tuple[float, ...]]:
        solids = build([thing])
        rows = torch.cat([solids.cones[0, :, 8:], solids.boxes[0, :, 7:]])
        return {tuple(round(c, 4) for c in row) for row in rows.tolist()}

    held = "held" if subject in LIMBED else "none"
    thing = Attributes(subject, "pink", hat="top", hat_color="yellow", balloon=held, balloon_color="purple")  # type: ignore[arg-type]
    assert {PALETTE["pink"], PALETTE["yellow"]} <= paints(thing)
    assert (PALETTE["purple"] in paints(thing)) == (held == "held")


def test_palette_names_every_color_and_they_differ() -> None:
    assert list(PALETTE) == list(COLORS)
    colors = torch.tensor(list(PALETTE.values()))
    assert (torch.cdist(colors, colors) + 9 * torch.eye(len(colors))).min() > 0.2


class TestPadding:
    def test_changes_nothing_but_the_shape(self) -> None:
        points = 3 * torch.rand(1, 500, 3, generator=torch.Generator().manual_seed(0)) - torch.tensor([1.5, 1.5, 0.5])
        for thing in SHAPES:
            loose, padded = build([thing]), build([thing], pad=True)
            assert padded.cones.shape == (1, 15, 11)
            assert padded.boxes.shape == (1, 4, 10)
            for ours, theirs in zip(
                distance_and_color(points, loose.cones, loose.boxes),
                distance_and_color(points, padded.cones, padded.boxes),
                strict=True,
            ):
                assert torch.equal(ours, theirs)

    def test_is_no_larger_than_needed(self) -> None:
        sizes = [(len(s.cones[0]), len(s.boxes[0])) for s in (build([thing]) for thing in SHAPES)]
        assert max(cones for cones, _ in sizes) == 15
        assert max(boxes for _, boxes in sizes) == 4


def test_batch_is_its_things_one_by_one() -> None:
    things = [Attributes("cube", ground="brick"), Attributes(sky="night", style="drawing", balloon="held")]
    batch = build(things)
    assert len(batch) == 2
    assert batch.ground_is_brick.tolist() == [1, 0]
    assert batch.is_drawing.tolist() == [0, 1]
    for i, thing in enumerate(things):
        one = build([thing])
        for name in ("ground_color", "sky_top", "sky_horizon", "brightness"):
            assert torch.equal(getattr(one, name)[0], getattr(batch, name)[i])
        assert torch.equal(one.cones[0], batch.cones[i, : one.cones.shape[1]])
