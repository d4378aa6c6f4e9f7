"""The renderer against closed forms, against itself from elsewhere, and against nerfstudio's cameras."""

import random
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.cameras import CameraType
from torch import Tensor

from pds_nerfstudio.toyworld.geometry import BOUNDS_CENTER, BOUNDS_RADIUS, Solids, build
from pds_nerfstudio.toyworld.grammar import HATS, LIMBED, SUBJECTS, Attributes, sample
from pds_nerfstudio.toyworld.renderer import Cameras, distance, distance_and_color, orbit, render, trace

FAR_CONE = torch.tensor([[[0, 0, -50, 0, 0, -50, 0.01, 0.01, 0, 0, 0]]])
FAR_BOX = torch.tensor([[[0, 0, -50, 0.01, 0.01, 0.01, 0.01, 0, 0, 0]]])
RED_BALL = Attributes("ball", "red")
BALL_CENTER, BALL_RADIUS = torch.tensor([0.0, 0.0, 0.70]), 0.70


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_cameras(n: int, size: int = 32, seed: int = 0, zoom: float | None = None) -> Cameras:
    """Return cameras from anywhere that training and scenes look from."""
    u = torch.rand(3, n, generator=rng(seed))
    return orbit(360 * u[0], 2 + 30 * u[1], zoom or 0.82 + 0.18 * u[2], width=size, height=size)


def one_of(cameras: Cameras, i: int) -> Cameras:
    return Cameras(cameras.camera_to_world[i : i + 1], cameras.focal[i : i + 1], cameras.width, cameras.height)


class TestDistance:
    POINTS = 4 * torch.rand(1, 4000, 3, generator=rng()) - 2

    def test_sphere(self) -> None:
        cone = torch.tensor([[[0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.6, 0.6, 1, 0, 0]]])
        expected = (self.POINTS - torch.tensor([0.1, 0.2, 0.3])).norm(dim=-1) - 0.6
        torch.testing.assert_close(distance(self.POINTS, cone, FAR_BOX), expected)

    def test_capsule(self) -> None:
        cone = torch.tensor([[[0, 0, -1, 0, 0, 1, 0.3, 0.3, 1, 0, 0]]])
        x, y, z = self.POINTS.unbind(-1)
        beyond = (z.abs() - 1).clamp(min=0)
        expected = (x * x + y * y + beyond * beyond).sqrt() - 0.3
        torch.testing.assert_close(distance(self.POINTS, cone, FAR_BOX), expected, atol=1e-5, rtol=0)

    def test_round_cone_s_surface(self) -> None:
        # The balls along the axis touch it from within; their hull's mantle bulges out by no more than their spacing.
        cone = torch.tensor([[[0, 0, 0, 0, 0, 1, 0.4, 0.1, 1, 0, 0]]])
        along = torch.linspace(0, 1, 400)
        centers = torch.stack([0 * along, 0 * along, along], -1)
        balls = (torch.cdist(self.POINTS[0], centers) - (0.4 - 0.3 * along)).amin(1)
        inside = distance(self.POINTS, cone, FAR_BOX)[0] < 0
        assert (balls[inside] < 1e-3).all()
        assert inside[(self.POINTS[0] - torch.tensor([0, 0, 0.5])).norm(dim=-1) < 0.2].all()

    def test_box(self) -> None:
        box = torch.tensor([[[0.1, -0.2, 0.3, 0.5, 0.3, 0.7, 0.05, 1, 0, 0]]])
        center, half = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 0.3, 0.7])
        nearest = self.POINTS.clamp(center - half, center + half)
        outside = (self.POINTS != nearest).any(-1)
        expected = (self.POINTS - nearest).norm(dim=-1) - 0.05
        ours = distance(self.POINTS, FAR_CONE, box)
        torch.testing.assert_close(ours[outside], expected[outside], atol=1e-5, rtol=0)
        to_side = (half - (self.POINTS - center).abs()).amin(-1) + 0.05
        torch.testing.assert_close(ours[~outside], -to_side[~outside], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("hat", HATS)
    @pytest.mark.parametrize("subject", SUBJECTS)
    def test_never_grows_faster_than_the_way(self, subject: str, hat: str) -> None:
        arms = "raised" if subject in LIMBED else "down"
        solids = build([Attributes(subject=subject, arms=arms, hat=hat)])  # type: ignore[arg-type]
        start = torch.tensor(BOUNDS_CENTER) + 2.8 * torch.rand(1, 20_000, 3, generator=rng()) - 1.4
        step = 1e-2 * F.normalize(torch.randn(1, 20_000, 3, generator=rng(1)), dim=-1)
        first, second = (distance(p, solids.cones, solids.boxes) for p in (start, start + step))
        assert ((first - second).abs() / 1e-2).max() < 1.02  # a straight sleeve may taper by this

    def test_nearest_solid_gives_the_color(self) -> None:
        cones = torch.tensor([[[0, 0, 0, 0, 0, 0, 0.5, 0.5, 1, 0, 0], [2, 0, 0, 2, 0, 0, 0.5, 0.5, 0, 1, 0]]])
        boxes = torch.tensor([[[-2.0, 0, 0, 0.4, 0.4, 0.4, 0.1, 0, 0, 1]]])
        points = torch.tensor([[[0.9, 0, 0], [1.1, 0, 0], [-0.9, 0, 0], [-1.1, 0, 0]]])
        d, color = distance_and_color(points, cones, boxes)
        torch.testing.assert_close(d, torch.full((1, 4), 0.4))
        assert color.argmax(-1).tolist() == [[0, 1, 0, 2]]

    def test_with_color_is_without_color(self) -> None:
        solids = build([sample(random.Random(seed)) for seed in range(6)])
        points = (self.POINTS[:, :500] + torch.tensor([0, 0, 1])).expand(6, -1, -1)
        colored = distance_and_color(points, solids.cones, solids.boxes)[0]
        assert torch.equal(distance(points, solids.cones, solids.boxes), colored)


class TestCameras:
    @pytest.mark.parametrize(("width", "height"), [(32, 32), (33, 20), (17, 41)])
    def test_rays_are_nerfstudio_s(self, width: int, height: int) -> None:
        cameras = orbit(torch.tensor([20.0, -130.0]), torch.tensor([5.0, 40.0]), 0.9, 50.0, width, height)
        theirs = NerfstudioCameras(
            camera_to_worlds=cameras.camera_to_world,
            fx=cameras.focal[:, None],
            fy=cameras.focal[:, None],
            cx=torch.full((2, 1), width / 2),
            cy=torch.full((2, 1), height / 2),
            width=torch.full((2, 1), width),
            height=torch.full((2, 1), height),
            camera_type=CameraType.PERSPECTIVE,
        )
        origins, directions = cameras.rays()
        for i in range(2):
            bundle = theirs.generate_rays(camera_indices=i)
            assert bundle.directions.shape == (height, width, 3)
            torch.testing.assert_close(bundle.origins.reshape(-1, 3), origins[i])
            torch.testing.assert_close(bundle.directions.reshape(-1, 3), directions[i], atol=2e-6, rtol=0)

    def test_orbit_in_closed_form(self) -> None:
        front = orbit(torch.tensor([0.0]), torch.tensor([0.0]), width=100, height=60).camera_to_world[0]
        away = BOUNDS_RADIUS / torch.tensor(20.0).deg2rad().sin().item()
        expected = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -away], [0, 1, 0, BOUNDS_CENTER[2]]])
        torch.testing.assert_close(front, expected, atol=1e-6, rtol=1e-6)
        left = orbit(torch.tensor([90.0]), torch.tensor([0.0]), 0.5).camera_to_world[0, :, 3]
        torch.testing.assert_close(left, torch.tensor([2 * away, 0, BOUNDS_CENTER[2]]), atol=1e-5, rtol=1e-6)

    def test_poses_are_rotations_that_look_at_the_middle(self) -> None:
        pose = some_cameras(20).camera_to_world
        rotation = pose[:, :, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(20, 3, 3), atol=1e-6, rtol=0)
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20))
        ahead = F.normalize(torch.tensor(BOUNDS_CENTER) - pose[:, :, 3], dim=-1)
        torch.testing.assert_close(ahead, -rotation[:, :, 2], atol=1e-6, rtol=0)
        assert (rotation[:, 2, 0].abs() < 1e-6).all()
        assert (rotation[:, 2, 1] > 0).all()

    @pytest.mark.parametrize(("width", "height"), [(40, 40), (64, 30), (31, 50)])
    def test_ball_of_bounds_touches_the_frame_at_zoom_one(self, width: int, height: int) -> None:
        cameras = orbit(torch.tensor([70.0]), torch.tensor([15.0]), 1.0, 40.0, width, height)
        origin = cameras.camera_to_world[0, :, 3]
        shorter = min(width, height)
        edge = torch.tensor([shorter / 2, 0.0]) if width == shorter else torch.tensor([0.0, shorter / 2])
        direction = cameras.camera_to_world[0, :, :3] @ F.normalize(torch.tensor([*edge, -cameras.focal[0]]), dim=0)
        to_center = torch.tensor(BOUNDS_CENTER) - origin
        passes_at = (to_center - (to_center @ direction) * direction).norm().item()
        assert passes_at == pytest.approx(BOUNDS_RADIUS, abs=1e-4)


class TestBall:
    """The one subject whose picture is known in closed form."""

    @staticmethod
    def rays(n: int = 6000) -> tuple[Tensor, Tensor]:
        camera = orbit(torch.tensor([35.0]), torch.tensor([12.0])).camera_to_world[0]
        aim = BALL_CENTER + 1.8 * torch.rand(n, 3, generator=rng()) - 0.9
        origins = camera[:, 3].expand(n, 3)
        return origins[None], F.normalize(aim - origins, dim=-1)[None]

    def test_depth_and_silhouette(self) -> None:
        origins, directions = self.rays()
        _, depth, hit = trace(build([RED_BALL]), origins, directions)
        to_center = BALL_CENTER - origins
        along = (to_center * directions).sum(-1)
        off_axis_squared = to_center.square().sum(-1) - along.square()
        expected = along - (BALL_RADIUS**2 - off_axis_squared).clamp(min=0).sqrt()
        above = origins[..., 2] + expected * directions[..., 2] > 0.01
        off_axis = off_axis_squared.sqrt()
        inner = above & (off_axis < 0.97 * BALL_RADIUS)
        assert inner.sum() > 1000
        assert hit[inner].all()
        assert (depth - expected)[inner].abs().max() < 2e-3
        assert not hit[off_axis > BALL_RADIUS + 0.015].any()

    def test_ground_depth(self) -> None:
        origins, directions = self.rays()
        _, depth, hit = trace(build([RED_BALL]), origins, directions)
        ground = ~hit & depth.isfinite()
        assert ground.sum() > 500
        assert (origins[..., 2] + depth * directions[..., 2])[ground].abs().max() < 1e-3
        assert not (depth.isinf() & (directions[..., 2] < -0.1)).any()

    def test_light_scales_with_the_time_of_day(self) -> None:
        origins, directions = self.rays(2000)
        day, night = (trace(build([replace(RED_BALL, sky=sky)]), origins, directions) for sky in ("day", "night"))
        hit = day[2]
        torch.testing.assert_close(night[0][hit], day[0][hit] * (0.3 + 0.7 * 0.55), atol=1e-5, rtol=0)

    def test_sunny_side_is_brighter(self) -> None:
        center = torch.tensor([0.0, 0.0, 0.70])
        sun = F.normalize(torch.tensor([0.32, -0.30, 0.90]), dim=0)
        side = F.normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0)  # across the sun's way, at some height
        reds = []
        for normal in (sun, side, F.normalize(-0.6 * sun + side, dim=0)):
            origin = center + 4 * normal
            rgb, depth, hit = trace(build([RED_BALL]), origin[None, None], -normal[None, None])
            assert hit.item()
            assert depth.item() == pytest.approx(4 - BALL_RADIUS, abs=1e-3)
            reds.append(rgb[0, 0, 0].item())
        assert reds[0] > 1.3 * reds[1]
        assert reds[1] > reds[2] > 0

    def test_casts_a_shadow_away_from_the_sun(self) -> None:
        hidden, lit = torch.tensor([-0.6, 0.56, 0.0]), torch.tensor([0.6, -0.56, 0.0])
        brightness = []
        for place in (hidden, lit):
            origin = 3 * F.normalize(place, dim=0) + torch.tensor([0.0, 0.0, 0.5])
            rgb, _, hit = trace(build([RED_BALL]), origin[None, None], F.normalize(place - origin, dim=0)[None, None])
            assert not hit.item()
            brightness.append(rgb.mean().item())
        assert brightness[0] < 0.75 * brightness[1]


class TestFrame:
    def test_nothing_leaves_it(self) -> None:
        generator, cameras = random.Random(0), some_cameras(40)
        things = [sample(generator, held_out=None) for _ in range(40)]
        views = [render(build([thing]), one_of(cameras, i), supersample=1) for i, thing in enumerate(things)]
        subject = torch.cat([view.subject for view in views])
        assert subject.flatten(1).any(1).all()
        for edge in (subject[:, 0], subject[:, -1], subject[:, :, 0], subject[:, :, -1]):
            assert not edge.any()

    @pytest.mark.parametrize(("width", "height"), [(45, 24), (21, 38)])
    def test_odd_sizes_and_shapes(self, width: int, height: int) -> None:
        thing = Attributes("robot", arms="raised", hat="party")
        cameras = orbit(torch.tensor([0.0, 200.0]), torch.tensor([8.0, 20.0]), 0.95, width=width, height=height)
        picture = render(build([thing]), cameras)
        assert picture.rgb.shape == (2, 3, height, width)
        assert picture.depth.shape == picture.subject.shape == (2, height, width)
        for edge in (picture.subject[:, 0], picture.subject[:, -1], picture.subject[..., 0], picture.subject[..., -1]):
            assert not edge.any()
        # arms raised by the same height on both sides: symmetric from the front
        assert torch.equal(picture.subject[0], picture.subject[0].flip(1))

    def test_a_wider_picture_holds_the_square_one(self) -> None:
        solids = build([Attributes("robot", arms="raised", hat="party")])
        angles = torch.tensor([30.0]), torch.tensor([8.0]), 0.95
        square = render(solids, orbit(*angles, width=24, height=24)).rgb
        wide, tall = (render(solids, orbit(*angles, width=w, height=h)).rgb for w, h in ((36, 24), (24, 30)))
        torch.testing.assert_close(wide[..., 6:30], square, atol=1e-3, rtol=0)
        torch.testing.assert_close(tall[..., 3:27, :], square, atol=1e-3, rtol=0)


class TestPicture:
    def test_is_the_mean_of_its_rays(self) -> None:
        cameras = some_cameras(1, 10)
        solids = build([Attributes("cube", hat="top")])
        fine = replace(cameras, focal=3 * cameras.focal, width=30, height=30)
        rgb, depth, hit = trace(solids, *fine.rays())
        picture = render(solids, cameras, supersample=3)
        blocks = rgb.reshape(10, 3, 10, 3, 3).mean((1, 3)).permute(2, 0, 1)
        torch.testing.assert_close(picture.rgb[0], blocks)
        torch.testing.assert_close(picture.depth[0], depth.reshape(30, 30)[1::3, 1::3])  # the middle one of the nine
        assert torch.equal(picture.subject[0], hit.reshape(10, 3, 10, 3).any(3).any(1))
        assert 0 <= picture.rgb.min()
        assert picture.rgb.max() <= 1

    def test_a_batch_of_things_is_each_thing_alone(self) -> None:
        # drawings of all subjects, whose outlines need the whole way of each ray, and photos of some
        things = [Attributes(subject, style="drawing") for subject in SUBJECTS]
        things += [Attributes("robot", arms="raised", balloon="held"), Attributes("snowman", hat="party")]
        cameras = some_cameras(len(things), 20, seed=1)
        batch = render(build(things, pad=True), cameras)
        for i, thing in enumerate(things):
            alone = render(build([thing]), one_of(cameras, i))
            torch.testing.assert_close(alone.rgb[0], batch.rgb[i], atol=1e-4, rtol=0)
            torch.testing.assert_close(alone.depth[0], batch.depth[i], atol=1e-3, rtol=1e-4)
            assert torch.equal(alone.subject[0], batch.subject[i])

    @pytest.mark.parametrize("beside", [True, False], ids=["beside", "behind"])
    def test_outlines_at_the_edge_of_the_bounds(self, beside: bool) -> None:
        # A small ball sits where rays touch the bounds, or just behind where they leave them.
        camera = orbit(torch.tensor([0.0]), torch.tensor([5.0])).camera_to_world[0]
        origin, up, backward = camera[:, 3], camera[:, 1], camera[:, 2]
        sine = BOUNDS_RADIUS / (origin - torch.tensor(BOUNDS_CENTER)).norm()
        tangent = BOUNDS_RADIUS * (sine * backward + (1 - sine * sine).sqrt() * up)
        center = torch.tensor(BOUNDS_CENTER) + (tangent if beside else -(BOUNDS_RADIUS + 0.06) * backward)
        solids = build([Attributes("ball", style="drawing")] * 2)
        solids.cones[:, 0] = torch.tensor([*center.tolist(), *center.tolist(), 0.05, 0.05, 1, 0, 0])
        aim = center + 0.4 * torch.rand(400, 3, generator=rng()) - 0.2
        directions = F.normalize(aim - origin, dim=-1)[None]
        both, _, _ = trace(solids, origin.expand(2, 400, 3), directions.expand(2, 400, 3))
        alone = replace(solids, **{field.name: getattr(solids, field.name)[:1] for field in fields(solids)})
        rgb, _, _ = trace(alone, origin.expand(1, 400, 3), directions)
        assert torch.equal(rgb[0], both[0])
        assert (rgb[0] < 0.2).all(-1).sum() > 5

    def test_a_drawing_is_flat_on_white(self) -> None:
        picture = render(build([Attributes("ball", "blue", style="drawing")]), some_cameras(1, 48), supersample=1)
        colors = {tuple(round(c, 2) for c in pixel) for pixel in picture.rgb[0].flatten(1).T.tolist()}
        assert {(0.98, 0.98, 0.98), (0.10, 0.28, 0.85)} <= colors
        assert len(colors) <= 4
        assert picture.depth[0][~picture.subject[0]].isinf().all()

    def test_grounds_and_skies_differ(self) -> None:
        things = [Attributes(ground=ground) for ground in ("grass", "sand", "snow", "brick")]
        things += [Attributes(sky=sky) for sky in ("sunset", "night")]
        camera = orbit(torch.full((6,), 15.0), torch.full((6,), 10.0), width=24, height=24)
        pictures = render(build(things), camera, supersample=1).rgb
        apart = torch.cdist(pictures.flatten(1), pictures.flatten(1)) / (3 * 24 * 24) ** 0.5
        assert (apart + torch.eye(6)).min() > 0.03


class TestViewConsistency:
    """What two cameras see of one point: the same depth's end, the same colour."""

    @staticmethod
    def turned_to(camera: Tensor, solids: Solids, points: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
        """Return those points, and their colours, whose surface a camera there could see."""
        field = [
            [distance((points + sign * offset)[None], solids.cones, solids.boxes)[0] for sign in (1, -1)]
            for offset in 1e-3 * torch.eye(3)
        ]
        normal = F.normalize(torch.stack([ahead - behind for ahead, behind in field], -1), dim=-1)
        turned = (normal * F.normalize(camera - points, dim=-1)).sum(-1) > 0.15
        return points[turned], colors[turned]

    @pytest.mark.parametrize(
        "thing",
        [
            Attributes("man", arms="raised", hat="top"),
            Attributes("robot", "red", balloon="held"),
            Attributes("snowman", "green", arms="raised"),
            Attributes("bear", "brown", hat="top"),
            Attributes("ball", "pink", sky="sunset"),
            Attributes("cube", "yellow", sky="night"),
            Attributes("cone", "pink"),
        ],
        ids=lambda thing: thing.subject,
    )
    def test_surface_points(self, thing: Attributes) -> None:
        solids = build([thing])
        cameras = orbit(torch.tensor([10.0, 40.0]), torch.tensor([24.0, 10.0]), 0.95, width=40, height=40)
        origins, directions = one_of(cameras, 0).rays()
        rgb, depth, hit = trace(solids, origins, directions)
        other = cameras.camera_to_world[1, :, 3]
        points, rgb = self.turned_to(other, solids, (origins + depth[..., None] * directions)[hit], rgb[hit])
        way = (points - other).norm(dim=-1)
        seen_rgb, seen_depth, _ = trace(
            solids, other.expand(1, len(points), 3), F.normalize(points - other, dim=-1)[None]
        )
        behind = seen_depth[0] < way - 0.15  # something stands before it
        error, off = (seen_depth[0] - way).abs()[~behind], (seen_rgb[0] - rgb).abs().amax(-1)[~behind]
        assert len(error) > 60
        # a few points sit on an outline or on a border between colours
        assert (error < 0.01).float().mean() > 0.94
        assert (off < 0.02).float().mean() > 0.94

    def test_ground_points_near_the_subject(self) -> None:
        solids = build([Attributes("ball", ground="brick")])
        points = torch.tensor([[-0.9, -0.9, 0.0], [0.5, -1.2, 0.0], [1.1, -0.2, 0.0], [0.0, -1.0, 0.0]])
        for sky_free in orbit(torch.tensor([-20.0, 15.0]), torch.tensor([30.0, 30.0]), 1.0).camera_to_world[:, :, 3]:
            way = (points - sky_free).norm(dim=-1)
            _, depth, hit = trace(solids, sky_free.expand(1, 4, 3), F.normalize(points - sky_free, dim=-1)[None])
            assert not hit.any()
            torch.testing.assert_close(depth[0], way, atol=1e-3, rtol=0)

    def test_depth_reprojects_into_another_picture(self) -> None:
        thing = Attributes("cube", "red")
        cameras = orbit(torch.tensor([20.0, 50.0]), torch.tensor([20.0, 25.0]), 0.9, width=48, height=48)
        picture = render(build([thing]), cameras, supersample=1)
        origins, directions = cameras.rays()
        hit = picture.subject[0].flatten()
        points = (origins[0] + picture.depth[0].flatten()[:, None] * directions[0])[hit]
        pose = cameras.camera_to_world[1]
        x, y, z = ((points - pose[:, 3]) @ pose[:, :3]).unbind(-1)
        column = (24 + cameras.focal[1] * x / -z).floor().long()
        row = (24 - cameras.focal[1] * y / -z).floor().long()
        assert picture.subject[1][row, column].float().mean() > 0.95
        there, here = picture.depth[1][row, column], (points - pose[:, 3]).norm(dim=-1)
        assert ((there - here).abs() < 0.06).float().mean() > 0.6  # the rest is on sides that the other can't see
        assert (there < here + 0.1).float().mean() > 0.95
