"""What runs in float16, and what would overflow there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pds_nerfstudio.guidance.denoiser import Denoiser


@pytest.mark.parametrize(("kind", "holds"), [("sd15", True), ("sd15_vae_any_precision", False)])
def test_an_autoencoder_that_overflows_in_float16_does_not_run_in_it(
    tiny_model: Callable[[str], Path], tmp_path: Path, kind: str, holds: bool
) -> None:
    folder = Path(shutil.copytree(tiny_model(kind), tmp_path / "model"))
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["encoder.conv_in.weight"] *= 1e5  # a norm comes next; float16 ends at 65,504
    save_file(weights, file, metadata={"format": "pt"})
    denoiser = Denoiser.from_pretrained(str(folder), "cpu", torch.float16)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = denoiser.encode_image(image)
    assert bool(latents.isfinite().all()) == holds
