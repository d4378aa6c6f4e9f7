"""What an edit has made and no two views see is gone at its end; what is the source's stays to the bit."""

import math
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.scenes.models import floaters
from pds_nerfstudio.scenes.models.floaters import clear_floaters, in_frame
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.models.seeds import Seeds
from pds_nerfstudio.scenes.models.splat import EditSplatModel
from pds_nerfstudio.scenes.trainer import EditTrainer
from tests.scenes.models.test_splat import assert_consistent
from tests.scenes.splats import GROWING, numbers, splat

N, RADIUS, SMALL = 200, 0.5, 0.05
FLOATERS = {
    "behind one camera": (0.0, 0.0, 3.0),
    "right before one camera": (0.0, 0.01, 1.9),
    "inside the ball": (0.0, 0.0, 0.0),
    "beyond all frusta": (0.0, 5.0, 0.0),
}
SUPPORTED = {"seen by two": (0.55, 0.0, 0.55), "seen by all": (0.0, 0.7, 0.0)}
PLACES = {**FLOATERS, **SUPPORTED}


def around(n: int, first: float = 0.0) -> Cameras:
    """Cameras two units from the origin, to which they look, all around it."""
    angle = first + torch.arange(n) * (2 * math.pi / n)
    zero, one = torch.zeros(n), torch.ones(n)
    right = torch.stack([angle.cos(), zero, -angle.sin()], -1)
    back = torch.stack([angle.sin(), zero, angle.cos()], -1)
    up = torch.stack([zero, one, zero], -1)
    return Cameras(torch.stack([right, up, back, 2 * back], -1), 50.0, 50.0, 20.0, 20.0, 40, 40)


CAMERAS = around(4)


def on_ball(n: int) -> Tensor:
    """Points evenly over the unit sphere: a Fibonacci lattice."""
    k = torch.arange(n)
    y, turn = 1 - 2 * (k + 0.5) / n, k * (math.pi * (3 - 5**0.5))
    return torch.stack([(1 - y**2).sqrt() * turn.cos(), y, (1 - y**2).sqrt() * turn.sin()], -1)


@pytest.fixture
def ball(make_config: Any, prepare: Any) -> EditTrainer:
    """Of an opaque ball, about to be edited."""
    trainer = prepare(make_config("splat", reconstruct=0))
    model = splat(trainer)
    assert model.num_points == N
    with torch.no_grad():
        model.means.copy_(RADIUS * on_ball(N))
        model.scales.fill_(math.log(2 * SMALL))
        model.opacities.fill_(5.0)
    model.step_cb(trainer.optimizers, 0)
    return trainer


def plant(model: EditSplatModel) -> None:
    """Plant small, opaque Gaussians by hand, several in each place."""
    points = torch.tensor([*PLACES.values()]).repeat_interleave(4, 0)
    model.plant(Seeds(points + 0.01 * torch.rand(len(points), 3), torch.rand(len(points), 3)))
    with torch.no_grad():
        model.scales[N:] = math.log(0.4 * SMALL)
        model.opacities[N:] = 2.0


def left(model: EditSplatModel) -> list[str]:
    """Of what was planted, the places where it still is."""
    centers = model.means[N:].detach()
    return [name for name, at in PLACES.items() if bool(((centers - torch.tensor(at)).norm(dim=-1) < 0.05).any())]


class TestPlantedByHand:
    def test_what_fewer_than_two_views_see_goes(self, ball: EditTrainer) -> None:
        model = splat(ball)
        before = numbers(model)
        model.begin_edit(first=False, cameras=CAMERAS)
        plant(model)
        assert left(model) == [*PLACES]
        assert clear_floaters(model, CAMERAS) == 4 * len(FLOATERS)
        assert left(model) == [*SUPPORTED] and model.num_points == N + 4 * len(SUPPORTED)
        assert all(torch.equal(values, before[name]) for name, values in numbers(model, slice(N)).items())
        assert model.made.tolist() == [False] * N + [True] * 4 * len(SUPPORTED)
        assert clear_floaters(model, CAMERAS) == 0

    def test_a_speck_to_the_others_is_still_right_before_one_camera(self, ball: EditTrainer) -> None:
        """Where no ball hides it, the camera opposite sees it as well."""
        model = splat(ball)
        with torch.no_grad():
            model.opacities.fill_(-9.0)
        model.begin_edit(first=False, cameras=CAMERAS)
        plant(model)
        clear_floaters(model, CAMERAS)
        assert left(model) == ["inside the ball", *SUPPORTED]

    def test_the_sources_own_stay_wherever_they_are(self, ball: EditTrainer) -> None:
        model = splat(ball)
        with torch.no_grad():
            model.means[:4] = torch.tensor([*FLOATERS.values()])
        model.begin_edit(first=False, cameras=CAMERAS)
        assert clear_floaters(model, CAMERAS) == 0 and model.num_points == N

    def test_what_is_held_stays(self, ball: EditTrainer) -> None:
        """What the edit has made, and the user no longer lets it change."""
        model = splat(ball)
        model.begin_edit(first=False, cameras=CAMERAS)
        plant(model)
        model.hold(lambda gaussians: gaussians.means.detach()[:, 1] > 1)
        clear_floaters(model, CAMERAS)
        assert left(model) == [name for name in PLACES if name != "beyond all frusta"]
        assert model.free is not None and len(model.free) == model.num_points

    def test_a_number_that_is_to_be_kept_is_kept(self, ball: EditTrainer) -> None:
        model = splat(ball)
        model.config.edit_refine_every = 0
        model.begin_edit(first=False, cameras=CAMERAS)
        plant(model)
        assert clear_floaters(model, CAMERAS) == 0 and left(model) == [*PLACES]

    def test_of_one_view_alone_no_second_one_is_asked(self, ball: EditTrainer) -> None:
        model = splat(ball)
        model.begin_edit(first=False, cameras=CAMERAS)
        plant(model)
        clear_floaters(model, CAMERAS[:1])
        assert left(model) == ["right before one camera", *SUPPORTED]

    def test_of_a_scene_something_is_left(self, ball: EditTrainer) -> None:
        model = splat(ball)
        model.begin_edit(first=False, cameras=CAMERAS)
        model.strategy_state["made"] |= True
        with torch.no_grad():
            model.means.add_(torch.tensor([0.0, 50.0, 0.0]))
        assert clear_floaters(model, CAMERAS) == 0

    def test_what_only_views_see_that_were_not_looked_at_stays(
        self, ball: EditTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of very many views: no more is known there than what lies in their frames."""
        monkeypatch.setattr(floaters, "_MOST_LOOKS", 2)
        model = splat(ball)
        model.begin_edit(first=False, cameras=CAMERAS)
        plant(model)
        clear_floaters(model, CAMERAS)
        assert left(model) == ["inside the ball", *SUPPORTED]


def test_a_ball_is_in_frame_where_a_part_of_it_is() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.9, 0, 0], [0.0, -0.9, 0], [0.0, 0, 1.99], [0.0, 0, 2.1], [0.0, 0, 3]])
    at = [in_frame(points, torch.full((6,), reach), CAMERAS[:1]).tolist() for reach in (0.0, 0.2)]
    assert at == [[True, False, False, True, False, False], [True, True, True, True, True, False]]


class TestSky:
    """Far away all around, and not what the edit is about."""

    @pytest.fixture
    def model(self, ball: EditTrainer) -> EditSplatModel:
        """Half of the Gaussians are the ball's, half the sky's."""
        model = splat(ball)
        with torch.no_grad():
            model.means[: N // 2] = RADIUS * on_ball(N // 2)
            model.means[N // 2 :] = 10 * on_ball(N // 2)
            model.scales[N // 2 :] = math.log(1.5)
        return model

    def test_what_was_strewn_before_it_and_has_not_grown_leaves_no_trace(self, model: EditSplatModel) -> None:
        model.config.strewn_gaussians = 4000
        held_out = around(4, first=0.4)
        before = [render(model.eval(), held_out[i : i + 1]) for i in range(4)]
        model.train()
        model.begin_edit(first=True, cameras=CAMERAS)
        sky = ~torch.isin(torch.arange(40), torch.arange(8, 32))  # columns, and rows

        def change() -> float:
            after = [render(model.eval(), held_out[i : i + 1]) for i in range(4)]
            return max(float((a - b).abs()[sky].mean()) for a, b in zip(after, before, strict=True))

        assert change() > 1 / 255
        clear_floaters(model, CAMERAS)
        assert change() < 1 / 255

    def test_what_has_grown_stays(self, model: EditSplatModel) -> None:
        model.begin_edit(first=True, cameras=CAMERAS)
        n = model.num_points
        with torch.no_grad():
            model.means[-2:] = torch.tensor([[0.0, 0.7, 0.0], [0.0, -0.7, 0.0]])
            model.opacities[-2:] = 0.0
        assert clear_floaters(model, CAMERAS) == n - N - 2


class TestInARun:
    @pytest.mark.parametrize("refine", [0, 2])
    def test_they_are_gone_from_its_last_checkpoint(
        self, refine: int, make_config: Any, prepare: Any, monkeypatch: Any, last_state: Any, capsys: Any
    ) -> None:
        trainer = prepare(
            make_config("splat", steps=3, reconstruct=0, pipeline__refine_steps=refine, pipeline__hold_below=0.0)
        )
        model = splat(trainer)

        step = trainer.train_iteration

        def move_first(number: int) -> Any:
            if number == 1:
                with torch.no_grad():
                    model.means[N:] = 50 * trainer.pipeline.views.cameras.camera_to_worlds[:, :, 3].mean(0)
                    model.opacities[N:] = 2.0
            return step(number)

        monkeypatch.setattr(trainer, "train_iteration", move_first)
        trainer.train()
        assert model.num_points == N and not model.made.any()
        assert_consistent(trainer)
        assert len(last_state(trainer)["pipeline"]["_model.gauss_params.means"]) == N
        assert "Removed 40 of the edit's Gaussians" in capsys.readouterr().out

    def test_what_grows_from_them_is_theirs(self, make_config: Any, run: Any, last_state: Any) -> None:
        trainer = run(make_config("splat", steps=5, reconstruct=1, **GROWING, pipeline__model__strewn_opacity=0.05))
        made = splat(trainer).made
        assert torch.equal(last_state(trainer)["pipeline"]["_extra_state"]["held"]["made"], made)
        assert len(made) == splat(trainer).num_points and made.sum() > 40 and (~made).sum() > N

    def test_after_an_undo_nothing_was_made(self, ball: EditTrainer) -> None:
        model = splat(ball)
        source = {name: value.clone() for name, value in model.state_dict().items()}
        model.begin_edit(first=True, cameras=CAMERAS)
        state = model.held_state()
        assert state is not None and state["made"].sum() == 40
        model.load_state_dict(source)
        assert model.held_state() is None and model.num_points == N
