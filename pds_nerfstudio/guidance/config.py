"""Everything that a person may set about the guidance, checked once."""

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from pds_nerfstudio.checks import at_least, finite, known, seeds, share
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.networks.options import LoadOptions
from pds_nerfstudio.guidance.networks.quantization import Quantization
from pds_nerfstudio.guidance.objectives.registry import OBJECTIVES, make_objective, objective_text

TimestepSchedule = Literal["uniform", "annealed"]
"""How times are drawn (see `timesteps`)."""

MaskSource = Literal["difference", "attention"]
"""What a mask is made from (see `masks`)."""

Compiling = Literal["auto", "on", "off"]
"""Whether networks are compiled."""


@dataclass(frozen=True)
class GuidanceConfig:
    """How a text edit is distilled from a diffusion model.

    While an edit runs, `Guidance.reconfigure` replaces it: all may change but what says which model is loaded and how
    (from model to vae, distilled_guidance, image_guidance_scale, negative_prompt, offload, device, dtype,
    text_encoders, compile), resolution, cache_size and seed.
    """

    model: str = "toyworld"
    """The diffusion model: a hub id, a local folder or a single file of Stable Diffusion 1, 2, XL, 3 or 3.5, FLUX.1 or
    2, Z-Image, Qwen-Image, Sana, Lumina 2, PixArt-Σ or Chroma, or of one that looks at the source picture and takes
    instructions (InstructPix2Pix, FLUX.1 Kontext, Qwen-Image-Edit). For example
    stable-diffusion-v1-5/stable-diffusion-v1-5 (4 GB, downloaded once; knows the real world); docs/models.md has a
    command for each. 'toyworld' is the small model inside this package, and toyworld-flow a flow: they need no
    download, but know only their own procedural world."""
    model_config: str = ""
    """For a model in a single file: folder of a model of the same kind in diffusers' layout. If the file holds all
    parts, the folder's weights aren't needed, and left empty, the few small files are fetched from the kind's own
    model; if it holds the denoising model alone, all else is taken from the folder."""
    lora: tuple[str, ...] = ()
    """LoRAs to add to the model: FILE or FILE:WEIGHT each, of diffusers or kohya, for example style.safetensors:0.8.
    They are fused into the weights and cost nothing at a step."""
    embeddings: tuple[str, ...] = ()
    """Files of textual inversions, whose words prompts may then use."""
    vae: str = ""
    """Another autoencoder for the model's latents: a folder or hub id, for example a tiny one such as
    madebyollin/taesd, which is faster and coarser."""
    objective: str = "pds"
    """What is distilled. pds: change what the text asks for, keep the identity of the source. dds: like pds
    without the pull back to the source. dreamcatalyst: like pds with other weights over time, for faster
    edits. ssd: holds the edit to the source's trajectory and stresses the target prompt, for styles. lusd: what
    the two prompts say about the edit itself, in steps of one size. sds: follow the target prompt only (the
    classic text-to-3D objective); the source is soon forgotten. Options of an objective follow it after commas:
    dreamcatalyst,delta=0.05,gamma=0.2 (it has delta=0.2, gamma=0.8 and psi0=0.075; ssd has trajectory=2.0,
    enhancement=5.5 and psi0=0.075; lusd has identity=0.02, first_std=0.15 and last_std=0.01). One of your own is
    given as module:Name."""
    guidance_scale: float = 0.0
    """Classifier-free guidance: how strongly the model obeys the prompts. 0 takes what suits the model: 7.5 for Stable
    Diffusion, 1 for models distilled to do without. Published 3D and SVG edits use up to 100. If nothing changes raise
    it; if colours burn or detail melts, lower it."""
    distilled_guidance: float = 0.0
    """Guidance that models take as an input if they were distilled for it (FLUX.1 dev, FLUX.2 dev, Kontext); 0 takes
    their pipeline's own. Others have no use for it."""
    image_guidance_scale: float = 1.0
    """How strongly InstructPix2Pix holds to the source picture. Its sampler takes 1.5. Here the identity term and the
    masks hold to the source already: 1 adds nothing to them, and other scales have the model look at each latent twice
    more. Other models have no use for it."""
    negative_prompt: str = ""
    """What the edit should lead away from: it takes the place of no prompt in classifier-free guidance."""
    text_weight: float = 1.0
    """Multiplies the text term (χ), which moves the edit towards the target prompt."""
    identity_weight: float = 1.0
    """Multiplies the identity term (ψ), which pulls the edit back to the source. Raise it to keep more of the
    source, lower it for larger changes. The objectives sds and dds have no identity term to multiply."""
    t_min: float = 0.02
    """Least noise added before the model is asked, as a share of the noise schedule (0 to 1). Small values let it
    change fine detail. The schedule meant is Stable Diffusion's; other models take their times of the same
    signal-to-noise ratio, so that a share means the same to all."""
    t_max: float = 0.98
    """Most noise added before the model is asked, as a share of the same schedule (0 to 1). Large values let it change
    layout."""
    t_schedule: TimestepSchedule = "uniform"
    """How the noise level is drawn between t_min and t_max. uniform: anew at each step. annealed: from t_max
    down to t_min over the run, layout first and detail last."""
    t_jitter: float = 0.0
    """Width of the random spread around the annealed noise level, as a share of the same schedule (0 to 1). Unused by
    the uniform schedule."""
    t_power: float = 1.0
    """How the annealed noise level falls: with the run's progress to this power. 1 falls evenly; 2 stays longer where
    the light of a whole picture can change. Unused by the uniform schedule."""
    num_inference_steps: int = 500
    """PDS compares two neighbouring times of a sampler with this many steps, of a flow as of a diffusion. Fewer
    steps put them further apart, which strengthens the pull back to the source; at the model's own 1000 the pull
    vanishes."""
    localize: float = 0.0
    """Confine the text term to where the two prompts disagree (0 = everywhere, 1 = only there). Calms
    backgrounds that should not change."""
    identity_inside: float = 1.0
    """Share of the identity term that acts where `localize` lets the text act (0 to 1; 1 is PDS as published). Less
    lets go of what the edit replaces, and holds what it doesn't as before."""
    localize_by: MaskSource = "difference"
    """What tells where the prompts disagree. difference: the difference of what the model predicts for them (not
    for the objective sds, which looks at one prompt). attention: where the model looks for the words that differ."""
    samples: int = 1
    """How many times and noises the gradient of a step is averaged over, in one call of the model. Worth its cost where
    a step costs more than the model's part of it, as with NeRFs."""
    fixed_point_steps: int = 0
    """Steps that move the noise to where the model sees the source in the noisy source (IDS; its paper uses 3). Each
    takes the model forward and backward, which makes a step several times as slow."""
    fixed_point_rate: float = 1.0
    """Length of these steps."""
    resolution: int = 0
    """Side in pixels of the square whose area images are resized to before the model sees them; 0 takes the
    size that the model was trained with. Smaller is faster and coarser."""
    cache_size: int = 1024
    """How many views have their source latent (64 KiB each with Stable Diffusion) and mask remembered."""
    device: str = "auto"
    """Where the diffusion model runs, for example cuda:1 to give it a GPU of its own. 'auto' takes the device
    of what is being edited."""
    dtype: Literal["auto", "mixed", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the diffusion model. mixed: the network in float16, whose finer steps the difference of two
    predictions needs, or in bfloat16 if its numbers leave float16's range, as those of FLUX do; and the VAE in
    bfloat16, whose range its gradients need. 'auto': mixed on GPUs that have both, else float32."""
    offload: bool = False
    """Whether the network's weights wait in the machine's memory and visit the GPU layer by layer: for models larger
    than the GPU, at several times the time of a step."""
    text_encoders: Quantization = "full"
    """What the weights of large text encoders (T5, language models) are kept in: full is what they run in; int8
    and nf4 take about a half and a quarter of the memory of 16 bits, and need the package bitsandbytes. Prompts then
    mean nearly the same. A step is as fast, because its prompts are encoded before."""
    compile: Compiling = "auto"
    """Whether the UNet and the VAE's encoder are compiled, which takes some minutes for each size of views and is kept
    for later runs. 'auto': on a GPU, not on a CPU. Changes nothing but rounding; where it fails, a warning says so and
    the model runs as it is."""
    seed: int = 0
    """Seeds the noise and times that are drawn. The same seed repeats the same edit on the same machine."""

    def check(self) -> None:
        """Refuse values that no edit can use.

        What t_min, t_max and num_inference_steps may be depends on the model's schedule, too, and device and dtype on
        the machine: that is checked where they are used.

        Raises:
            UserError: Naming the field.
        """
        objective = make_objective(self.objective)
        known(self, "t_schedule", get_args(TimestepSchedule))
        known(self, "localize_by", get_args(MaskSource), " or ")
        known(self, "text_encoders", get_args(Quantization))
        if self.compile not in get_args(Compiling):
            raise UserError(f"`compile` is '{self.compile}': choose auto, on or off.")
        finite(self, "guidance_scale", "distilled_guidance", "image_guidance_scale", "text_weight", "identity_weight")
        finite(self, "fixed_point_rate")
        share(self, "t_min", "t_max", "t_jitter", "localize", "identity_inside")
        if self.localize > 0 and self.localize_by == "difference" and objective.contrast(1.0) is None:
            raise UserError(
                f"`localize` compares two prompts, and the objective '{self.objective}' looks at one: set "
                "`localize` to 0 or `localize_by` to attention, or choose another `objective`."
            )
        finite(self, "t_power", above=True)
        at_least(self, 1, "samples", "num_inference_steps")
        at_least(self, 0, "fixed_point_steps", give="a number of steps, or 0 for none")
        at_least(self, 0, "resolution", give="pixels, or 0 for the model's own")
        at_least(self, 1, "cache_size", give="the number of views, at least 1")
        seeds(self, "seed")

    def for_model(self, guidance_scale: float) -> "GuidanceConfig":
        """Return the configuration with the model's own guidance scale, if none was given.

        Warns where a scale was given to a model that was distilled to do without.
        """
        if self.guidance_scale == 0:
            return dataclasses.replace(self, guidance_scale=guidance_scale)
        if guidance_scale == 1:
            warn_of_scale("guidance_scale", self.guidance_scale)
        return self

    def compiles_on(self, device: torch.device) -> bool:
        """Return whether networks are to be compiled on a device."""
        return self.compile == "on" or (self.compile == "auto" and device.type == "cuda")

    @staticmethod
    def upgraded(state: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that earlier versions saved, as this one has them.

        Up to 0.2 the options of objectives were fields of their own, whichever the objective was.
        """
        state = dict(state)
        for name in {"lora", "embeddings"} & state.keys():
            state[name] = tuple(state[name])  # json has lists only
        options = {name: state.pop(name, None) for name in ("dreamcatalyst", "ssd", "lusd")}
        name = state.get("objective", "pds")
        saved = options.get(name)
        if saved is not None:
            values = saved if isinstance(saved, dict) else vars(saved)
            state["objective"] = objective_text(name, OBJECTIVES[name](**values))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a saved state, also of an earlier version: a run's config.yml is read this way."""
        self.__dict__.update(self.upgraded(state))


def warn_of_scale(name: str, scale: float) -> None:
    """Warn of a guidance scale other than 1 that was given to a model that was distilled to do without guidance."""
    if scale != 1:
        warnings.warn(
            f"{name} is {scale:g}, and the model was distilled to do without: colours may burn; 1, or 0 for the "
            "model's own, suits it.",
            stacklevel=5,
        )


def resolve_device(name: str, default: torch.device) -> torch.device:
    """Return the device called `name`; 'auto' means `default`.

    Raises:
        UserError: If it is no device's name, or this machine does not have it.
    """
    if name == "auto":
        return default
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises the latter
        raise UserError(f"This machine has no device '{name}': choose auto, cpu or cuda:0.") from error
    return device


def load_options(config: GuidanceConfig, device: torch.device, half: torch.dtype) -> LoadOptions:
    """Return how a configuration has a network loaded.

    Args:
        config: Valid.
        device: Where it runs.
        half: The precision of 16 bits that its architecture can run in.

    Raises:
        UserError: If there is no such dtype, or weights can't wait elsewhere.
    """
    if config.offload and device.type == "cpu":
        raise UserError("offload has weights visit a GPU, and the model runs on the CPU: leave it off.")
    dtype, vae_dtype = resolve_dtypes(config.dtype, device, half)
    return LoadOptions(
        device=device,
        dtype=dtype,
        vae_dtype=vae_dtype,
        compiled=config.compiles_on(device),
        loras=config.lora,
        embeddings=config.embeddings,
        vae=config.vae or None,
        distilled_guidance=config.distilled_guidance or None,
        text_encoders=config.text_encoders,
        image_guidance=config.image_guidance_scale,
        offload=config.offload,
    )


def resolve_dtypes(
    name: str, device: torch.device, half: torch.dtype = torch.float16
) -> tuple[torch.dtype, torch.dtype]:
    """Return what `name` means for the network and for the VAE (see `GuidanceConfig.dtype`).

    An edit's gradient is the small difference of large predictions, so of the network the fineness of its numbers
    counts, of which float16 has eight times as many as bfloat16. Through the network only fixed-point noise is
    back-propagated, and that from a gradient of length one; through the VAE every edit is, from gradients of any size,
    and bfloat16 has float32's range.

    Args:
        name: One of the choices.
        device: Where the model runs.
        half: The precision of 16 bits that the network can run in: bfloat16 if it leaves float16's range.

    Raises:
        UserError: If there is no such choice.
    """
    if name == "auto":
        # Compute capability 8 (Ampere) brought bfloat16; older GPUs emulate it, slowly.
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        name = "mixed" if has_bfloat16 else "float32"
    pairs = {
        "mixed": (half, torch.bfloat16),
        **{str(dtype)[6:]: (dtype, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)},
    }
    if name not in pairs:
        raise UserError(f"There is no dtype '{name}': choose auto, {', '.join(pairs)}.")
    return pairs[name]
