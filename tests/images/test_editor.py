"""How a change gets from what the model works on to the picture, and what may change at all."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.latents import resize
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.editor import ImageEditor, ParameterName, carry_back

from .conftest import KnownGuidance


def edited(
    pictures: Tensor, guidance: KnownGuidance, parameters: ParameterName, allowed: Tensor | None = None
) -> ImageEditor:
    return ImageEditor(pictures, guidance, parameters, allowed)  # type: ignore[arg-type]


def smooth(picture: Tensor) -> Tensor:
    return resize(picture, (24, 40))


class TestCarryBack:
    def test_no_change_is_no_change_to_the_bit(self, pictures: Tensor) -> None:
        before = smooth(pictures)
        assert torch.equal(carry_back(pictures, before, before.clone()), pictures)
        noise = 0.008 * torch.rand(before.shape, generator=torch.Generator().manual_seed(1))
        assert torch.equal(carry_back(pictures, before, before + noise), pictures)

    def test_a_slight_change_keeps_the_detail(self, pictures: Tensor) -> None:
        before = smooth(pictures)
        changed = carry_back(pictures, before, before - 0.035)
        assert torch.allclose(changed, pictures - 0.035, atol=1e-5)

    def test_what_is_replaced_leaves_no_ghost(self, pictures: Tensor) -> None:
        before = smooth(pictures)
        changed = carry_back(pictures, before, torch.zeros_like(before))
        assert changed.abs().max() < 1e-6

    def test_a_change_here_is_none_there(self, pictures: Tensor) -> None:
        before = smooth(pictures)
        after = before.clone()
        after[..., :10] = 0.0
        changed = carry_back(pictures, before, after)
        assert torch.equal(changed[..., 27:], pictures[..., 27:])
        assert changed[..., :12].abs().max() < 1e-6

    @pytest.mark.parametrize("size", [(45, 70), (24, 40), (9, 16), (300, 20)])
    def test_any_size_will_do(self, size: tuple[int, int]) -> None:
        source = torch.rand(1, 3, *size)
        before = smooth(source)
        changed = carry_back(source, before, 1 - before)
        assert changed.shape == source.shape
        assert 0 <= changed.min() and changed.max() <= 1


@pytest.mark.parametrize("parameters", ["latent", "pixels"])
class TestEditor:
    def test_it_works_at_the_size_of_the_model(
        self, parameters: ParameterName, pictures: Tensor, guidance: KnownGuidance
    ) -> None:
        editor = edited(pictures, guidance, parameters)
        assert editor.before.shape == (2, 3, 24, 40)
        assert torch.equal(editor.pictures(), editor.before)
        assert torch.equal(editor.render(None), editor.source(None)) and editor.render(None).requires_grad
        guidance.config = GuidanceConfig(resolution=64)
        assert edited(pictures, guidance, parameters).before.shape == (2, 3, 48, 80)

    def test_what_is_not_allowed_stays(
        self, parameters: ParameterName, pictures: Tensor, guidance: KnownGuidance
    ) -> None:
        allowed = torch.zeros(1, 1, 45, 70)
        allowed[..., :30] = 1
        editor = edited(pictures, guidance, parameters, allowed)
        with torch.no_grad():
            editor.parameter += 0.3
        editor.project()
        changed = (editor.pictures() - editor.before).abs().amax(1)
        assert changed[..., :14].min() > 0.01
        assert changed[..., 20:].max() == 0

    def test_redrawing_goes_through_latents(
        self, parameters: ParameterName, pictures: Tensor, guidance: KnownGuidance
    ) -> None:
        allowed = torch.zeros(1, 1, 45, 70)
        allowed[..., :30] = 1
        editor = edited(pictures, guidance, parameters, allowed)
        editor.redraw(RedrawConfig(0.1, 3, 5.0))
        change = editor.pictures() - editor.before
        assert torch.allclose(change[:, 0, :, :14], torch.tensor(0.1), atol=1e-6)
        assert change[:, 1:].abs().max() == 0 == change[..., 20:].abs().max()
        shown = resize(pictures, (24, 40))
        assert torch.allclose(editor.before, F.interpolate(F.avg_pool2d(shown, 4), scale_factor=4), atol=1e-6)


def test_pixels_stay_in_range(pictures: Tensor, guidance: KnownGuidance) -> None:
    editor = edited(pictures, guidance, "pixels")
    with torch.no_grad():
        editor.parameter += 5
    editor.project()
    assert editor.pictures().max() == 1


@pytest.mark.usefixtures("unchecked")
def test_other_parameters_are_refused(pictures: Tensor, guidance: KnownGuidance) -> None:
    with pytest.raises(UserError, match="splats"):
        edited(pictures, guidance, "splats")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="16"):
        edited(pictures[..., :12, :], guidance, "latent")
