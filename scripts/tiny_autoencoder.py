"""What a tiny autoencoder saves, and how far the gradient of an edit with it is from that with the model's own.

python scripts/tiny_autoencoder.py --minutes 4 --out tiny_autoencoder.json

No tiny autoencoder was made for the embedded model, so the encoder of one is distilled here, for some minutes and on
pictures of the embedded world: its errors are those of that encoder, and of no one's that people have. The cost is also
measured at the sizes of Stable Diffusion's autoencoder and of TAESD, whose random weights say nothing of errors.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from gradient_precision import gradients
from torch import Tensor

from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.networks.autoencoders import Autoencoder
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL, load_network
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import sample
from pds_nerfstudio.toyworld.renderer import orbit, render


@dataclass
class TinyAutoencoder:
    """Measure cost and errors of a tiny autoencoder."""

    minutes: float = 4.0
    """How long its encoder is distilled."""
    pictures: int = 512
    """It is distilled on."""
    width: int = 32
    """Channels of its layers; TAESD has 64."""
    draws: int = 8
    """Times and noises, each a step, that errors are measured over."""
    side: int = 256
    """Pixels of the pictures that the cost at real sizes is measured with."""
    seed: int = 0
    """Of weights, pictures, times and noises."""
    device: str = "cpu"
    """Where to run."""
    out: Path = Path("tiny_autoencoder.json")
    """The figures."""

    def run(self) -> None:
        """Measure, print and write down."""
        torch.manual_seed(self.seed)
        own = Denoiser.from_pretrained(EMBEDDED_MODEL, self.device, torch.float32)
        tiny, steps, loss = self._distilled(own)
        exact = gradients(own, self.draws, self.seed)
        got = gradients(tiny, self.draws, self.seed)
        errors = {what: round(float((got[what] - x).norm() / x.norm()), 4) for what, x in exact.items()}
        picture = self._drawn(1, own.resolution, seed=-1)
        codes = [denoiser.encode_image(picture) for denoiser in (own, tiny)]
        errors["latent"] = round(float((codes[1] - codes[0]).norm() / codes[0].norm()), 4)
        figures = {
            "distilled": {"minutes": self.minutes, "steps": steps, "mean_square": loss, "width": self.width},
            "errors": errors,
            "seconds_embedded": [self._seconds(denoiser.encode_image, own.resolution) for denoiser in (own, tiny)],
            "seconds_real": [self._seconds(vae.encode, self.side) for vae in self._of_real_sizes()],
            "side_real": self.side,
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(figures, indent=1))
        self.out.write_text(json.dumps(figures, indent=1) + "\n")

    def _distilled(self, own: Denoiser) -> tuple[Denoiser, int, float]:
        """Return the model with a tiny autoencoder, and how many steps it was taught to what mean square error."""
        from diffusers import AutoencoderTiny

        network: Any = own.network
        config = network._autoencoder.vae.config
        widths = (self.width,) * len(config.block_out_channels)
        vae: Any = AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=(1, 2, 2, 2),
            num_decoder_blocks=(1, 1, 1, 1),
            latent_channels=config.latent_channels,
            scaling_factor=config.scaling_factor,
        )
        vae.to(self.device)
        pictures = self._drawn(self.pictures, own.resolution, self.seed)
        with torch.no_grad():
            latents = torch.cat([own.encode_image(some) for some in pictures.split(16)]) / config.scaling_factor
        optimizer = torch.optim.Adam(vae.encoder.parameters(), lr=2e-3)
        began, steps, mean = time.monotonic(), 0, 0.0
        while (spent := (time.monotonic() - began) / 60 / self.minutes) < 1:
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - spent) + 1e-5
            chosen = torch.randint(len(pictures), (4,))
            loss = (vae.encode(pictures[chosen] * 2 - 1).latents - latents[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            error = float(loss.detach())
            steps, mean = steps + 1, error if steps == 0 else 0.98 * mean + 0.02 * error
        with tempfile.TemporaryDirectory() as folder:
            vae.save_pretrained(folder)
            options = LoadOptions(torch.device(self.device), torch.float32, torch.float32, vae=folder)
            return Denoiser(load_network(EMBEDDED_MODEL, lambda half: options)), steps, mean

    def _drawn(self, count: int, side: int, seed: int) -> Tensor:
        """Return pictures of the embedded world: of its training combinations, or held-out ones for seeds below 0."""
        rng = random.Random(seed)
        pictures = []
        for _ in range(count):
            angle, height = (torch.tensor([x], device=self.device) for x in (rng.uniform(0, 360), rng.uniform(0, 40)))
            camera = orbit(angle, height, width=side, height=side)
            pictures.append(render(build([sample(rng, held_out=seed < 0)], self.device), camera).rgb)
        return torch.cat(pictures).float()

    def _of_real_sizes(self) -> list[Autoencoder]:
        """Return an autoencoder of Stable Diffusion's size and one of TAESD's, of random weights."""
        from diffusers import AutoencoderKL, AutoencoderTiny

        full = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        device = torch.device(self.device)
        return [Autoencoder(vae, device, torch.float32, torch.float32) for vae in (full, AutoencoderTiny())]

    def _seconds(self, encode: Any, side: int, runs: int = 3) -> float:
        """Return the least time that encoding a picture and the way back to its pixels take."""
        picture = torch.rand(1, 3, side, side, device=self.device).requires_grad_()
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            torch.autograd.grad(encode(picture).sum(), picture)
            if picture.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return round(min(times), 4)


if __name__ == "__main__":
    tyro.cli(TinyAutoencoder).run()
