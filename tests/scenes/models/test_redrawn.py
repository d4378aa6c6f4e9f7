"""Redrawn views: what they change in source views of full size, of mixed sizes, in parts and ray by ray."""

from pathlib import Path

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image
from torch import Tensor

from pds_nerfstudio.carry_back import carry_back
from pds_nerfstudio.scenes import views as source_views
from pds_nerfstudio.scenes.models.redrawn import RedrawnViews, Tile
from pds_nerfstudio.scenes.views import SourceViews
from tests.scenes.test_views import open_views, write_views

SIZES = [(40, 60), (13, 9), (60, 40)]  # height, width; the second is no larger than the guidance's
SIDE = 20
TILES = [9, 1, 9]  # of 16×24, 13×9 and 24×16
KINDS = ["splat", "nerf"]  # their data managers keep images each in its own way


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Views of noise, so that all of their detail is lost at the guidance's size."""
    folder = write_views(tmp_path_factory.mktemp("noise") / "data", [(width, height) for height, width in SIZES])
    random = torch.Generator().manual_seed(0)
    for i, (height, width) in enumerate(SIZES):
        noise = torch.randint(100, 156, (height, width, 3), generator=random, dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"images/{i:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of no more pixels than what the guidance sees."""
    monkeypatch.setattr(source_views, "FINE", 1)
    monkeypatch.setattr(source_views, "FINE_PIXELS", 0)


@pytest.fixture(params=KINDS)
def views(request: pytest.FixtureRequest, data: Path) -> SourceViews:
    return open_views(request.param, data, SIDE)


def source(views: SourceViews, index: int) -> Tensor:
    """A view at the guidance's size, as it is redrawn."""
    return views[index].image[0].permute(1, 2, 0)


def edited(views: SourceViews, index: int) -> Tensor:
    """A view whose left half is another."""
    picture = source(views, index).clone()
    half = picture.shape[1] // 2
    picture[:, :half] = torch.tensor([0.9, 0.2, 0.1])
    return picture


def test_what_has_changed_ends_at_its_edge(views: SourceViews) -> None:
    redrawn = RedrawnViews(views)
    redrawn[0] = edited(views, 0)
    changed = redrawn.changed(0)
    half = changed.shape[1] // 2
    assert changed[:, :half].all() and not changed[:, half:].any()


def tiles(redrawn: RedrawnViews, index: int) -> list[Tile]:
    """Each part of a view once."""
    return [redrawn.tile(index, turn) for turn in range(TILES[index])]


def corner(tile: Tile) -> tuple[int, int]:
    return tile.part.rows.start, tile.part.columns.start


def whole(redrawn: RedrawnViews, views: SourceViews, index: int) -> Tensor:
    """A view's target, put together of its parts, where they overlap checked to agree."""
    picture = torch.full((*SIZES[index], 3), torch.nan)
    for tile in tiles(redrawn, index):
        top, left = corner(tile)
        height, width = tile.target.shape[:2]
        assert (tile.part.rows.stop, tile.part.columns.stop) == (top + height, left + width)
        assert tile.size == tuple(SIZES[index])
        assert tile.share == pytest.approx(height * width / (SIZES[index][0] * SIZES[index][1]))
        place = picture[top : top + height, left : left + width]
        assert (place.isnan() | (place == tile.target)).all()
        place.copy_(tile.target)
    assert not picture.isnan().any()
    return picture


@pytest.mark.parametrize("index", range(3))
def test_where_nothing_is_redrawn_the_source_stays_to_the_bit(views: SourceViews, index: int) -> None:
    redrawn = RedrawnViews(views)
    redrawn[index] = source(views, index)
    assert torch.equal(whole(redrawn, views, index), views.full_size_image(index))
    redrawn[index] = source(views, index) + 0.008 * torch.rand_like(source(views, index))
    assert torch.equal(whole(redrawn, views, index), views.full_size_image(index))


@pytest.mark.parametrize("index", range(3))
def test_a_change_is_carried_up_as_it_is_to_a_picture(views: SourceViews, index: int) -> None:
    redrawn = RedrawnViews(views)
    redrawn[index] = edited(views, index)
    full, before, after = (
        picture.permute(2, 0, 1)[None]
        for picture in (views.full_size_image(index), source(views, index), edited(views, index))
    )
    expected = carry_back(full, before, after)[0].permute(1, 2, 0)
    target = whole(redrawn, views, index)
    # What is redrawn, and how much of it counts, are kept in bytes.
    torch.testing.assert_close(target, expected, atol=1.5 / 255, rtol=0)
    assert (target - views.full_size_image(index)).abs().max() > 0.3
    right = SIZES[index][1] * 3 // 4 + 1
    assert torch.equal(target[:, right:], views.full_size_image(index)[:, right:])


@pytest.mark.parametrize("index", range(3))
def test_detail_that_the_model_cannot_draw_stays(views: SourceViews, index: int) -> None:
    """What it loses of the source is no change, and lost again in what it redraws."""
    redrawn, flat = RedrawnViews(views), torch.full_like(source(views, index), 0.5)  # as if it saw no noise
    redrawn.see(index, flat)
    redrawn[index] = flat
    assert torch.equal(whole(redrawn, views, index), views.full_size_image(index))
    assert torch.equal(redrawn.picture(index), source(views, index))
    half = flat.shape[1] // 2
    redrawn[index] = torch.where(torch.arange(flat.shape[1])[:, None] < half, flat + 0.2, flat)
    target, seen = whole(redrawn, views, index), redrawn.seen(index)
    left = SIZES[index][1] // 8
    torch.testing.assert_close(target[:, :left], views.full_size_image(index)[:, :left] + 0.2, atol=3 / 255, rtol=0)
    assert seen is not None and (seen - flat).abs().max() < 1 / 255


def test_tiles_cover_a_view_and_then_come_in_another_order(views: SourceViews) -> None:
    redrawn = RedrawnViews(views)
    for index, n in enumerate(TILES):
        redrawn[index] = edited(views, index)
        shapes = {tuple(tile.target.shape[:2]) for tile in tiles(redrawn, index)}
        assert shapes == {tuple(source(views, index).shape[:2])}
        assert len({corner(tile) for tile in tiles(redrawn, index)}) == n
        later = [corner(redrawn.tile(index, turn)) for turn in range(n, 2 * n)]
        assert {*later} == {corner(tile) for tile in tiles(redrawn, index)}
    assert later != [corner(tile) for tile in tiles(redrawn, 2)]  # in another order


@pytest.mark.parametrize(("pixels", "share"), [(1, 0.16), (4, 0.64), (8, 1.0)])
def test_a_tile_has_so_many_times_the_pixels_that_the_guidance_sees(
    pixels: int, share: float, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_views, "FINE", pixels)
    views = open_views("splat", data, SIDE)
    redrawn = RedrawnViews(views)
    redrawn[0] = edited(views, 0)
    assert redrawn.tile(0, 0).share == pytest.approx(share, rel=0.06)  # of whole pixels
    assert redrawn.tile(0, 0).target.shape[0] == pytest.approx(min(40, 16 * pixels**0.5), abs=1)


def test_rays_have_the_colors_of_the_pixels_that_they_run_through(views: SourceViews) -> None:
    torch.manual_seed(0)
    redrawn = RedrawnViews(views)
    redrawn[1] = source(views, 1)
    redrawn.clear()
    redrawn[2], redrawn[0] = edited(views, 2), edited(views, 0)
    targets = {index: whole(redrawn, views, index) for index in (0, 2)}
    rays, colors, shown = redrawn.sample(120000)
    assert bool((shown == 1).all())
    assert rays.camera_indices is not None and colors.shape == (120000, 3)
    indices = rays.camera_indices[:, 0]
    assert {*indices.tolist()} == {0, 2}
    for index in (0, 2):
        own = indices == index
        assert own.float().mean() == pytest.approx(0.5, abs=0.02)
        camera = views.full_size_camera(index)
        rows, columns = pixels_of(camera, rays.directions[own])
        torch.testing.assert_close(colors[own], targets[index][rows, columns], atol=1e-6, rtol=0)
        seen = torch.zeros(SIZES[index])
        seen.index_put_((rows, columns), torch.ones(len(rows)), accumulate=True)
        assert seen.min() > 0 and seen.max() < 4 * seen.mean()


def pixels_of(camera: Cameras, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and columns of the pixels through whose centres rays run."""
    x, y, z = (directions @ camera.camera_to_worlds[0, :, :3]).unbind(-1)
    columns, rows = camera.fx[0] * x / -z + camera.cx[0], camera.fy[0] * y / z + camera.cy[0]
    for places in (rows, columns):
        assert ((places % 1) - 0.5).abs().max() < 1e-3
    return rows.long(), columns.long()


@pytest.mark.parametrize("kind", KINDS)
def test_views_no_larger_than_the_guidances_are_fitted_whole_and_as_they_were_redrawn(kind: str, data: Path) -> None:
    views = open_views(kind, data, 1000)
    redrawn = RedrawnViews(views)
    state = torch.get_rng_state()
    redrawn[0] = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(1)) * 0.3
    tile = redrawn.tile(0, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(tile.target, redrawn.state_dict()[0].reshape(40, 60, 3) / 255) and tile.share == 1
    for name in ("fx", "fy", "cx", "cy", "camera_to_worlds"):
        assert torch.equal(getattr(tile.camera, name), getattr(views[0].camera, name)), name


def test_a_state_holds_what_was_redrawn_in_bytes_and_no_more(views: SourceViews, data: Path) -> None:
    one, other = RedrawnViews(views), RedrawnViews(views)
    assert not one and one.state_dict() == {}
    one.see(0, source(views, 0) * 0.9)
    one[2], one[0] = edited(views, 2), edited(views, 0)
    other[1] = source(views, 1)
    state = one.state_dict()
    assert {index: (pixels.dtype, tuple(pixels.shape)) for index, pixels in state.items()} == {
        index: (torch.uint8, (source(views, index)[..., 0].numel(), channels)) for index, channels in ((0, 6), (2, 3))
    }
    other.load_state_dict(state)
    assert 1 not in other and 2 in other and len(other) == 2
    for index in (0, 2):
        for turn in range(3):
            assert torch.equal(other.tile(index, turn).target, one.tile(index, turn).target)
    torch.manual_seed(3)
    colors = one.sample(50)[1]
    torch.manual_seed(3)
    assert torch.equal(other.sample(50)[1], colors)
    with pytest.raises(KeyError):
        other.tile(1, 0)
    other.clear()
    assert not other and 2 not in other


def test_numbers_outside_the_range_of_colors_are_clamped(views: SourceViews) -> None:
    redrawn = RedrawnViews(views)
    redrawn[1] = edited(views, 1) * 4 - 1
    assert torch.equal(
        redrawn.state_dict()[1], ((edited(views, 1) * 4 - 1).clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3)
    )
