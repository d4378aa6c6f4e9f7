"""What is optimised when a picture is edited: its latent or its pixels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.editing import Shown
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.flow_edit import FlowEdit, FlowEditConfig
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.latents import model_image_size, resize
from pds_nerfstudio.guidance.redraw import RedrawConfig

ParameterName = Literal["latent", "pixels"]
Images = Float[Tensor, "batch 3 height width"]


class ImageEditor:
    """A batch of pictures of one size in the course of an edit, as an `Editable`.

    Args:
        source: In 0..1, of any size.
        guidance: Its prompts are set.
        parameters: 'latent' optimises what the model sees a picture as, 'pixels' the picture itself.
        allowed: Where pictures may change (above 0) or not, of the size of `source`; None lets them change everywhere.

    Raises:
        UserError: If the pictures are too small, or `parameters` is neither.
    """

    def __init__(
        self,
        source: Images,
        guidance: Guidance,
        parameters: ParameterName,
        allowed: Float[Tensor, "#batch 1 height width"] | None = None,
    ) -> None:
        if parameters not in get_args(ParameterName):
            raise UserError(f"There are no parameters '{parameters}': choose {' or '.join(get_args(ParameterName))}.")
        denoiser = guidance.denoiser
        self.guidance, self.latent = guidance, parameters == "latent"
        height, width = source.shape[-2:]
        resolution = guidance.config.resolution or denoiser.resolution
        size = model_image_size(height, width, resolution, denoiser.size_multiple)
        shown = resize(source.to(denoiser.device, denoiser.result_dtype), size)
        with torch.no_grad():
            self.start = denoiser.encode_image(shown) if self.latent else shown
        self.parameter = self.start.clone().requires_grad_()
        """Latents or pixels, at the size that the model works at."""
        self.before = self.pictures()
        """The sources as the parameters show them, in 0..1: what `pictures` are to be compared with."""
        self._allowed = allowed
        self._free = self._allowed_parameters()

    def _allowed_parameters(self) -> Float[Tensor, "#batch 1 _ _"] | None:
        """Return 1 for parameters that may change, because one of the pixels that they stand for may, else 0."""
        if self._allowed is None:
            return None
        return F.adaptive_max_pool2d((self._allowed > 0).to(self.start), self.start.shape[-2:])

    def next_view(self) -> None:
        """Return the one view that there is: all pictures, whole."""

    def render(self, view: None) -> Shown:
        """Return the latents or the pixels themselves."""
        return self.parameter

    def source(self, view: None) -> Shown:
        """Return the same before the edit."""
        return self.start

    def keys(self, view: None) -> range:
        """Return the numbers of the pictures."""
        return range(len(self.parameter))

    @torch.no_grad()
    def project(self) -> None:
        """Put back what may not change, and pixels into their range."""
        if self._free is not None:
            self.parameter.copy_(torch.where(self._free > 0, self.parameter, self.start))
        if not self.latent:
            self.parameter.clamp_(0, 1)

    def flow_edit(self, config: FlowEditConfig) -> FlowEdit:
        """Begin an edit of the sources' latents that needs no optimiser, within what may change."""
        return self.guidance.flow_edit(self.start, config, allowed=self._free)

    @torch.no_grad()
    def redraw(self, config: RedrawConfig) -> None:
        """Let the diffusion model redraw what has changed. From then on the parameters are latents."""
        if not self.latent:
            encode = self.guidance.denoiser.encode_image
            self.start, self.parameter, self.latent = encode(self.start), encode(self.parameter), True
            self.before = self.guidance.denoiser.decode_latents(self.start)
            self._free = self._allowed_parameters()
        self.parameter = self.guidance.redraw_latents(self.parameter, self.start, config, allowed=self._free)

    @torch.no_grad()
    def pictures(self) -> Images:
        """Return the pictures as they are now, in 0..1, at the size that the model works at."""
        parameter = self.parameter.detach()
        return self.guidance.denoiser.decode_latents(parameter) if self.latent else parameter.clone()
