"""Mirrors of outlines are found, survive moves, and are restored."""

import math

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.vector.edit.symmetry import Mirror, mirror_between, mirror_of
from pds_nerfstudio.vector.svg.document import Document

HEART = "M50 80C20 60 10 40 25 25C35 18 45 22 50 32C55 22 65 18 75 25C90 40 80 60 50 80Z"


def outline(*paths: str) -> tuple[Tensor, list[Tensor]]:
    """Return the points of some paths, and the segments of each."""
    svg = "".join(f'<path d="{d}"/>' for d in paths)
    scene = Document(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{svg}</svg>'.encode())
    topology = scene.scene.topology
    owner = torch.tensor(topology.path)[topology.contour]
    return scene.parameters.points, [topology.segments[owner == k] for k in range(len(paths))]


def turned(points: Tensor, degrees: float, size: float = 1.0) -> Tensor:
    cosine, sine = (size * f(math.radians(degrees)) for f in (math.cos, math.sin))
    return points @ torch.tensor([[cosine, sine], [-sine, cosine]]) + torch.tensor([7.0, -3.0])


def reflected(points: Tensor, angle: float) -> Tensor:
    """Mirror points about an axis through their mean."""
    cosine, sine = math.cos(2 * angle), math.sin(2 * angle)
    middle = points.mean(0)
    return (points - middle) @ torch.tensor([[cosine, sine], [sine, -cosine]]) + middle


def asymmetry(points: Tensor, mirror: Mirror) -> float:
    """Return by how much points miss their partners under the best of many mirrors."""
    angles = torch.linspace(0, math.pi, 3601)
    return min(float((reflected(points, float(a)) - points[mirror.partner]).norm(dim=1).max()) for a in angles)


@pytest.mark.parametrize(
    "path",
    [
        HEART,
        "M10 10H90V40H60V90H40V40H10Z",  # a T
        "M20 80L50 20L80 80",  # open
        "M20 20Q50 0 80 20Q50 90 20 20ZM40 30L50 20L60 30Z",  # with a hole
    ],
)
@pytest.mark.parametrize("degrees", [0, 33, 90])
def test_a_symmetric_outline_is_known_wherever_it_lies(path: str, degrees: float) -> None:
    points, (segments,) = outline(path)
    points = turned(points, degrees, 0.4)
    mirror = mirror_of(points, segments)
    assert mirror is not None
    assert asymmetry(points, mirror) < 0.05
    assert not torch.equal(mirror.partner, torch.arange(len(points)))


@pytest.mark.parametrize("path", ["M10 10H90V40H70V90H40V40H10Z", "M20 80L50 20L85 70", "M10 10L90 12L50 77L30 60Z"])
def test_an_asymmetric_one_is_not_called_symmetric(path: str) -> None:
    points, (segments,) = outline(path)
    assert mirror_of(points, segments) is None


def test_a_parallelogram_has_a_turn_and_no_mirror() -> None:
    points, (segments,) = outline("M10 10L60 10L90 40L40 40Z")
    assert mirror_of(points, segments) is None


def test_of_several_axes_the_upright_one_is_taken() -> None:
    points, (segments,) = outline("M20 40H80V60H20Z")
    mirror = mirror_of(points, segments)
    assert mirror is not None
    torch.testing.assert_close(points[mirror.partner], points * torch.tensor([-1.0, 1.0]) + torch.tensor([100.0, 0.0]))


def test_two_mirror_images_are_known_and_two_copies_are_not() -> None:
    wing, image, copy = "M40 50L10 30L20 60Z", "M60 50L90 30L80 60Z", "M90 50L60 30L70 60Z"
    points, (one, other) = outline(wing, image)
    mirror = mirror_between(points, one, other)
    assert mirror is not None
    torch.testing.assert_close(points[mirror.partner][:, 0], 100 - points[:, 0])
    points, (one, other) = outline(wing, copy)
    assert mirror_between(points, one, other) is None


def test_the_nearest_symmetric_points_are_symmetric_and_no_others_are_nearer() -> None:
    points, (segments,) = outline(HEART)
    mirror = mirror_of(points, segments)
    assert mirror is not None
    generator = torch.Generator().manual_seed(3)
    torn = turned(points, 20) + 2 * torch.randn(points.shape, generator=generator)
    nearest = mirror.nearest(torn)
    assert asymmetry(nearest, mirror) < 0.05 < asymmetry(torn, mirror)
    torch.testing.assert_close(mirror.nearest(nearest), nearest)
    for angle in torch.linspace(0, math.pi, 181).tolist():  # the mean of points and of their images, about other axes
        other = (torn + reflected(torn, angle)[mirror.partner]) / 2
        assert (nearest - torn).norm() <= (other - torn).norm() + 1e-4
