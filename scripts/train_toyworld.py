"""Train the embedded model: pictures → VAE → attribute classifier → text encoder and UNet → a diffusers folder.

One GPU does it in half an hour. The run may be stopped at any time: the same command goes on from the last saved state,
so ten minutes at a time will do:

    python scripts/train_toyworld.py --time-limit 570

`--smoke` runs all stages in a minute on a CPU; its results are useless.
"""

from __future__ import annotations

import json
import math
import random
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save_file
from torch import Tensor
from torchvision.utils import save_image
from toyworld_networks import TextToLatent, make_scheduler, make_vae, tokenize, write_tokenizer
from training_run import OutOfTime, Run
from transformers import CLIPTextModel, CLIPTokenizer

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, caption, labels, sample, vocabulary
from pds_nerfstudio.toyworld.renderer import Cameras, distance, distance_and_color, orbit, render

CAPTION_VARIANTS = 4
"""Captions of each thing that training draws from."""
N_VALIDATION = 2000
"""Last pictures, which are kept for validation."""
Pictures = UInt8[Tensor, "pictures 3 size size"]


@dataclass
class Recipe:
    """How the embedded model is trained."""

    state: Path = Path("toyworld-state")
    """Folder for what a cut run goes on from: pictures, weights and optimiser states (some 7 GB)."""
    out: Path = Path("toyworld-state/result")
    """Folder for the result: model/, classifier.safetensors, log.jsonl, table.json and two contact sheets."""
    start_from: Path | None = None
    """A trained diffusers folder to go on from, for example pds_nerfstudio/toyworld/model. With --vae-steps 0 its VAE
    is kept as it is, and so are the latents that its UNet knows."""
    images: int = 120_000
    """Pictures to draw; the last 2000 are kept for validation."""
    vae_steps: int = 14_000
    """Steps of the VAE, with 128 pictures each."""
    classifier_steps: int = 3_000
    """Steps of the attribute classifier, with 256 pictures each."""
    unet_steps: int = 36_000
    """Steps of the UNet and the text encoder together, with 512 latents each."""
    vae_seconds: float = math.inf
    """Time for the VAE: if it comes before the steps are done, training ends with it, and the learning rate has fallen
    accordingly."""
    unet_seconds: float = math.inf
    """The same for the UNet and the text encoder."""
    resolution: int = 128
    """Side of the pictures, in pixels."""
    seed: int = 0
    """Seed of everything that is drawn at random."""
    time_limit: float = math.inf
    """Seconds after which the state is saved and the command ends, to be called again."""
    device: str = "cuda"
    """Where to train."""
    smoke: bool = False
    """Walk through every stage with a few steps of tiny batches."""

    def __post_init__(self) -> None:
        if self.smoke:
            self.images, self.vae_steps, self.classifier_steps, self.unet_steps = 16, 3, 3, 3
            self.device = "cpu"


def draw_world(recipe: Recipe, run: Run) -> tuple[Pictures, list[Attributes]]:
    """Return all pictures as bytes on the device, and what they show; draw them if that has not been done."""
    path = recipe.state / "pictures.pt"
    rng = random.Random(recipe.seed)
    things = [sample(rng) for _ in range(recipe.images)]
    if path.exists():
        return torch.load(path, map_location=run.device, weights_only=True), things
    torch.manual_seed(recipe.seed)
    fields = (run.compile(distance), run.compile(distance_and_color))
    batch = min(64, recipe.images)
    size = recipe.resolution
    pictures = torch.empty(recipe.images, 3, size, size, dtype=torch.uint8, device=run.device)
    last_log = run.seconds()
    for i in range(0, recipe.images, batch):
        some = things[i : i + batch]
        rendered = render(build(some, run.device, pad=True), viewpoints(some, size, run.device), 2, fields)
        pictures[i : i + batch] = (rendered.rgb * 255).round().to(torch.uint8)
        if run.seconds() - last_log > 15:
            last_log = run.seconds()
            run.log("pictures", drawn=i + batch, of=recipe.images)
    torch.save(pictures, path)
    run.log("pictures", drawn=recipe.images, of=recipe.images)
    save_image(pictures[:64].float() / 255, recipe.out / "world.png", nrow=16)
    return pictures, things


def viewpoints(things: list[Attributes], size: int, device: torch.device) -> Cameras:
    """Return a camera for each thing: anywhere around it, half of them before it; of drawings all before it."""
    n = len(things)
    azimuth = torch.rand(n, device=device) * 360 - 180
    frontal = torch.rand(n, device=device) < 0.5
    drawing = torch.tensor([thing.style == "drawing" for thing in things], device=device)
    azimuth = torch.where(drawing, azimuth / 4, torch.where(frontal, azimuth / 3, azimuth))
    elevation = 2 + 30 * torch.rand(n, device=device)
    return orbit(azimuth, elevation, 0.82 + 0.18 * torch.rand(n, device=device), width=size, height=size)


def random_pictures(pictures: Pictures, batch: int) -> tuple[Float[Tensor, "batch 3 size size"], Int[Tensor, " batch"]]:
    """Draw training pictures; return them in 0..1, and their indices."""
    n = max(1, len(pictures) - N_VALIDATION) if len(pictures) > N_VALIDATION else len(pictures)
    chosen = torch.randint(0, n, (min(batch, n),), device=pictures.device)
    return pictures[chosen].float() / 255, chosen


def train_vae(recipe: Recipe, run: Run, pictures: Pictures) -> AutoencoderKL:
    """Train the autoencoder, with `scaling_factor` set so that latents have unit variance."""
    start_from = recipe.start_from
    vae = AutoencoderKL.from_pretrained(start_from / "vae") if start_from else make_vae(recipe.resolution)
    vae = vae.float().to(run.device, memory_format=torch.channels_last)

    @run.compile
    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = vae.quant_conv(vae.encoder(x)).chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return vae.decoder(vae.post_quant_conv(z)), mean, log_variance

    def edges(y: Tensor, x: Tensor) -> Tensor:
        horizontal = (y.diff(dim=-1) - x.diff(dim=-1)).abs().mean()
        return horizontal + (y.diff(dim=-2) - x.diff(dim=-2)).abs().mean()

    def loss() -> Tensor:
        x = random_pictures(pictures, 128)[0] * 2 - 1
        with run.autocast():
            y, mean, log_variance = (v.float() for v in forward(x.contiguous(memory_format=torch.channels_last)))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        reconstruction = (y - x).abs().mean() + 2 * (y - x).square().mean()
        return reconstruction + 0.5 * edges(y, x) + 1e-4 * divergence

    run.train("vae", vae, loss, recipe.vae_steps, lr=1e-3, ema=0.999, seconds=recipe.vae_seconds)
    if recipe.vae_steps:
        vae.register_to_config(scaling_factor=1 / encode(run, vae, pictures[:4096]).std().item())
    x = pictures[-N_VALIDATION:].float() / 255
    with torch.no_grad():
        y = torch.cat([vae(part * 2 - 1).sample for part in x.split(100)]) * 0.5 + 0.5
    run.log("vae", psnr=psnr(y.clamp(0, 1), x).mean().item(), scaling_factor=vae.config["scaling_factor"])
    save_image(torch.cat([x[:16], y[:16]]), recipe.out / "vae.png", nrow=16)
    return vae


@torch.no_grad()
def encode(run: Run, vae: AutoencoderKL, pictures: Pictures) -> Float[Tensor, "pictures 4 height width"]:
    """Return unscaled latent means of pictures."""
    with run.autocast():
        return torch.cat(
            [vae.encode(part.float() / 127.5 - 1).latent_dist.mode().float() for part in pictures.split(256)]
        )


def train_classifier(recipe: Recipe, run: Run, pictures: Pictures, things: list[Attributes]) -> AttributeClassifier:
    """Train the attribute classifier, hardened against the blur, noise and tints that renders of a scene have."""
    classifier = AttributeClassifier().to(run.device)
    truth = torch.tensor([labels(thing) for thing in things], device=run.device)

    def loss() -> Tensor:
        x, chosen = random_pictures(pictures, 256)
        size = x.shape[-1]
        if random.random() < 0.5:
            small = random.randint(size * 3 // 8, size)
            x = F.interpolate(F.interpolate(x, (small, small), mode="area"), (size, size), mode="bilinear")
        x = x * (1 + 0.06 * torch.randn(len(x), 3, 1, 1, device=x.device))
        x = (x + 0.04 * random.random() * torch.randn_like(x)).clamp(0, 1)
        with run.autocast():
            logits = classifier(x)
        return torch.stack(
            [
                F.cross_entropy(values.float(), truth[chosen, i], ignore_index=-1, reduction="sum") / len(x)
                for i, values in enumerate(logits.values())
            ]
        ).sum()

    run.train("classifier", classifier, loss, recipe.classifier_steps, lr=1e-3, ema=0.998)
    accuracy = read_accuracy(classifier, pictures[-N_VALIDATION:].float() / 255, things[-N_VALIDATION:])
    run.log("classifier", **accuracy)
    save_file({k: v.half().cpu() for k, v in classifier.state_dict().items()}, recipe.out / "classifier.safetensors")
    return classifier


def read_accuracy(classifier: AttributeClassifier, images: Tensor, things: list[Attributes]) -> dict[str, float]:
    """Return how often the classifier reads each attribute right, where it shows (a sky: where captions name it)."""
    read = [classifier.read(part) for part in images.split(250)]
    truth = torch.tensor([labels(thing) for thing in things], device=images.device)
    day = torch.tensor([thing.sky == "day" for thing in things], device=images.device)
    accuracy = {}
    for i, name in enumerate(VALUES):
        right = torch.cat([part[name] for part in read]) == truth[:, i]
        shown = (truth[:, i] >= 0) & ~(day if name == "sky" else torch.zeros_like(day))
        accuracy[name] = round(right[shown].float().mean().item(), 4)
    return accuracy


def caption_tokens(recipe: Recipe, things: list[Attributes]) -> Int[Tensor, "variants things length"]:
    """Return token ids of several captions of each thing."""
    tokenizer = write_tokenizer(recipe.out / "model" / "tokenizer")
    rng = random.Random(recipe.seed + 1)
    captions = [caption(thing, rng) for _ in range(CAPTION_VARIANTS) for thing in things]
    return tokenize(tokenizer, captions, torch.device("cpu")).reshape(CAPTION_VARIANTS, len(things), -1)


def timestep_weights(signal: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """Return how often to draw each t: as min-SNR-5 weighs them (Hang et al. 2023, eq. 8), but never under a fifth.

    Steps of little noise cost most of the ε-loss and hold nothing of what a caption says.
    """
    return (5 * (1 - signal) / signal).clamp(0.2, 1)


def train_diffusion(
    recipe: Recipe, run: Run, vae: AutoencoderKL, pictures: Pictures, words: Future[Tensor]
) -> StableDiffusionPipeline:
    """Train the text encoder and the UNet, and assemble them with the VAE into a pipeline."""
    tokens = words.result().to(run.device)
    tokenizer = CLIPTokenizer.from_pretrained(recipe.out / "model" / "tokenizer")
    empty = tokenize(tokenizer, [""], run.device)[0]
    latents = encode(run, vae, pictures) * vae.config["scaling_factor"]
    del pictures
    scheduler = make_scheduler()
    signal = scheduler.alphas_cumprod.to(run.device)
    often = timestep_weights(signal)
    model = TextToLatent(tokenizer, recipe.resolution // 8)
    if recipe.start_from:
        model.unet.load_state_dict(UNet2DConditionModel.from_pretrained(recipe.start_from / "unet").state_dict())
        model.text.load_state_dict(CLIPTextModel.from_pretrained(recipe.start_from / "text_encoder").state_dict())
    model.to(run.device)
    model.unet.to(memory_format=torch.channels_last)
    forward = run.compile(model)
    n = max(1, len(latents) - N_VALIDATION) if len(latents) > N_VALIDATION else len(latents)
    batch = 8 if recipe.smoke else 512
    millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    run.log("unet", latents=str(tuple(latents.shape)), **millions)

    def loss() -> Tensor:
        chosen = torch.randint(0, n, (batch,), device=run.device)
        said = tokens[torch.randint(0, CAPTION_VARIANTS, (batch,), device=run.device), chosen]
        said = torch.where(torch.rand(batch, 1, device=run.device) < 0.1, empty, said)
        t = torch.multinomial(often, batch, replacement=True)
        kept = signal[t][:, None, None, None]
        noise = torch.randn_like(latents[:1].expand(batch, -1, -1, -1))
        noisy = kept.sqrt() * latents[chosen] + (1 - kept).sqrt() * noise
        with run.autocast():
            prediction = forward(noisy.contiguous(memory_format=torch.channels_last), t, said)
        return F.mse_loss(prediction.float(), noise)

    run.train("unet", model, loss, recipe.unet_steps, lr=6e-4, ema=0.9995, seconds=recipe.unet_seconds)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(recipe: Recipe, pipeline: StableDiffusionPipeline) -> Path:
    """Write the pipeline as an ordinary folder in float16."""
    folder = recipe.out / "model"
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    write_tokenizer(folder / "tokenizer")
    (folder / "words.txt").write_text("\n".join(vocabulary()) + "\n")
    return folder


def evaluate(recipe: Recipe, run: Run, folder: Path, classifier: AttributeClassifier) -> None:
    """Sample from captions never seen, read the samples with the classifier, and say how often they are right."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(run.device, torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    n, steps, batch = (4, 2, 4) if recipe.smoke else (512, 40, 128)
    table = {}
    for name, held_out, guidance_scale in (
        ("new captions, CFG 3", False, 3.0),
        ("held-out combinations, CFG 3", True, 3.0),
        ("new captions, CFG 7.5", False, 7.5),
    ):
        rng = random.Random(recipe.seed + 1000)
        things = [sample(rng, held_out) for _ in range(n)]
        captions = [caption(thing) for thing in things]
        generator = torch.Generator(run.device).manual_seed(recipe.seed)
        images = torch.cat(
            [
                pipeline(
                    captions[i : i + batch],
                    num_inference_steps=steps,
                    guidance_scale=guidance_scale,
                    generator=generator,
                    output_type="pt",
                ).images
                for i in range(0, n, batch)
            ]
        ).float()
        table[name] = read_accuracy(classifier, images, things)
        run.log(name, **table[name])
        if not held_out:
            save_image(images[:64], recipe.out / f"samples_cfg{guidance_scale:g}.png", nrow=16)
            (recipe.out / "samples.txt").write_text("\n".join(captions[:64]) + "\n")
    (recipe.out / "table.json").write_text(json.dumps(table, indent=2) + "\n")


def main(recipe: Recipe) -> None:
    """Go through all stages in turn, each from where it stands."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    run = Run(recipe.state, recipe.out, torch.device(recipe.device), recipe.seed, recipe.time_limit)
    try:
        pictures, things = draw_world(recipe, run)
        words = ThreadPoolExecutor(1).submit(caption_tokens, recipe, things)
        classifier = train_classifier(recipe, run, pictures, things)
        vae = train_vae(recipe, run, pictures)
        pipeline = train_diffusion(recipe, run, vae, pictures, words)
    except OutOfTime:
        run.log("stopped", why="the time limit came; the same command goes on from here")
        return
    evaluate(recipe, run, export(recipe, pipeline), classifier)
    run.log("done", result=str(recipe.out))


if __name__ == "__main__":
    main(tyro.cli(Recipe, description=__doc__))
