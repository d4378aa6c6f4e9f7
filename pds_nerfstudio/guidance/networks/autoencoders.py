"""Pictures to latents and back, whichever of diffusers' autoencoders a model has."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pds_nerfstudio.guidance.networks.acceleration.compilation import CompiledNetwork
from pds_nerfstudio.guidance.networks.acceleration.fusible import make_fusible

Pictures = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels latent_height latent_width"]


class Autoencoder:
    """An autoencoder whose latents have a standard deviation near 1.

    They are (mode − shift)·scale of what the autoencoder says: numbers in most, one for each channel in some. Those of
    FLUX.2 are taken in patches of 2×2 before that.

    Args:
        vae: A diffusers autoencoder of pictures.
        device: Where it runs.
        dtype: What it runs in. Those that overflow in float16 run in bfloat16 instead.
        result_dtype: What latents and pictures are in.
        compiled: Whether the encoder is compiled.
        recomputes: Whether the encoder's activations are computed again for the gradient, in place of being kept, which
            takes a third of the memory.
    """

    def __init__(
        self,
        vae: Any,
        device: torch.device,
        dtype: torch.dtype,
        result_dtype: torch.dtype,
        compiled: bool = False,
        recomputes: bool = False,
    ) -> None:
        if dtype == torch.float16 and vae.config.get("force_upcast"):
            dtype = torch.bfloat16
        self._kind = type(vae).__name__
        self._device, self._dtype, self._result_dtype = device, dtype, result_dtype
        self.vae: Any = vae
        """Of diffusers."""
        if self._kind == "AutoencoderKL":
            from diffusers.models.attention_processor import AttnProcessor  # here, because it takes seconds

            # One head as wide as all its channels: fused attention was not made for that, least of all backward.
            vae.set_attn_processor(AttnProcessor())
        flat = self._kind != "AutoencoderKLQwenImage"  # which has a time axis
        # Convolutions want channels last, on tensor cores and on a CPU.
        self.layout = torch.channels_last if flat else torch.contiguous_format
        if compiled and device.type == "cuda" and self._kind == "AutoencoderKL":
            make_fusible(vae.encoder)
        # The plain method: diffusers' own warns of parts to keep in float32 when there are none.
        nn.Module.to(vae, device=device, dtype=dtype)
        nn.Module.to(vae, memory_format=self.layout)
        vae.eval().requires_grad_(False)
        if recomputes and vae._supports_gradient_checkpointing:
            vae.enable_gradient_checkpointing()
        self._encode_mode: Callable[[Tensor], Tensor] = self._mode
        if compiled:
            self._encode_mode = CompiledNetwork(self._mode, "VAE's encoder", device, differentiable=True)
        self._shift, self._scale = self._statistics()

        self.patch: int = 2 if self._kind == "AutoencoderKLFlux2" else 1
        """Side of the squares of the autoencoder's own latent that one place of a latent holds."""
        self.factor: int = 2 ** halvings(vae.config) * self.patch
        """Pixels along one side of a place of a latent."""
        self.channels: int = (vae.config.get("latent_channels") or vae.config.z_dim) * self.patch**2
        """Channels of a latent."""

    def encode(self, image: Pictures) -> Latents:
        """Return the latents of images in [0, 1], differentiable in the image."""
        mode = self._encode_mode(self._input(image) * 2 - 1).to(self._result_dtype)
        if self.patch > 1:
            mode = F.pixel_unshuffle(mode, self.patch)
        latents: Tensor = (mode - self._shift) * self._scale
        return latents

    def decode(self, latents: Latents) -> Pictures:
        """Return the images, in [0, 1], of latents."""
        latents = latents.to(self._device, self._result_dtype) / self._scale + self._shift
        if self.patch > 1:
            latents = F.pixel_shuffle(latents, self.patch)
        latents = latents.to(self._dtype)
        if self._kind == "AutoencoderKLQwenImage":
            image: Tensor = self.vae.decode(latents.unsqueeze(2)).sample.squeeze(2)
        else:
            image = self.vae.decode(latents).sample
        return (image.to(self._result_dtype) / 2 + 0.5).clamp(0, 1)

    def unscaled(self, latents: Latents) -> Latents:
        """Return latents as the autoencoder says them, for networks that are shown the source so."""
        unscaled: Tensor = latents / self._scale + self._shift
        return unscaled

    def _mode(self, image: Tensor) -> Tensor:
        """Return what the autoencoder says of images in [-1, 1]: its mode, never a sample."""
        if self._kind == "AutoencoderKLQwenImage":
            mode: Tensor = self.vae.encode(image.unsqueeze(2)).latent_dist.mode()
            return mode.squeeze(2)
        encoded = self.vae.encode(image)
        if self._kind == "AutoencoderDC":
            latent: Tensor = encoded.latent
        elif self._kind == "AutoencoderTiny":
            latent = encoded.latents
        else:
            latent = encoded.latent_dist.mode()
        return latent

    def _statistics(self) -> tuple[Any, Any]:
        """Return shift and scale, as numbers or as one for each channel."""
        config = self.vae.config
        if self._kind == "AutoencoderKLFlux2":
            mean, variance = self.vae.bn.running_mean, self.vae.bn.running_var
            mean, variance = (x.to(self._result_dtype).view(1, -1, 1, 1) for x in (mean, variance))
            return mean, (variance + config.batch_norm_eps).rsqrt()
        scale = float(config.get("scaling_factor") or 1.0)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return float(config.get("shift_factor") or 0.0), scale
        vectors = torch.tensor([mean, std], device=self._device, dtype=self._result_dtype).view(2, 1, -1, 1, 1)
        return vectors[0], scale / vectors[1]

    def _input(self, image: Pictures) -> Tensor:
        return image.to(self._device, self._dtype, memory_format=self.layout)


def halvings(config: Any) -> int:
    """Return how many times an autoencoder halves a picture's sides."""
    if "temperal_downsample" in config:  # diffusers' spelling
        return len(config.temperal_downsample)
    widths = config.get("encoder_block_out_channels") or config.get("down_block_out_channels")
    return len(widths or config.block_out_channels) - 1
