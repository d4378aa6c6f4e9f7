"""The mask from the difference of two predictions."""

import torch

from pds_nerfstudio.guidance.masks import MaskAverage, difference_mask, sharpen


def test_mask_is_one_where_predictions_differ_and_zero_where_they_agree() -> None:
    difference = torch.zeros(1, 4, 16, 16)
    difference[..., 4:10, 4:10] = -3.0
    mask = difference_mask(difference)
    assert mask.shape == (1, 1, 16, 16)
    assert (mask[..., 5:9, 5:9] == 1).all()
    assert not mask[..., 12:, :].any() and not mask[..., :3, :].any()


def test_mask_is_the_blurred_channel_mean_over_its_quantile() -> None:
    difference = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    magnitude = difference.abs().mean(1)[0]
    blurred = magnitude[3:6, 7:10].mean()
    full = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(magnitude[None, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1
    )
    expected = blurred / torch.quantile(full, 0.5)
    assert torch.isclose(difference_mask(difference, quantile=0.5)[0, 0, 4, 8], expected.clamp(max=1))
    assert (difference_mask(difference, quantile=0.5) == 1).double().mean() >= 0.49


def test_mask_ignores_scale_and_other_elements() -> None:
    difference = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    difference[1] *= 1e-3
    mask = difference_mask(difference)
    torch.testing.assert_close(mask[1:], difference_mask(difference[1:] * 1e4))


def test_equal_predictions_give_a_finite_mask() -> None:
    assert difference_mask(torch.zeros(1, 4, 8, 8)).isfinite().all()


def test_average_moves_towards_new_masks_for_each_view_apart() -> None:
    average = MaskAverage(10, decay=0.75)
    zeros, ones = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    assert torch.equal(average.update(["a"], zeros), zeros)
    both = average.update(["a", "b"], torch.cat([ones, ones]))
    assert (both[0] == 0.25).all() and (both[1] == 1).all()
    assert (average.update(["a"], ones) == 0.4375).all()


def test_average_forgets_views_beyond_its_bound_and_on_demand() -> None:
    average = MaskAverage(1, decay=0.5)
    zeros, ones = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    average.update(["a"], zeros)
    average.update(["b"], zeros)
    assert (average.update(["a"], ones) == 1).all()
    average.clear()
    assert (average.update(["a"], zeros) == 0).all()


def test_masks_that_are_not_finite_leave_no_trace() -> None:
    first, broken, later = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    broken[0, 0, 1, 2] = torch.nan
    average, clean = MaskAverage(8), MaskAverage(8)
    for mask in (first, broken, later):
        averages = average.update(["view"], mask)
    for mask in (first, later):
        expected = clean.update(["view"], mask)
    assert torch.equal(averages, expected)


def test_a_view_whose_first_mask_is_not_finite_starts_at_the_next() -> None:
    average, later = MaskAverage(8), torch.rand(1, 1, 4, 4)
    key, everywhere = ("view", (1, 4, 4)), torch.ones(1, 1, 4, 4)
    average.update([key], torch.full((1, 1, 4, 4), torch.nan))
    assert torch.equal(average.learned(["view"], everywhere), everywhere)
    assert torch.equal(average.update([key], later), later)


def test_sharpening_takes_the_noise_floor_off() -> None:
    mask = torch.tensor([0.0, 0.15, 0.2, 0.275, 0.4, 1.0]).reshape(1, 1, 2, 3)
    expected = torch.tensor([0.0, 0.0, 0.2, 0.5, 1.0, 1.0]).reshape(1, 1, 2, 3)
    torch.testing.assert_close(sharpen(mask, low=0.15, high=0.4), expected)


def test_saved_averages_go_on_where_they_were() -> None:
    first, second = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    average, other = MaskAverage(8), MaskAverage(8)
    average.update(["a", "b"], first)
    other.load_state_dict(average.state_dict(), torch.device("cpu"))
    assert torch.equal(other.update(["b", "a"], second), average.update(["b", "a"], second))
    assert other.peek("c") is None and torch.equal(other.peek("a"), average.peek("a"))  # type: ignore[arg-type]
