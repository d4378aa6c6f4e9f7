"""How a change gets from what the model works on to the picture, and what may change at all."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.config import GuidanceConfig
from pds_nerfstudio.guidance.latents import resize
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.editor import ImageEditor, ParameterName

from .conftest import KnownGuidance


def edited(
    pictures: Tensor, guidance: KnownGuidance, parameters: ParameterName, allowed: Tensor | None = None
) -> ImageEditor:
    return ImageEditor(pictures, guidance, parameters, allowed)  # type: ignore[arg-type]


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
