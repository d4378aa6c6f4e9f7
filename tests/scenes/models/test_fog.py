"""Faint fog in free space: what lets a NeRF grow new things where a reconstruction has left nothing."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.models import fog
from pds_nerfstudio.scenes.models.ball import looked_at_ball, random_in_ball
from pds_nerfstudio.scenes.models.fog import fog_density, random_rays, surface_points
from pds_nerfstudio.scenes.models.nerf import EditNerfModel
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.trainer import EditTrainer

pytestmark = pytest.mark.slow

OPACITY = 0.2


def test_density_of_a_fog() -> None:
    """Light that passes many thin layers of it loses the share asked for."""
    density, radius, layers = fog_density(0.3, 2.5), 2.5, 10**5
    passes = (1 - density * 2 * radius / layers) ** layers
    assert 1 - passes == pytest.approx(0.3, rel=1e-4)


@pytest.mark.parametrize("opacity", [-0.1, 1.0])
def test_a_share_of_light_is_needed(make_config: Any, prepare: Any, opacity: float) -> None:
    with pytest.raises(SystemExit, match=f"fog-opacity is {opacity}"):
        prepare(make_config("nerf", pipeline__model__fog_opacity=opacity))


class Scene:
    """A trainer's scene of nothing before black, as a long reconstruction leaves free space, and the same in fog."""

    def __init__(self, trainer: EditTrainer) -> None:
        model = trainer.pipeline.model
        assert isinstance(model, EditNerfModel)
        self.trainer, self.model, self.views = trainer, model, trainer.pipeline.views
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "hash_table" in name:  # training gives them such a size
                    parameter.mul_(300)
        self.empty = copy.deepcopy(model.state_dict())
        model.begin_edit(first=True, cameras=self.views.cameras)
        self.foggy = copy.deepcopy(model.state_dict())

    def densities(self, points: Tensor) -> list[Tensor]:
        """Of the field and of each proposal network."""
        with torch.no_grad():
            return [network.density_fn(points)[:, 0] for network in (self.model.field, *self.model.proposal_networks)]

    def pictures(self) -> Tensor:
        """Three training views."""
        self.model.eval()
        seen = [render(self.model, self.views.full_size_camera(i)) for i in (0, 4, 8)]
        self.model.train()
        return torch.stack(seen)

    def distance(self) -> Tensor:
        """Of the render of a training view to its picture; with gradients."""
        view = self.views[3]
        rgb, _ = self.model.render_edit_view(view.camera, view.index)
        return (rgb - view.image[0].permute(1, 2, 0)).square().mean()


@pytest.fixture(scope="module")
def scene_in_fog(tmp_path_factory: pytest.TempPathFactory, config_in: Any, prepare: Any) -> Scene:
    """See `Scene`."""
    options = {"average_init_density": 1e-3, "background_color": "black", "fog_opacity": OPACITY, "fog_steps": 200}
    options = {f"pipeline__model__{name}": value for name, value in options.items()}
    trainer = prepare(config_in(tmp_path_factory.mktemp("fog"), "nerf", reconstruct=0, **options))
    trainer.pipeline.train()
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fog, "_BATCH", 128)
        return Scene(trainer)


def test_it_fills_the_ball_in_the_field_and_for_the_sampler(scene_in_fog: Scene) -> None:
    model, cameras = scene_in_fog.model, scene_in_fog.views.cameras
    model.load_state_dict(scene_in_fog.empty)
    with torch.no_grad():
        center, radius = looked_at_ball(cameras, surface_points(model, cameras))
    points, density = random_in_ball(4000, center, radius), fog_density(OPACITY, float(radius))
    assert all(before.max() < density / 100 for before in scene_in_fog.densities(points))
    model.load_state_dict(scene_in_fog.foggy)
    for after in scene_in_fog.densities(points):
        # Nearly everywhere, and nowhere much thicker.
        assert after.quantile(0.1) > density / 3 and after.median() > density / 2
        assert after.quantile(0.98) < density * 3


def test_nobody_sees_it(scene_in_fog: Scene) -> None:
    """Its colour is that of what is behind it, though a field that has never seen anything is grey."""
    scene_in_fog.model.load_state_dict(scene_in_fog.empty)
    before = scene_in_fog.pictures()
    scene_in_fog.model.load_state_dict(scene_in_fog.foggy)
    change = scene_in_fog.pictures() - before
    assert change.abs().mean() < 0.02 and change.abs().max() < 0.06


@pytest.mark.parametrize("foggy", [False, True])
def test_things_grow_in_it_and_nowhere_else(scene_in_fog: Scene, foggy: bool) -> None:
    model = scene_in_fog.model
    model.load_state_dict(scene_in_fog.foggy if foggy else scene_in_fog.empty)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.field.parameters(), lr=5e-3)
    before = scene_in_fog.distance().item()
    for _ in range(20):
        optimizer.zero_grad()
        scene_in_fog.distance().backward()
        optimizer.step()
    left = scene_in_fog.distance().item() / before
    assert left < 0.4 if foggy else left > 0.9


class TestBeginning:
    @pytest.fixture
    def model(self, scene_in_fog: Scene, monkeypatch: pytest.MonkeyPatch) -> EditNerfModel:
        """Without fog yet, and soon ready with it."""
        monkeypatch.setattr(scene_in_fog.model.config, "fog_steps", 1)
        scene_in_fog.model.load_state_dict(scene_in_fog.empty)
        return scene_in_fog.model

    def changed(self, scene_in_fog: Scene) -> bool:
        now = scene_in_fog.model.state_dict()
        return any(not torch.equal(now[name], value) for name, value in scene_in_fog.empty.items())

    def test_an_edit_gets_it_when_it_begins(self, scene_in_fog: Scene, model: EditNerfModel) -> None:
        model.begin_edit(first=True, cameras=scene_in_fog.views.cameras)
        assert self.changed(scene_in_fog)
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_a_resumed_edit_gets_none(self, scene_in_fog: Scene, model: EditNerfModel) -> None:
        model.begin_edit(first=False, cameras=scene_in_fog.views.cameras)
        assert not self.changed(scene_in_fog)

    def test_it_can_be_turned_off(
        self, scene_in_fog: Scene, model: EditNerfModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(model.config, "fog_opacity", 0.0)
        model.begin_edit(first=True, cameras=scene_in_fog.views.cameras)
        assert not self.changed(scene_in_fog)


def test_random_rays_are_of_the_cameras_and_within_their_images(scene_in_fog: Scene) -> None:
    cameras = scene_in_fog.views.cameras
    torch.manual_seed(0)
    rays = random_rays(500, cameras, torch.device("cpu"))
    assert rays.camera_indices is not None
    index = rays.camera_indices[:, 0]
    assert set(index.tolist()) == set(range(len(cameras)))
    poses = cameras.camera_to_worlds[index]
    assert torch.allclose(rays.origins, poses[:, :, 3])
    # Where each ray meets its camera's image plane, in shares of the image's sides.
    local = (poses[:, :, :3].transpose(1, 2) @ rays.directions[:, :, None])[:, :, 0]
    across = (cameras.fx[index, 0] * local[:, 0] / -local[:, 2] + cameras.cx[index, 0]) / cameras.width[index, 0]
    down = (cameras.fy[index, 0] * local[:, 1] / local[:, 2] + cameras.cy[index, 0]) / cameras.height[index, 0]
    for place in (across, down):
        assert place.min() >= 0 and place.max() <= 1
        assert place.mean().item() == pytest.approx(0.5, abs=0.05)
        assert place.std().item() == pytest.approx(12**-0.5, abs=0.05)


def test_poses_are_corrected_once(scene_in_fog: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rays are rendered twice, for what is to stay and in the fit, and nerfacto changes what it is given."""
    model = scene_in_fog.model
    model.load_state_dict(scene_in_fog.foggy)
    monkeypatch.setattr(model.camera_optimizer.pose_adjustment, "data", torch.full((len(scene_in_fog.views), 6), 0.1))
    rays = random_rays(50, scene_in_fog.views.cameras, torch.device("cpu"))
    origins = rays.origins.clone()
    with torch.no_grad():
        fog._colors(model, rays)
    assert torch.equal(rays.origins, origins)
    model(rays)
    assert not torch.equal(rays.origins, origins)
