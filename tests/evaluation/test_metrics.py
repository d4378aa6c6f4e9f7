"""The numbers against what they must be for pictures made by hand."""

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.image import StructuralSimilarityIndexMeasure

from pds_nerfstudio.evaluation import metrics
from pds_nerfstudio.toyworld.classifier import AttributeClassifier


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class TestPsnr:
    def test_known_offset(self) -> None:
        reference = torch.full((2, 3, 8, 6), 0.5)
        image = reference + torch.tensor([0.1, -0.01])[:, None, None, None]
        assert metrics.psnr(image, reference).tolist() == pytest.approx([20, 40], abs=1e-3)

    def test_equal_pictures(self) -> None:
        image = noise(1, 3, 8, 8)
        assert metrics.psnr(image, image).item() == math.inf

    def test_only_masked_pixels_count(self) -> None:
        reference, where = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
        image = torch.full_like(reference, 0.9)
        image[..., 1, 2:] = 0.1
        where[..., 1, 2:] = True
        assert metrics.psnr(image, reference, where).item() == pytest.approx(20, abs=1e-4)
        assert metrics.psnr(image, reference).item() < 2

    def test_full_mask_is_no_mask(self) -> None:
        image, reference = noise(3, 3, 5, 7), noise(3, 3, 5, 7, seed=1)
        everywhere = torch.ones(3, 5, 7, dtype=torch.bool)
        torch.testing.assert_close(metrics.psnr(image, reference, everywhere), metrics.psnr(image, reference))

    def test_no_pixel_to_count_is_nan_for_that_picture_alone(self) -> None:
        reference = torch.zeros(2, 3, 4, 4)
        where = torch.zeros(2, 4, 4, dtype=torch.bool)
        where[1] = True
        value = metrics.psnr(reference + 0.1, reference, where)
        assert value[0].isnan()
        assert value[1].item() == pytest.approx(20, abs=1e-4)
        assert metrics.mean(value) == pytest.approx(20, abs=1e-4)


class TestMean:
    def test_leaves_out_what_is_nan(self) -> None:
        assert metrics.mean(torch.tensor([1.0, math.nan, 3.0])) == 2
        assert math.isnan(metrics.mean(torch.tensor([math.nan])))

    def test_a_perfect_picture_counts(self) -> None:
        assert metrics.mean(torch.tensor([30.0, math.inf])) == math.inf


class TestSsim:
    def test_equal_pictures(self) -> None:
        image = noise(2, 3, 24, 20)
        assert metrics.ssim(image, image).tolist() == pytest.approx([1, 1], abs=1e-5)

    def test_is_torchmetrics_picture_by_picture(self) -> None:
        reference = noise(3, 3, 32, 24)
        image = reference + torch.tensor([0.02, 0.2, 0.6])[:, None, None, None] * (noise(3, 3, 32, 24, seed=1) - 0.5)
        value = metrics.ssim(image, reference)
        assert value.shape == (3,)
        for i in range(3):
            theirs = StructuralSimilarityIndexMeasure(data_range=1.0)(image[i : i + 1], reference[i : i + 1])
            assert value[i].item() == pytest.approx(theirs.item(), abs=1e-5)
        assert value[0] > value[1] > value[2]

    def test_constant_pictures_in_closed_form(self) -> None:
        a, b = 0.2, 0.7  # no variance: (2ab + c₁) / (a² + b² + c₁)
        value = metrics.ssim(torch.full((1, 3, 16, 16), a), torch.full((1, 3, 16, 16), b))
        assert value.item() == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-4)


class TestPerceptualDistance:
    def test_equal_pictures(self) -> None:
        image = noise(2, 3, 8, 8)
        assert metrics.perceptual_distance(lambda x: [x, x[..., ::2, ::2]], image, image).tolist() == [0, 0]

    def test_formula(self) -> None:
        # At each of two places, features of two channels; their directions differ by 90° and by 0°.
        first = {"a": torch.tensor([[2.0, 5.0], [0.0, 0.0]]), "b": torch.tensor([[0.0, 9.0], [3.0, 0.0]])}
        # The second layer has one place, with opposite directions.
        second = {"a": torch.tensor([[1.0], [1.0]]), "b": torch.tensor([[-3.0], [-3.0]])}

        def features(image: Tensor) -> list[Tensor]:
            name = "a" if image.mean() < 0.5 else "b"
            return [first[name][None, :, None], second[name][None, :, None]]

        value = metrics.perceptual_distance(features, torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4))
        assert value.tolist() == pytest.approx([((2 + 0) / 2 + 4) / 2])

    def test_scale_of_features_does_not_count(self) -> None:
        a, b = noise(2, 3, 6, 6), noise(2, 3, 6, 6, seed=1)
        one = metrics.perceptual_distance(lambda x: [x], a, b)
        torch.testing.assert_close(metrics.perceptual_distance(lambda x: [7 * x], a, b), one)
        assert (one > 0).all()


class TestInsideARegion:
    """Return a picture that is right in its left half and noise in its right."""

    @pytest.fixture
    def half_right(self) -> tuple[Tensor, Tensor, Tensor]:
        reference = noise(1, 3, 32, 64)
        image = reference.clone()
        image[..., 32:] = noise(1, 3, 32, 32, seed=1)
        left = torch.zeros(1, 32, 64, dtype=torch.bool)
        left[..., :24] = True  # a structure's window reaches over the border
        return image, reference, left

    def test_structure(self, half_right: tuple[Tensor, Tensor, Tensor]) -> None:
        image, reference, left = half_right
        assert metrics.ssim(image, reference, left).item() == pytest.approx(1, abs=1e-5)
        assert metrics.ssim(image, reference, ~left).item() < 0.5
        assert metrics.ssim(image, reference, torch.zeros_like(left)).isnan()

    def test_features_count_by_the_share_of_their_place(self, half_right: tuple[Tensor, Tensor, Tensor]) -> None:
        image, reference, left = half_right

        def features(picture: Tensor) -> list[Tensor]:
            return [picture, torch.nn.functional.avg_pool2d(picture, 8)]

        assert metrics.perceptual_distance(features, image, reference, left).item() == pytest.approx(0, abs=1e-9)
        everywhere = metrics.perceptual_distance(features, image, reference, torch.ones_like(left))
        torch.testing.assert_close(everywhere, metrics.perceptual_distance(features, image, reference))
        right = metrics.perceptual_distance(features, image, reference, ~left)
        torch.testing.assert_close(right, everywhere * 64 / 40)


class TestPerceptualInTiles:
    @staticmethod
    def pixels(image: Tensor) -> list[Tensor]:
        """Features of pixels alone, of which a picture's tiles have as many as the picture."""
        return [image]

    @pytest.mark.parametrize("masked", [False, True])
    def test_pixels_count_alike_whichever_tile_they_are_in(self, masked: bool) -> None:
        image, reference = noise(3, 21, 30), noise(3, 21, 30, seed=1)
        where = noise(21, 30, seed=2) > 0.6 if masked else None
        whole = metrics.perceptual_distance(
            self.pixels, image[None], reference[None], None if where is None else where[None]
        )
        tiles = metrics.perceptual_in_tiles(self.pixels, image, reference, where, side=8)
        assert tiles.item() == pytest.approx(whole.item(), rel=1e-5)

    def test_a_tile_is_seen_as_it_is_and_none_where_nothing_counts(self) -> None:
        seen: list[Tensor] = []

        def features(image: Tensor) -> list[Tensor]:
            seen.append(image)
            return [image]

        image, where = noise(3, 16, 24), torch.zeros(16, 24, dtype=torch.bool)
        where[9, 17] = True
        assert metrics.perceptual_in_tiles(features, image, image, where, side=8) == 0
        assert all(torch.equal(tile, image[None, :, 8:, 16:]) for tile in seen)

    def test_no_pixel_to_count_is_nan(self) -> None:
        image = noise(3, 16, 24)
        nowhere = torch.zeros(16, 24, dtype=torch.bool)
        assert metrics.perceptual_in_tiles(self.pixels, image, image, nowhere, side=8).isnan()

    def test_what_does_not_count_is_not_seen_from_where_something_does(self) -> None:
        features = AttributeClassifier.load().features
        image, where = noise(3, 128, 128), torch.ones(128, 128, dtype=torch.bool)
        changed, where[40:90, 40:90] = image.clone(), False
        changed[:, 40:90, 40:90] = 0
        assert metrics.perceptual_in_tiles(features, changed, image, where) == 0
        assert metrics.perceptual_in_tiles(features, changed, image) > 0.01

    def test_it_sees_detail_that_is_lost_when_a_large_picture_is_made_small(self) -> None:
        features = AttributeClassifier.load().features
        fine = (torch.arange(512)[:, None] + torch.arange(512)).remainder(2).float().expand(3, -1, -1)
        blurred = torch.full_like(fine, 0.5)
        small = metrics.perceptual_distance(features, fine[None], blurred[None]).item()
        assert metrics.perceptual_in_tiles(features, fine, blurred).item() > 10 * small


class TestGradientEnergy:
    def test_of_a_slope_it_is_the_sum_of_its_squares(self) -> None:
        across, down = torch.arange(12.0), torch.arange(9.0)[:, None]
        image = torch.stack([0.01 * across + 0.02 * down, 0.03 * across + 0 * down, 0 * across + 0.04 * down])
        expected = (0.01**2 + 0.02**2 + 0.03**2 + 0.04**2) / 3
        assert metrics.gradient_energy(image[None]).item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("pixels", [2, 4, 5])
    def test_of_a_step_blurred_over_n_pixels_an_nth_is_left(self, pixels: int) -> None:
        step, ramp = ((torch.arange(40.0) - 20) / n for n in (1, pixels))
        sharp, blurred = (edge.clamp(0, 1).expand(1, 3, 20, 40) for edge in (step, ramp))
        ratio = metrics.gradient_energy(blurred) / metrics.gradient_energy(sharp)
        assert ratio.item() == pytest.approx(1 / pixels, rel=1e-4)

    def test_the_edge_of_a_region_is_none_of_the_picture(self) -> None:
        image, where = torch.zeros(1, 3, 10, 10), torch.zeros(1, 10, 10, dtype=torch.bool)
        image[..., 3:7, 3:7] = 1
        where[..., 3:7, 3:7] = True
        assert metrics.gradient_energy(image, where).item() == 0 < metrics.gradient_energy(image).item()

    def test_no_pixel_to_count_is_nan(self) -> None:
        assert metrics.gradient_energy(noise(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)).isnan().all()


def test_plain_scores_are_json() -> None:
    scores = {"psnr_true": math.inf, "details": math.nan, "success": 1.0}
    assert metrics.plain(scores, 60) == {"psnr_true": 60, "details": None, "success": 1}


class TestChangedRegion:
    def test_grows_by_the_margin(self) -> None:
        before = torch.full((1, 3, 12, 12), 0.5)
        after = before.clone()
        after[0, 1, 5, 4] += 0.1  # one channel of one pixel
        for margin in (0, 1, 3):
            region = metrics.changed_region(before, after, margin=margin)
            expected = torch.zeros(1, 12, 12, dtype=torch.bool)
            expected[0, 5 - margin : 6 + margin, 4 - margin : 5 + margin] = True
            assert torch.equal(region, expected)

    def test_stops_at_the_frame(self) -> None:
        before = torch.zeros(1, 3, 6, 6)
        after = before.clone()
        after[0, :, 0, 5] = 1
        region = metrics.changed_region(before, after, margin=2)
        assert region.shape == (1, 6, 6)
        assert region.sum() == 9
        assert bool(region[0, :3, 3:].all())

    def test_threshold_and_sign(self) -> None:
        before = torch.full((1, 3, 4, 4), 0.5)
        small, big = before.clone(), before.clone()
        small[..., 0, 0] -= 3.9 / 255
        big[..., 0, 0] -= 4.1 / 255
        assert not metrics.changed_region(before, small).any()
        assert metrics.changed_region(before, big, margin=0).nonzero().tolist() == [[0, 0, 0]]

    def test_pictures_do_not_mix(self) -> None:
        before = torch.zeros(2, 3, 8, 8)
        after = before.clone()
        after[1] = 1
        assert metrics.changed_region(before, after).all(2).all(1).tolist() == [False, True]
