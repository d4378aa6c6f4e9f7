"""Train the embedded model: pictures → VAE → attribute classifier → text encoder and UNet → a diffusers folder.

One GPU does it in half an hour. The run may be cut anywhere: the same command goes on from the last state, so a
machine that is lent for ten minutes at a time will do:

    python scripts/train_toyworld.py --time-limit 570

`--smoke` walks the whole way in a minute on a CPU, with results of no use.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.utils import save_image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, caption, labels, sample, vocabulary
from pds_nerfstudio.toyworld.renderer import distance, distance_and_color, orbit, render

CAPTION_VARIANTS = 4
TEXT_LENGTH = 40
N_VALIDATION = 2000


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
    """Of everything that is drawn at random."""
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


class OutOfTime(Exception):
    """The time limit came; the state is saved."""


class Run:
    """The clock, the log, and where states are kept."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.start = time.monotonic()
        self.device = torch.device(recipe.device)
        recipe.state.mkdir(parents=True, exist_ok=True)
        recipe.out.mkdir(parents=True, exist_ok=True)

    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self.start

    def log(self, stage: str, **values: float | str) -> None:
        """A line on screen and in log.jsonl."""
        record = {"seconds": round(self.seconds(), 1), "stage": stage, **values}
        with open(self.recipe.out / "log.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"[{self.seconds():6.1f} s] {stage:<10} {shown}", flush=True)

    def autocast(self) -> torch.autocast:
        """bfloat16 where that is quick."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def compile(self, function: Callable) -> Callable:
        """Compiled on a GPU, as it is on a CPU."""
        return torch.compile(function, dynamic=False) if self.device.type == "cuda" else function

    def train(
        self,
        stage: str,
        module: nn.Module,
        loss: Callable[[], Tensor],
        steps: int,
        lr: float,
        ema: float,
        seconds: float = math.inf,
    ) -> None:
        """Minimise `loss` with AdamW (warm-up, then a cosine to zero), and leave the averaged weights in `module`."""
        path = self.recipe.state / f"{stage}.pt"
        parameters: list[Tensor] = list(module.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, fused=self.device.type == "cuda")
        averaged, first, spent, done = copy.deepcopy(module).requires_grad_(False), 0, 0.0, False
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            first, spent, done = state["step"], state["spent"], state["done"]
            averaged.load_state_dict(state["averaged"])
            if not done:
                module.load_state_dict(state["module"])
                optimizer.load_state_dict(state["optimizer"])
        torch.manual_seed(self.recipe.seed + 7919 * first)
        begun = last_log = last_save = time.monotonic()

        def save(step: int, done: bool = False) -> None:
            now = spent + time.monotonic() - begun
            state = {"step": step, "spent": now, "done": done, "averaged": averaged.state_dict()}
            if not done:
                state |= {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)

        step = first
        while not done:
            progress = max(step / steps if steps else 1, (spent + time.monotonic() - begun) / seconds)
            if progress >= 1:
                save(step, done=True)
                break
            rate = lr * min(1.0, (step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = rate
            value = loss()
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            with torch.no_grad():
                decay = min(ema, (1 + step) / (10 + step))
                torch._foreach_lerp_(list(averaged.parameters()), parameters, 1 - decay)
            step += 1
            if step % 100 == 0 and time.monotonic() - last_log > 15:
                last_log = time.monotonic()
                per_step = (last_log - begun) / (step - first)
                left = min(per_step * (steps - step), seconds - spent - (last_log - begun))
                self.log(stage, step=step, of=steps, loss=value.item(), ms=1e3 * per_step, left=left)
            if step % 10 == 0 and self.seconds() > self.recipe.time_limit:
                save(step)
                raise OutOfTime
            if step % 10 == 0 and time.monotonic() - last_save > 120:
                save(step)
                last_save = time.monotonic()
        self.log(stage, done_at_step=step)
        module.load_state_dict(averaged.state_dict())
        module.eval().requires_grad_(False)


def draw_world(run: Run) -> tuple[Tensor, list[Attributes]]:
    """All pictures as bytes on the device, and what they show."""
    recipe, path = run.recipe, run.recipe.state / "pictures.pt"
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


def viewpoints(things: list[Attributes], size: int, device: torch.device):
    """A camera for each thing: from anywhere around it, half of them from its front; drawings from the front only."""
    n = len(things)
    azimuth = torch.rand(n, device=device) * 360 - 180
    frontal = torch.rand(n, device=device) < 0.5
    drawing = torch.tensor([thing.style == "drawing" for thing in things], device=device)
    azimuth = torch.where(drawing, azimuth / 4, torch.where(frontal, azimuth / 3, azimuth))
    elevation = 2 + 30 * torch.rand(n, device=device)
    return orbit(azimuth, elevation, 0.82 + 0.18 * torch.rand(n, device=device), width=size, height=size)


def random_pictures(pictures: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Training pictures in 0..1 and their indices."""
    n = max(1, len(pictures) - N_VALIDATION) if len(pictures) > N_VALIDATION else len(pictures)
    chosen = torch.randint(0, n, (min(batch, n),), device=pictures.device)
    return pictures[chosen].float() / 255, chosen


def make_vae(resolution: int) -> AutoencoderKL:
    """A small AutoencoderKL of Stable Diffusion's kind: 8× smaller latents of 4 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 112),
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=4,
        sample_size=resolution,
    )


def train_vae(run: Run, pictures: Tensor) -> AutoencoderKL:
    """The autoencoder, with `scaling_factor` set so that latents have unit variance."""
    start_from = run.recipe.start_from
    vae = AutoencoderKL.from_pretrained(start_from / "vae") if start_from else make_vae(run.recipe.resolution)
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

    run.train("vae", vae, loss, run.recipe.vae_steps, lr=1e-3, ema=0.999, seconds=run.recipe.vae_seconds)
    if run.recipe.vae_steps:
        vae.register_to_config(scaling_factor=1 / encode(run, vae, pictures[:4096]).std().item())
    x = pictures[-N_VALIDATION:].float() / 255
    with torch.no_grad():
        y = torch.cat([vae(part * 2 - 1).sample for part in x.split(100)]) * 0.5 + 0.5
    psnr = -10 * (y.clamp(0, 1) - x).square().mean((1, 2, 3)).log10().mean().item()
    run.log("vae", psnr=psnr, scaling_factor=vae.config["scaling_factor"])
    save_image(torch.cat([x[:16], y[:16]]), run.recipe.out / "vae.png", nrow=16)
    return vae


@torch.no_grad()
def encode(run: Run, vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Unscaled latent means of pictures given as bytes."""
    with run.autocast():
        return torch.cat(
            [vae.encode(part.float() / 127.5 - 1).latent_dist.mode().float() for part in pictures.split(256)]
        )


def train_classifier(run: Run, pictures: Tensor, things: list[Attributes]) -> AttributeClassifier:
    """The attribute classifier, hardened against the blur, noise and tints that renders of a scene have."""
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

    run.train("classifier", classifier, loss, run.recipe.classifier_steps, lr=1e-3, ema=0.998)
    accuracy = read_accuracy(classifier, pictures[-N_VALIDATION:].float() / 255, things[-N_VALIDATION:])
    run.log("classifier", **accuracy)
    save_file(
        {k: v.half().cpu() for k, v in classifier.state_dict().items()}, run.recipe.out / "classifier.safetensors"
    )
    return classifier


def read_accuracy(classifier: AttributeClassifier, images: Tensor, things: list[Attributes]) -> dict[str, float]:
    """How often the classifier reads each attribute right, where it shows (a sky: where the caption names it)."""
    read = [classifier.read(part) for part in images.split(250)]
    truth = torch.tensor([labels(thing) for thing in things], device=images.device)
    day = torch.tensor([thing.sky == "day" for thing in things], device=images.device)
    accuracy = {}
    for i, name in enumerate(VALUES):
        right = torch.cat([part[name] for part in read]) == truth[:, i]
        shown = (truth[:, i] >= 0) & ~(day if name == "sky" else torch.zeros_like(day))
        accuracy[name] = round(right[shown].float().mean().item(), 4)
    return accuracy


def bytes_to_unicode() -> dict[int, str]:
    """A visible character for each byte, as byte-level BPE writes them (Radford et al. 2019)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = (byte for byte in range(256) if byte not in visible)
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def byte_pair_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al. 2016) until each word is one token; ties go to the later pair, always."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for tokens in split for pair in itertools.pairwise(tokens)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for tokens in split:
            for i in range(len(tokens) - 2, -1, -1):
                if tuple(tokens[i : i + 2]) == best:
                    tokens[i : i + 2] = ["".join(best)]
    return merges


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-level BPE) in which each of the world's words is one token and any text has some."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(bytes_to_unicode().values())
    merges = byte_pair_merges(vocabulary())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TEXT_LENGTH,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], device: torch.device) -> Tensor:
    """Token ids, padded to the text encoder's length."""
    batch = tokenizer(captions, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")
    return batch.input_ids.to(device)


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class TextToLatent(nn.Module):
    """The UNet and the text encoder, trained together."""

    def __init__(self, tokenizer: CLIPTokenizer, latent_size: int) -> None:
        super().__init__()
        width = 192
        self.unet = UNet2DConditionModel(
            sample_size=latent_size,
            block_out_channels=(96, 128, 160),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=width,
            attention_head_dim=(3, 4, 5),  # diffusers reads this as the number of heads: 32 channels each
        )
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=3,
                num_attention_heads=6,
                max_position_embeddings=TEXT_LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """The noise in `noisy` as the caption's tokens explain it."""
        states = self.text(tokens).last_hidden_state
        return self.unet(noisy, t, encoder_hidden_states=states, return_dict=False)[0]


def caption_tokens(recipe: Recipe, things: list[Attributes]) -> Int[Tensor, "variants things length"]:
    """Token ids of several captions of each thing."""
    tokenizer = write_tokenizer(recipe.out / "model" / "tokenizer")
    rng = random.Random(recipe.seed + 1)
    captions = [caption(thing, rng) for _ in range(CAPTION_VARIANTS) for thing in things]
    return tokenize(tokenizer, captions, torch.device("cpu")).reshape(CAPTION_VARIANTS, len(things), -1)


def timestep_weights(signal: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """How often to draw each t: as min-SNR-5 weighs them (Hang et al. 2023, eq. 8), but never under a fifth.

    Steps of little noise cost most of the ε-loss and hold nothing of what a caption says.
    """
    return (5 * (1 - signal) / signal).clamp(0.2, 1)


def train_diffusion(run: Run, vae: AutoencoderKL, pictures: Tensor, words: Future[Tensor]) -> StableDiffusionPipeline:
    """The text encoder and the UNet, assembled with the VAE into a pipeline."""
    recipe = run.recipe
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


def export(run: Run, pipeline: StableDiffusionPipeline) -> Path:
    """Write the pipeline as an ordinary folder in float16."""
    folder = run.recipe.out / "model"
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    write_tokenizer(folder / "tokenizer")
    (folder / "words.txt").write_text("\n".join(vocabulary()) + "\n")
    return folder


def evaluate(run: Run, folder: Path, classifier: AttributeClassifier) -> None:
    """Sample from captions never seen, read the samples with the classifier, and say how often they are right."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(run.device)
    pipeline.set_progress_bar_config(disable=True)
    n, steps, batch = (4, 2, 4) if run.recipe.smoke else (512, 40, 128)
    table = {}
    for name, held_out, guidance_scale in (
        ("new captions, CFG 3", False, 3.0),
        ("held-out combinations, CFG 3", True, 3.0),
        ("new captions, CFG 7.5", False, 7.5),
    ):
        rng = random.Random(run.recipe.seed + 1000)
        things = [sample(rng, held_out) for _ in range(n)]
        captions = [caption(thing) for thing in things]
        generator = torch.Generator(run.device).manual_seed(run.recipe.seed)
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
            save_image(images[:64], run.recipe.out / f"samples_cfg{guidance_scale:g}.png", nrow=16)
            (run.recipe.out / "samples.txt").write_text("\n".join(captions[:64]) + "\n")
    (run.recipe.out / "table.json").write_text(json.dumps(table, indent=2) + "\n")


def main(recipe: Recipe) -> None:
    """All stages in turn, each from where it stands."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    run = Run(recipe)
    try:
        pictures, things = draw_world(run)
        words = ThreadPoolExecutor(1).submit(caption_tokens, recipe, things)
        classifier = train_classifier(run, pictures, things)
        vae = train_vae(run, pictures)
        pipeline = train_diffusion(run, vae, pictures, words)
    except OutOfTime:
        run.log("stopped", why="the time limit came; the same command goes on from here")
        return
    evaluate(run, export(run, pipeline), classifier)
    run.log("done", result=str(recipe.out))


if __name__ == "__main__":
    main(tyro.cli(Recipe, description=__doc__))
