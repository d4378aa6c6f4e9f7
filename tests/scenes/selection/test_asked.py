"""How much of each Gaussian the prompts ask to change: their masks, lifted into the scene."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.scenes.selection import asked
from pds_nerfstudio.scenes.selection.asked import at_centers, shares_asked
from pds_nerfstudio.scenes.trainer import EditTrainer


def straight_on(width: int = 8, height: int = 4, focal: float = 4.0) -> Cameras:
    """A camera at (0, 0, 3) that looks down at the origin, x to the right and y up."""
    pose = torch.eye(4)[:3]
    pose[2, 3] = 3.0
    return Cameras(pose[None], focal, focal, width / 2, height / 2, width, height)


class TestCentres:
    def test_a_point_is_in_the_pixel_that_its_projection_falls_in(self) -> None:
        """At a distance of 3 and with a focal length of 4, a pixel is 3/4 wide."""
        picture = torch.arange(32.0).view(4, 8, 1)
        points = torch.tensor([[0.1, -0.1, 0.0], [-0.1, 0.1, 0.0], [0.8, 0.0, 0.0], [0.0, 0.8, 0.0], [0.8, 0.0, -3.0]])
        # Rows are counted from above, so what is above the axis has the smaller one.
        pixels = [(2, 4), (1, 3), (2, 5), (0, 4), (2, 4)]
        seen = at_centers(picture, straight_on(), points)[:, 0].tolist()
        assert seen == [8 * row + column for row, column in pixels]

    def test_those_outside_and_behind_have_none(self) -> None:
        points = torch.tensor([[9.0, 0.0, 0.0], [0.0, -9.0, 0.0], [0.1, -0.1, 4.0], [0.1, -0.1, 3.0]])
        assert not at_centers(torch.ones(4, 8, 2), straight_on(), points).any()

    def test_they_agree_with_nerfstudios_rays(self) -> None:
        turned = torch.tensor([[0.6, 0.0, 0.8, 2.0], [0.0, 1.0, 0.0, -0.3], [-0.8, 0.0, 0.6, 1.0]])
        camera = Cameras(turned[None], 11.0, 13.0, 4.5, 2.5, 8, 4)
        rays = camera.generate_rays(camera_indices=0)
        points = (rays.origins + 1.7 * rays.directions).reshape(-1, 3)
        picture = torch.arange(32.0).view(4, 8, 1)
        assert torch.equal(at_centers(picture, camera, points), picture.view(-1, 1))


class Discs:
    """Gaussians that each fill some pixels of every view by themselves."""

    def __init__(self, means: Tensor, *pixels: list[tuple[int, int]]) -> None:
        self.means, self.pixels, self.cameras = means, pixels, 0

    def contributions(self, camera: Cameras, weights: Tensor) -> Tensor:
        self.cameras += 1
        seen = [[weights[y, x] for y, x in own] or [weights.new_zeros(weights.shape[-1])] for own in self.pixels]
        return torch.stack([torch.stack(own).sum(0) for own in seen])


class Views:
    """Some views from the same place, of 8 × 4 pixels."""

    def __init__(self, n: int) -> None:
        self.n, self.asked_for = n, list[int]()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        self.asked_for.append(index)
        return SimpleNamespace(index=index, camera=straight_on(), image=torch.zeros(1, 3, 4, 8))


def some_views(n: int) -> Any:
    return Views(n)


def guidance_that_sees(*masks: Tensor) -> Any:
    """A guidance whose mask of view i is the i-th, or the last."""

    def look(image: Tensor, looks: int, seed: int, keys: list[int], batch: int) -> Tensor:
        return masks[min(keys[0], len(masks) - 1)]

    return SimpleNamespace(look=look, config=SimpleNamespace(seed=0))


@pytest.mark.usefixtures("unchecked")
class TestShares:
    def test_they_are_means_over_all_views_weighted_by_light(self) -> None:
        """The first view asks for its left half, the other two for nothing."""
        half = (torch.arange(8) < 4).float().expand(1, 1, 4, 8)
        discs = Discs(torch.full((4, 3), 99.0), [(0, 0)], [(0, 7)], [(1, 1), (1, 6)], [])
        shares = shares_asked(guidance_that_sees(half, 0 * half), discs, some_views(3), 1)
        assert shares.tolist() == pytest.approx([1 / 3, 0, 1 / 6, 0])

    def test_what_is_hidden_counts_where_its_centre_is(self) -> None:
        """The inside of what is to go has to go, too."""
        left = (torch.arange(8) < 4).float().expand(1, 1, 4, 8)
        means = torch.tensor([[-1.0, 0.1, 0.0], [1.0, 0.1, 0.0], [1.0, 0.1, 0.0]])
        shares = shares_asked(guidance_that_sees(left), Discs(means, [], [], [(0, 0)]), some_views(2), 1)
        assert shares[:2].tolist() == [1, 0]
        assert shares[2] > 0.99  # it is seen inside, which says more than its centre does

    def test_at_most_48_views_are_looked_at_evenly(self) -> None:
        nothing, discs = torch.zeros(1, 1, 4, 8), Discs(torch.zeros(1, 3), [(0, 0)])
        views = some_views(96)
        shares_asked(guidance_that_sees(nothing), discs, views, 1)
        assert views.asked_for == list(range(0, 96, 2)) and discs.cameras == 48

    def test_ranks_look_at_views_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sums: list[Tensor] = []
        monkeypatch.setattr(asked, "get_world_size", lambda: 2)
        monkeypatch.setattr(asked, "sum_over_ranks", sums.append)
        seen = []
        for rank in range(2):
            monkeypatch.setattr(asked, "get_rank", lambda rank=rank: rank)
            views = some_views(7)
            shares_asked(guidance_that_sees(torch.ones(1, 1, 4, 8)), Discs(torch.zeros(1, 3), [(0, 0)]), views, 1)
            seen.append(views.asked_for)
        assert seen == [[0, 2, 4, 6], [1, 3, 5]]
        assert [total[0, 1].item() for total in sums] == pytest.approx([4, 3], abs=0.01)


def test_of_a_real_scene_and_the_real_guidance(make_config: Any, prepare: Any) -> None:
    """They are the light's own: masks of 1 everywhere, as without localize, are shares of 1."""
    trainer: EditTrainer = prepare(make_config("splat", reconstruct=0, pipeline__guidance__localize=1.0))
    pipeline = trainer.pipeline
    guidance: Guidance | None = pipeline.guidance
    model: Any = pipeline.model
    assert guidance is not None
    shares = shares_asked(guidance, model, pipeline.views, 1)
    assert 0 <= shares.min() < shares.max() <= 1
    guidance.reconfigure(localize=0.0)
    everywhere = shares_asked(guidance, model, pipeline.views, 1)
    torch.testing.assert_close(everywhere, torch.ones_like(everywhere))
