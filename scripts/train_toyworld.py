"""Train the embedded models: pictures → attribute classifier → VAE → text encoder and UNet → a diffusers folder.

One GPU does it in half an hour. The run may be stopped at any time: the same command goes on from the last saved state,
so ten minutes at a time will do:

    python scripts/train_toyworld.py --time-limit 570

`--network flow` trains a rectified flow of Stable Diffusion 3's kind in the UNet's place, best over the VAE there is:

    python scripts/train_toyworld.py --network flow --start-from pds_nerfstudio/toyworld/model --vae-steps 0 \
        --classifier-steps 0

`--smoke` runs all stages in a minute on a CPU; its results are useless.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.utils import save_image
from toyworld_flow import TextToFlow, draw_times
from toyworld_networks import TextToLatent, make_scheduler, make_vae, tokenize, write_tokenizer
from toyworld_table import evaluate, read_accuracy
from training_run import OutOfTime, Run
from transformers import CLIPTextModel, CLIPTokenizer

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes, caption, labels, sample, vocabulary
from pds_nerfstudio.toyworld.renderer import Cameras, distance, distance_and_color, orbit, render

CAPTION_VARIANTS = 4
"""Captions of each thing that training draws from."""
N_VALIDATION = 2000
"""Last pictures, which are kept for validation."""
Pictures = UInt8[Tensor, "pictures 3 size size"]


@dataclass
class Recipe:
    """How the embedded model is trained."""

    network: Literal["unet", "flow"] = "unet"
    """A UNet that predicts ε (StableDiffusionPipeline), or a transformer that is a rectified flow
    (StableDiffusion3Pipeline without T5)."""
    state: Path = Path("toyworld-state")
    """Folder for what a cut run goes on from: pictures, weights and optimiser states (some 7 GB)."""
    out: Path = Path("toyworld-state/result")
    """Folder for the result: model/, classifier.safetensors, log.jsonl, table.json and two contact sheets."""
    start_from: Path | None = None
    """A trained diffusers folder to go on from, for example pds_nerfstudio/toyworld/model. With --vae-steps 0 its VAE
    is kept as it is, and so are the latents that its UNet knows. A flow goes on from a flow; of another model it takes
    the VAE only."""
    images: int = 120_000
    """Pictures to draw; the last 2000 are kept for validation."""
    vae_steps: int = 14_000
    """Steps of the VAE, with 128 pictures each."""
    classifier_steps: int = 3_000
    """Steps of the attribute classifier, with 256 pictures each; 0 takes the embedded one."""
    unet_steps: int = 36_000
    """Steps of the UNet and the text encoder together, with 512 latents each."""
    flow_steps: int = 40_000
    """Steps of the flow's transformer and text encoders together, with 512 latents each."""
    vae_seconds: float = math.inf
    """Time for the VAE: if it comes before the steps are done, training ends with it, and the learning rate has fallen
    accordingly."""
    unet_seconds: float = math.inf
    """The same for the UNet and the text encoder."""
    flow_seconds: float = math.inf
    """The same for the flow."""
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
            self.images, self.unet_steps, self.flow_steps = 16, min(3, self.unet_steps), 20
            self.vae_steps, self.classifier_steps = min(3, self.vae_steps), min(3, self.classifier_steps)
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
    if not recipe.classifier_steps:
        return AttributeClassifier.load(run.device)
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


def caption_tokens(recipe: Recipe, things: list[Attributes]) -> Int[Tensor, "variants things length"]:
    """Return token ids of several captions of each thing."""
    tokenizer = write_tokenizer(recipe.out / "model" / "tokenizer")
    rng = random.Random(recipe.seed + 1)
    captions = [caption(thing, rng) for _ in range(CAPTION_VARIANTS) for thing in things]
    return tokenize(tokenizer, captions, torch.device("cpu")).reshape(CAPTION_VARIANTS, len(things), -1)


class Lessons:
    """All latents and what captions say of them.

    Args:
        recipe: Names the folder of the tokenizer.
        run: Encodes the pictures.
        vae: Of whose latents there are.
        pictures: What to encode.
        words: Token ids of captions, for training to choose from.
    """

    def __init__(self, recipe: Recipe, run: Run, vae: AutoencoderKL, pictures: Pictures, words: Future[Tensor]) -> None:
        self.tokens = words.result().to(run.device)
        self.tokenizer = CLIPTokenizer.from_pretrained(recipe.out / "model" / "tokenizer")
        self.latents = encode(run, vae, pictures) * vae.config["scaling_factor"]
        self._empty = tokenize(self.tokenizer, [""], run.device)[0]
        n = len(self.latents)
        self._n = max(1, n - N_VALIDATION) if n > N_VALIDATION else n

    def draw(self, batch: int) -> tuple[Float[Tensor, "batch 4 height width"], Int[Tensor, "batch length"]]:
        """Return some latents and a caption's tokens of each, one in ten of nothing."""
        device = self.latents.device
        chosen = torch.randint(0, self._n, (batch,), device=device)
        said = self.tokens[torch.randint(0, CAPTION_VARIANTS, (batch,), device=device), chosen]
        said = torch.where(torch.rand(batch, 1, device=device) < 0.1, self._empty, said)
        return self.latents[chosen], said

    def log_sizes(self, run: Run, stage: str, model: nn.Module) -> None:
        """Write down how many latents there are, and the millions of parameters of each part of the model."""
        millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
        run.log(stage, latents=str(tuple(self.latents.shape)), **millions)


def timestep_weights(signal: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """Return how often to draw each t: as min-SNR-5 weighs them (Hang et al. 2023, eq. 8), but never under a fifth.

    Steps of little noise cost most of the ε-loss and hold nothing of what a caption says.
    """
    return (5 * (1 - signal) / signal).clamp(0.2, 1)


def train_diffusion(
    recipe: Recipe, run: Run, vae: AutoencoderKL, pictures: Pictures, words: Future[Tensor]
) -> StableDiffusionPipeline:
    """Train the text encoder and the UNet, and assemble them with the VAE into a pipeline."""
    lessons = Lessons(recipe, run, vae, pictures, words)
    scheduler = make_scheduler()
    signal = scheduler.alphas_cumprod.to(run.device)
    often = timestep_weights(signal)
    model = TextToLatent(lessons.tokenizer, recipe.resolution // 8)
    if recipe.start_from:
        model.unet.load_state_dict(UNet2DConditionModel.from_pretrained(recipe.start_from / "unet").state_dict())
        model.text.load_state_dict(CLIPTextModel.from_pretrained(recipe.start_from / "text_encoder").state_dict())
    model.to(run.device)
    model.unet.to(memory_format=torch.channels_last)
    forward = run.compile(model)
    batch = 8 if recipe.smoke else 512
    lessons.log_sizes(run, "unet", model)

    def loss() -> Tensor:
        latents, said = lessons.draw(batch)
        t = torch.multinomial(often, batch, replacement=True)
        kept = signal[t][:, None, None, None]
        noise = torch.randn_like(latents)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        with run.autocast():
            prediction = forward(noisy.contiguous(memory_format=torch.channels_last), t, said)
        return F.mse_loss(prediction.float(), noise)

    run.train("unet", model, loss, recipe.unet_steps, lr=6e-4, ema=0.9995, seconds=recipe.unet_seconds)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text,
        tokenizer=lessons.tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def train_flow(
    recipe: Recipe, run: Run, vae: AutoencoderKL, pictures: Pictures, words: Future[Tensor]
) -> DiffusionPipeline:
    """Train a rectified flow and its text encoders, and assemble them with the VAE into a pipeline.

    The loss is Esser et al. 2024's (eq. 14): the velocity's squared error, evenly weighted, at times drawn unevenly.
    """
    lessons = Lessons(recipe, run, vae, pictures, words)
    model = TextToFlow(lessons.tokenizer, recipe.resolution // 8).to(run.device)
    if recipe.start_from and (recipe.start_from / "transformer").is_dir():
        begun = StableDiffusion3Pipeline.from_pretrained(
            recipe.start_from, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32
        )
        parts = ((model.transformer, begun.transformer), (model.text, begun.text_encoder))
        for ours, theirs in (*parts, (model.text_2, begun.text_encoder_2)):
            ours.load_state_dict(theirs.state_dict())
    forward = run.compile(model)
    batch = 8 if recipe.smoke else 512
    lessons.log_sizes(run, "flow", model)

    def loss() -> Tensor:
        latents, said = lessons.draw(batch)
        time = draw_times(batch, run.device)
        noise = torch.randn_like(latents)
        noisy = torch.lerp(latents, noise, time[:, None, None, None])
        with run.autocast():
            velocity = forward(noisy, time, said)
        return F.mse_loss(velocity.float(), noise - latents)

    with contextlib.suppress(OutOfTime):  # what there is by then is a result too, to be looked at
        run.train("flow", model, loss, recipe.flow_steps, lr=8e-4, ema=0.9995, seconds=recipe.flow_seconds)
    return model.pipeline(vae, lessons.tokenizer)


def export(recipe: Recipe, pipeline: DiffusionPipeline) -> Path:
    """Write the pipeline as an ordinary folder in float16."""
    folder = recipe.out / "model"
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for tokenizer in folder.glob("tokenizer*"):
        (tokenizer / "tokenizer.json").unlink(missing_ok=True)
        write_tokenizer(tokenizer)
    (folder / "words.txt").write_text("\n".join(vocabulary()) + "\n")
    return folder


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
        train = train_flow if recipe.network == "flow" else train_diffusion
        folder = export(recipe, train(recipe, run, vae, pictures, words))
        n, steps, batch = (4, 2, 4) if recipe.smoke else (512, 40, 128)
        table = evaluate(run, folder, classifier, recipe.out, recipe.seed, n, steps, batch)
        (recipe.out / "table.json").write_text(json.dumps(table, indent=2) + "\n")
    except OutOfTime:
        pass
    if run.stopped:
        run.log("stopped", why="the time limit came; the same command goes on from here")
    else:
        run.log("done", result=str(recipe.out))


if __name__ == "__main__":
    main(tyro.cli(Recipe, description=__doc__))
