"""What may change, chosen by hand while a run goes on: by clicks in the viewer's picture, and by its crop box."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.utils import CameraState, get_camera
from torch import Tensor

from pds_nerfstudio.scenes.live.choosing import _ALL, _BOX, _LAST, Choosing, in_words, rays_through
from pds_nerfstudio.scenes.live.comparison import Comparison
from pds_nerfstudio.scenes.live.session import EditSession, Request, read_record
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.selection.config import SelectionConfig
from pds_nerfstudio.scenes.trainer import EditTrainer
from tests.scenes.splats import GROWING, numbers, splat

BALL = [0.0, 0.0, -0.3, 0.3]
OTHER = [1.0, 0.0, -0.5, 0.6]
BUSY = {
    "pipeline__lr_warmup_steps": 0,
    "pipeline__hold_below": 0.0,
    **GROWING,
    "pipeline__model__edit_cull_alpha_thresh": 0.0,
    "pipeline__model__strewn_gaussians": 0,
}
NERF = {"pipeline__lr_warmup_steps": 0}


def only(*balls: list[float], **values: Any) -> Request:
    return Request("set", {"only": {"balls": [x for ball in balls for x in ball], **values}})


def inside(model: Any, *balls: list[float]) -> Tensor:
    means = model.means.detach()
    near = [(means - torch.tensor(ball[:3])).norm(dim=-1) < ball[3] for ball in balls]
    return torch.stack(near).any(0)


def recorded(trainer: EditTrainer) -> list[tuple[int, Request]]:
    return read_record(trainer.base_dir / "session.jsonl")


class TestSplats:
    def test_before_the_first_step_all_else_keeps_every_bit_of_the_source(
        self, make_config: Any, run_asking: Any
    ) -> None:
        seen: dict[str, Any] = {}

        def look(trainer: EditTrainer, call: int) -> None:
            if call == 0:
                seen.update(numbers(splat(trainer)))

        trainer = run_asking(make_config("splat", steps=4, reconstruct=1, **BUSY), {-1: [only(BALL)]}, look)
        model = splat(trainer)
        assert model.free is not None and 0 < (~model.free).sum() < 200 < len(model.free)
        held = ~((seen["means"] - torch.tensor(BALL[:3])).norm(dim=-1) < BALL[3])
        for name, values in numbers(model, ~model.free).items():
            assert torch.equal(values, seen[name][held]), name
        assert not torch.equal(numbers(model, slice(200))["means"][~held], seen["means"][~held])

    def test_narrowed_in_the_middle_only_that_goes_on(self, make_config: Any, run_asking: Any) -> None:
        """What has changed outside stays as it is by then; a wider choice lets it go on."""
        still = {**BUSY, "pipeline__model__edit_refine_every": 0}
        seen: list[dict[str, Tensor]] = []
        free: list[Tensor | None] = []

        def look(trainer: EditTrainer, call: int) -> None:
            seen.append(numbers(splat(trainer)))
            free.append(splat(trainer).free)

        asked = {1: [only(BALL)], 3: [only(BALL, OTHER)], 5: [Request("set", {"only": {"balls": []}})]}
        trainer = run_asking(make_config("splat", steps=8, reconstruct=0, **still), asked, look)
        seen.append(numbers(splat(trainer)))  # at the beginning of each step, and at the end
        one, two, all_of_it = free[2], free[4], free[7]
        assert free[0] is None and one is not None and two is not None
        assert 0 < one.sum() < two.sum() < 200 and (all_of_it is None or bool(all_of_it.all()))

        def moved(first: int, then: int) -> Tensor:
            return (seen[first]["means"] != seen[then]["means"]).any(-1)

        assert moved(0, 2)[~one].any()  # the whole scene, before that
        assert not moved(2, 4)[~one].any() and moved(2, 4)[one].any()
        assert not moved(4, 6)[~two].any() and moved(4, 6)[two & ~one].any()
        assert moved(6, 8)[~two].any()

    def test_new_things_can_grow_where_it_is_chosen_and_are_strewn_once(
        self, make_config: Any, run_asking: Any
    ) -> None:
        above = [0.0, 0.0, 0.2, 0.2]  # looked at by the cameras, too
        options = {**BUSY, "pipeline__model__strewn_gaussians": 300, "pipeline__model__edit_refine_every": 0}
        means: list[Tensor] = []
        run_asking(
            make_config("splat", steps=6, reconstruct=0, **options),
            {-1: [only(BALL)], 1: [only(BALL, above)], 3: [only(above)]},
            lambda trainer, call: means.append(splat(trainer).means.detach().clone()),
        )
        counts = [len(one) for one in means]
        assert 200 < counts[0] == counts[1] < counts[2] == counts[5] < 500
        new = (means[2][counts[0] :] - torch.tensor(above[:3])).norm(dim=-1)
        assert (new < above[3] + 0.05).all()  # they have moved for a step

    @pytest.mark.parametrize("when", [-1, 1])
    def test_a_session_can_be_replayed_and_cut_short(
        self, when: int, make_config: Any, run_asking: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        options = {**BUSY, "steps": 6, "reconstruct": 1}
        asked = {when: [only(BALL)], 2: [only(BALL, OTHER)]}
        saving = {"steps_per_save": 4, "save_only_latest_checkpoint": False}
        live = run_asking(make_config("splat", "live", **options, **saving), asked)
        replay = run(make_config("splat", "replay", **options, replay=live.base_dir / "session.jsonl"))
        assert differences(last_state(live)["pipeline"], last_state(replay)["pipeline"]) == []
        assert recorded(replay) == recorded(live)
        cut = next(path for path in live.checkpoint_dir.glob("step-*.ckpt") if "4" in path.stem)
        resumed = run(make_config("splat", "resumed", **options, load_checkpoint=cut))
        assert differences(last_state(live)["pipeline"], last_state(resumed)["pipeline"]) == []
        saved = yaml.load((resumed.base_dir / "config.yml").read_text(), yaml.Loader)
        assert saved.pipeline.only.balls == tuple(BALL + OTHER)

    def test_options_that_a_resumed_run_gives_count_more(self, make_config: Any, run_asking: Any, run: Any) -> None:
        first = run_asking(make_config("splat", "first", steps=2, **BUSY), {-1: [only(BALL)]})
        options = {**BUSY, "pipeline__only": SelectionConfig(balls=tuple(OTHER)), "load_dir": first.checkpoint_dir}
        second = run(make_config("splat", "second", steps=3, **options))
        free = splat(second).free
        assert free is not None and second.config.pipeline.only.balls == tuple(OTHER)
        before = inside(splat(first), OTHER)
        assert torch.equal(free[: len(before)], before) and free.any()

    def test_the_scene_before_the_edit_is_of_no_edits_choice(self, make_config: Any, run_asking: Any, run: Any) -> None:
        first = run_asking(make_config("splat", "first", steps=1, **BUSY), {-1: [only(BALL)]})
        second = run(make_config("splat", "second", steps=1, load_dir=first.source_folder, **BUSY))
        assert splat(second).free is None and not second.config.pipeline.only.selects

    def test_it_outlives_an_undo(self, make_config: Any, run_asking: Any) -> None:
        trainer = run_asking(
            make_config("splat", steps=3, reconstruct=1, **BUSY),
            {0: [only(BALL), Request("undo"), Request("edit")]},
        )
        free = splat(trainer).free
        assert trainer.pipeline.settings["only"]["balls"] == BALL and free is not None and not free.all()


class TestNerfs:
    def views(self, model: Any, trainer: EditTrainer) -> Tensor:
        model.proposal_sampler.set_anneal(1.0)
        return torch.stack([render(model, trainer.pipeline.views.full_size_camera(i)) for i in range(9)])

    def missing(self, trainer: EditTrainer, *balls: list[float]) -> Tensor:
        """Whether rays of all views miss balls grown a little: by their distance from the centres."""
        views = trainer.pipeline.views
        rays = [views.full_size_camera(i).generate_rays(camera_indices=0, keep_shape=True) for i in range(9)]
        free = []
        for ball in balls:
            for ray in rays:
                away = torch.tensor(ball[:3]) - ray.origins
                along = (away * ray.directions).sum(-1, keepdim=True).clamp_min(0)
                free.append((away - along * ray.directions).norm(dim=-1) > 1.02 * ball[3])
        return torch.stack(free).view(len(balls), 9, 32, 48).all(0)

    def test_before_the_first_step_all_else_shows_the_source(self, make_config: Any, run_asking: Any) -> None:
        trainer = run_asking(make_config("nerf", steps=4, **NERF), {-1: [only(BALL)]})
        source = FinishedEdit(trainer.base_dir / "config.yml").reconstruction
        trainer.pipeline.eval()
        difference = (self.views(trainer.pipeline.model, trainer) - self.views(source, trainer)).abs().amax(-1)
        missing = self.missing(trainer, BALL)
        assert missing.sum() > 1000 and difference[missing].max() == 0 and difference[~missing].max() > 1e-3

    def test_another_choice_keeps_what_has_been_done(self, make_config: Any, run_asking: Any) -> None:
        """Also when it is opened again."""
        far, near = [0.0, 0.0, 0.0, 0.6], [0.0, 0.0, 0.0, 0.3]
        before: list[Tensor] = []

        def look(trainer: EditTrainer, call: int) -> None:
            if call == 2:
                trainer.pipeline.eval()
                before.append(self.views(trainer.pipeline.model, trainer))
                trainer.pipeline.train()

        asked = {-1: [only(far)], 2: [Request("set", {"only": {"balls": near}}), Request("snapshot")]}
        trainer = run_asking(make_config("nerf", steps=6, **NERF), asked, look)
        source = FinishedEdit(trainer.base_dir / "config.yml").reconstruction
        _, opened, _, _ = eval_setup(trainer.base_dir / "config.yml", test_mode="inference")
        trainer.pipeline.eval()
        now, again, was = (self.views(m, trainer) for m in (trainer.pipeline.model, opened.model, source))
        assert torch.equal(now, again)
        outside = self.missing(trainer, near) & ~self.missing(trainer, far)
        assert (now[outside] - was[outside]).abs().max() > 1e-3  # what was done there stays
        assert torch.equal(now[self.missing(trainer, far)], was[self.missing(trainer, far)])

    def test_a_session_can_be_replayed_and_cut_short(
        self, make_config: Any, run_asking: Any, run: Any, last_state: Any, differences: Any
    ) -> None:
        saving = {"steps_per_save": 4, "save_only_latest_checkpoint": False}
        asked = {0: [only(BALL)], 1: [only(OTHER)]}
        live = run_asking(make_config("nerf", "live", steps=5, reconstruct=1, **NERF, **saving), asked)
        options = {"steps": 5, "reconstruct": 1, **NERF}
        replay = run(make_config("nerf", "replay", **options, replay=live.base_dir / "session.jsonl"))
        assert differences(last_state(live)["pipeline"], last_state(replay)["pipeline"]) == []
        assert len(last_state(live)["pipeline"]["_extra_state"]["held"]["layers"]) == 1
        cut = next(path for path in live.checkpoint_dir.glob("step-*.ckpt") if "4" in path.stem)
        resumed = run(make_config("nerf", "resumed", **options, load_checkpoint=cut))
        kept, still = (last_state(trainer)["pipeline"]["_extra_state"] for trainer in (live, resumed))
        assert differences(kept["held"], still["held"]) == []  # its random numbers are others
        assert kept["only"] == still["only"]


class TestPicks:
    def ray(self, trainer: EditTrainer) -> list[float]:
        pose = trainer.pipeline.views.view_cameras[0].camera_to_worlds
        return [*pose[:, 3].tolist(), *(-pose[:, 2]).tolist()]

    @pytest.mark.parametrize("kind", ["splat", "nerf"])
    def test_they_are_recorded_as_what_was_seen(self, kind: str, make_config: Any, prepare: Any, watch: Any) -> None:
        trainer = prepare(make_config(kind, steps=3, reconstruct=60))
        pick = Request("pick", {"rays": [self.ray(trainer)], "brush": 0.2})
        watch.before = lambda call: trainer.session.ask(pick) if trainer.next_step < 62 else None  # in two steps
        trainer.train()
        (_, _), *picks = recorded(trainer)
        one, two = (request.settings["only"]["balls"] for _, request in picks)
        assert [request.action for _, request in picks] == ["set", "set"] and two[:4] == one and len(two) == 8
        origin = torch.tensor(self.ray(trainer)[:3])
        assert one[3] == pytest.approx(0.2 * (torch.tensor(one[:3]) - origin).norm().item(), rel=1e-3)
        assert trainer.config.pipeline.only.balls == tuple(two)
        assert trainer.pipeline.training

    def test_one_that_meets_nothing_is_said(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("splat", steps=1))
        trainer.session.ask(Request("pick", {"rays": [[0, 0, 50, 0, 0, 1]], "brush": 0.1}))
        trainer.live._answer()
        assert trainer.session.status.message.startswith("There is nothing where you clicked")
        assert len(recorded(trainer)) == 1 and not trainer.config.pipeline.only.selects


class TestRefusals:
    @pytest.mark.parametrize("when", [-1, 0])
    @pytest.mark.parametrize(
        "values",
        [
            {"balls": [50.0, 0.0, 0.0, 0.1]},
            {"balls": [0.0, 0.0, 0.0]},
            {"balls": [0.0, 0.0, 0.0, -1.0]},
            {"balls": ["a"]},
            {"obb_scale": [1.0, 0.0, 1.0]},
            {"bowls": []},
            {"masks": "nowhere"},
        ],
    )
    def test_a_choice_of_nothing_is_one_line_and_no_end(
        self, values: dict[str, Any], when: int, make_config: Any, run_asking: Any
    ) -> None:
        said: list[str] = []
        trainer = run_asking(
            make_config("splat", steps=2, reconstruct=0, **BUSY),
            {when: [Request("set", {"only": values})]},
            lambda trainer, call: said.append(trainer.session.status.message),
        )
        assert said[when + 1] and "\n" not in said[when + 1]
        assert trainer.next_step == 2 and len(recorded(trainer)) == 1 and splat(trainer).free is None

    def test_of_a_nerf(self, make_config: Any, prepare: Any) -> None:
        trainer = prepare(make_config("nerf"))
        box = {"obb_center": [5.0, 0.0, 0.0], "obb_scale": [1.0, 1.0, 1.0]}
        trainer.session.ask(only(BALL, **box))
        trainer.live._answer()
        assert "holds nothing of the scene" in trainer.session.status.message

    def test_what_has_left_the_choice_when_the_edit_begins_keeps_every_bit(
        self, make_config: Any, prepare: Any
    ) -> None:
        trainer = prepare(make_config("splat", steps=2, reconstruct=0, **BUSY))
        trainer.session.ask(only(BALL))
        trainer.live._answer()
        model = splat(trainer)
        with torch.no_grad():
            model.gauss_params["means"] += 5
        before = numbers(model)
        trainer.train()
        assert trainer.next_step == 2
        assert all(torch.equal(values, before[name]) for name, values in numbers(model).items())


class TestHeat:
    @pytest.fixture
    def switch(self) -> Any:
        return SimpleNamespace(output_render="may_change", split=False, split_output_render="rgb")

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("kind", ["splat", "nerf"])
    def test_it_is_hot_where_it_may_change(
        self, kind: str, make_config: Any, prepare: Any, switch: Any, tmp_path: Path
    ) -> None:
        trainer = prepare(make_config(kind, reconstruct=0, **(NERF if kind == "nerf" else BUSY)))
        trainer.pipeline.change_settings({"only": {"balls": [0.0, 0.0, 0.0, 100.0]}})
        model, camera = trainer.pipeline.eval().model, trainer.pipeline.views.full_size_camera(0)
        Comparison(model, switch, tmp_path / "none", lambda: trainer.pipeline.may_change)
        with torch.no_grad():
            outputs = model.get_outputs_for_camera(camera)
            light = outputs["accumulation"][..., 0].clamp(0, 1)
            hot = outputs["may_change"][..., 0]
            assert (hot[light > 0.67] == 1).all() and (hot[light < 0.2] < 0.67).all()
            trainer.pipeline.change_settings({"only": {"balls": BALL}})
            part = model.get_outputs_for_camera(camera)["may_change"]
            assert part[..., 0].sum() < hot.sum()
            trainer.pipeline.change_settings({"only": {"balls": []}})
            assert (model.get_outputs_for_camera(camera)["may_change"][..., 0] == 1).all()

    def test_light_is_of_what_is_chosen(self, make_config: Any, prepare: Any) -> None:
        """Of a NeRF, all that half-spaces add to a ray is what the whole adds."""
        trainer = prepare(make_config("nerf", reconstruct=0))
        model, camera = trainer.pipeline.eval().model, trainer.pipeline.views.full_size_camera(0)
        halves = [
            SelectionConfig(obb_center=(side * 500.0, 0.0, 0.0), obb_scale=(1000.0, 1e5, 1e5)).region("cpu")
            for side in (-1, 1)
        ]
        with torch.no_grad():
            whole = model.get_outputs_for_camera(camera)["accumulation"][..., 0]
        parts = [model.light_from(half, camera) for half in halves]
        torch.testing.assert_close(parts[0] + parts[1], whole, atol=1e-4, rtol=1e-4)
        assert min(part.max() for part in parts) > 1e-3


class TestPanel:
    def state(self) -> CameraState:
        angle = 0.7
        turn = torch.tensor([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
        c2w = torch.cat([turn.double(), torch.tensor([[0.1], [0.2], [0.3]]).double()], 1)
        return CameraState(fov=0.9, aspect=1.5, c2w=c2w, camera_type=CameraType.PERSPECTIVE)

    def test_a_click_is_the_ray_through_its_pixel(self) -> None:
        height, width = 100, 150
        camera = get_camera(self.state(), height, width)
        theirs = camera.generate_rays(camera_indices=0, keep_shape=True)[30, 20]
        point = (20.5 / width, 30.5 / height)
        (ray,), brush = rays_through(self.state(), point, point, 0.1)
        assert ray[:3] == pytest.approx(theirs.origins.tolist(), abs=1e-6)
        assert ray[3:] == pytest.approx(theirs.directions.tolist(), abs=1e-5)
        assert brush == pytest.approx(0.2 * math.tan(0.45))  # of a picture that is 2 tan(fov / 2) high

    @pytest.mark.parametrize(("brush", "corner"), [(0.1, (0.4, 0.6)), (0.02, (0.0, 0.0)), (0.3, (0.69, 0.89))])
    def test_a_drag_is_filled_with_pieces(self, brush: float, corner: tuple[float, float]) -> None:
        opposite = (0.7, 0.9)
        rays, radius = rays_through(self.state(), opposite, corner, brush)
        assert 1 <= len(rays) < 100
        size = 2 * math.tan(0.45)
        looking = np.array(rays)[:, 3:] @ self.state().c2w[:, :3].double().numpy()
        places = -looking[:, :2] / looking[:, 2:] / size + np.array([0.75, 0.0])
        places[:, 1] = 0.5 - places[:, 1]  # in heights of the picture, from its left and its top
        some = np.random.default_rng(0).uniform(corner, opposite, (500, 2)) * (1.5, 1)
        nearest = np.linalg.norm(some[:, None] - places, axis=-1).min(1)
        assert nearest.max() <= radius / size + 1e-9 and radius / size >= brush

    def test_buttons_ask(self) -> None:
        session = EditSession({"only": SelectionConfig(balls=(*BALL, *OTHER)).plain})
        choosing: Any = Choosing.__new__(Choosing)
        crop = {"_crop_center": (1, 2, 3), "_crop_rot": (0.0, 0.0, 0.5), "_crop_scale": (1.0, 1.0, 2.0)}
        panel = SimpleNamespace(**{name: SimpleNamespace(value=value) for name, value in crop.items()})
        choosing._viewer, choosing._session = SimpleNamespace(control_panel=panel), session
        assert choosing._asked(_LAST) == {"balls": BALL}
        box = SelectionConfig().changed(choosing._asked(_BOX))
        assert box == SelectionConfig((1, 2, 3), (0, 0, 0.5), (1, 1, 2))
        assert not SelectionConfig(balls=tuple(BALL), words="x").changed(choosing._asked(_ALL)).selects

    def test_it_is_said_in_words(self) -> None:
        assert in_words(SelectionConfig().plain) == "All may change."
        chosen = SelectionConfig(balls=tuple(BALL), obb_scale=(1.0, 1.0, 1.0), words="{a}")
        assert in_words(chosen.plain) == "What may change: 1 picked piece and a box and words."
