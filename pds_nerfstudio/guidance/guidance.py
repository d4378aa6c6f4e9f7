"""The one class that every editor uses: a rendered image goes in, a loss that edits it comes out."""

import dataclasses
import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.cache import BoundedCache
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.latents import LatentCache, model_image_size, resize
from pds_nerfstudio.guidance.localization import MaskAverage, difference_mask, sharpen
from pds_nerfstudio.guidance.objectives import (
    OBJECTIVES,
    DreamCatalystParameters,
    ObjectiveName,
    ObjectiveParameters,
    weight_table,
)
from pds_nerfstudio.guidance.refinement import RefinementConfig, edited_region, sdedit
from pds_nerfstudio.guidance.timesteps import (
    TimestepSchedule,
    annealed_timesteps,
    stride_of,
    timestep_bounds,
    uniform_timesteps,
)


@dataclass
class GuidanceConfig:
    """How a text edit is distilled from a diffusion model.

    All but model, resolution, cache_size, device, dtype, compile and seed may be changed while an edit runs.
    """

    model: str = "toyworld"
    """The diffusion model: a hub id or a local folder of any Stable Diffusion 1.x or 2.x pipeline, for
    example stable-diffusion-v1-5/stable-diffusion-v1-5 (4 GB, downloaded once; knows the real world).
    'toyworld' is the small model inside this package: it needs no download, but knows only its own procedural
    world."""
    objective: ObjectiveName = "pds"
    """What is distilled. pds: change what the text asks for, keep the identity of the source. dds: like pds
    without the pull back to the source. dreamcatalyst: like pds with other weights over time, for faster
    edits. sds: follow the target prompt only (the classic text-to-3D objective); the source is soon
    forgotten."""
    guidance_scale: float = 7.5
    """Classifier-free guidance: how strongly the model obeys the prompts. 7.5 for pictures; published 3D and
    SVG edits use up to 100. If nothing changes raise it; if colours burn or detail melts, lower it."""
    text_weight: float = 1.0
    """Multiplies the text term (χ), which moves the edit towards the target prompt."""
    identity_weight: float = 1.0
    """Multiplies the identity term (ψ), which pulls the edit back to the source. Raise it to keep more of the
    source, lower it for larger changes. The objectives sds and dds have no identity term to multiply."""
    t_min: float = 0.02
    """Least noise added before the model is asked, as a share of its noise schedule (0 to 1). Small values
    let it change fine detail."""
    t_max: float = 0.98
    """Most noise added before the model is asked, as a share of its noise schedule (0 to 1). Large values let
    it change layout."""
    t_schedule: TimestepSchedule = "uniform"
    """How the noise level is drawn between t_min and t_max. uniform: anew at each step. annealed: from t_max
    down to t_min over the run, layout first and detail last."""
    t_jitter: float = 0.0
    """Width of the random spread around the annealed noise level, as a share of the noise schedule (0 to 1).
    Unused by the uniform schedule."""
    num_inference_steps: int = 500
    """PDS compares two neighbouring times of a sampler with this many steps. Fewer steps put them further
    apart, which strengthens the pull back to the source; at the model's own 1000 the pull vanishes."""
    dreamcatalyst: DreamCatalystParameters = field(default_factory=DreamCatalystParameters)
    """Weights of the objective 'dreamcatalyst'; the other objectives ignore them."""
    localize: float = 0.0
    """Confine the text term to where the two prompts disagree (0 = everywhere, 1 = only there). Calms
    backgrounds that should not change. Needs a source prompt to compare with, so not for the objective
    sds."""
    resolution: int = 0
    """Side in pixels of the square whose area images are resized to before the model sees them; 0 takes the
    size that the model was trained with. Smaller is faster and coarser."""
    cache_size: int = 1024
    """How many views have their source latent (64 KiB each with Stable Diffusion) and mask remembered."""
    device: str = "auto"
    """Where the diffusion model runs, for example cuda:1 to give it a GPU of its own. 'auto' takes the device
    of what is being edited."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the diffusion model. 'auto': bfloat16 on GPUs that have it, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the UNet and the VAE's encoder are compiled, which takes some minutes for each size of views and is kept
    for later runs. 'auto': on a GPU, not on a CPU. Changes nothing but rounding; where it fails, a warning says so and
    the model runs as it is."""
    seed: int = 0
    """Seeds the noise and times that are drawn. The same seed repeats the same edit on the same machine."""

    def check(self) -> None:
        """Refuse values that no edit can use.

        Raises:
            UserError: naming the field. (t_min, t_max and num_inference_steps depend on the model's schedule,
                device and dtype on the machine: those are checked where they are used.)
        """
        if self.objective not in OBJECTIVES:
            raise UserError(f"There is no objective '{self.objective}': choose {', '.join(OBJECTIVES)}.")
        if self.t_schedule not in get_args(TimestepSchedule):
            choices = ", ".join(get_args(TimestepSchedule))
            raise UserError(f"There is no t_schedule '{self.t_schedule}': choose {choices}.")
        if self.compile not in ("auto", "on", "off"):
            raise UserError(f"compile is '{self.compile}': choose auto, on or off.")
        for name in ("guidance_scale", "text_weight", "identity_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}: give a finite number from 0 up.")
        for name in ("t_jitter", "localize"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}: give a share between 0 and 1.")
        if self.localize > 0 and OBJECTIVES[self.objective].reference != "source":
            raise UserError(
                f"localize compares two prompts, and the objective '{self.objective}' looks at one: set "
                "localize to 0 or choose another objective."
            )
        if self.resolution < 0:
            raise UserError(f"resolution is {self.resolution}: give pixels, or 0 for the model's own.")
        if self.cache_size < 1:
            raise UserError(f"cache_size is {self.cache_size}: give the number of views, at least 1.")


@dataclass(frozen=True)
class GradientTerms:
    """The gradient on the target latent, in its two parts."""

    text: Float[Tensor, "batch channels height width"]
    """χ(t) · (ε̂_tgt − reference), weighted and masked."""
    identity: Float[Tensor, "batch channels height width"]
    """ψ(t) · (x_tgt − x_src), weighted."""
    mask: Float[Tensor, "batch 1 height width"] | None
    """Where the text term acts, in [0, 1]; None when ``localize`` is 0."""


@dataclass(frozen=True)
class GuidanceOutput:
    """What one step of guidance gives. All tensors but ``loss`` are on the denoiser's device."""

    loss: Float[Tensor, ""]
    """½‖g‖² in value; its gradient on the target latent is g. On the device of what was passed in."""
    grad: Float[Tensor, "batch channels height width"]
    """g, detached."""
    t: Int[Tensor, " batch"]
    """The time drawn for each element."""
    finite: Bool[Tensor, ""]
    """Whether every number in ``grad`` is finite. If not, back-propagating ``loss`` would poison the
    parameters: the caller decides whether to skip the step (and pays the host-device synchronisation of
    looking)."""
    metrics: dict[str, Float[Tensor, ""]]
    """Root mean squares to log: the gradient, its text and identity terms, and the latent's change."""
    mask: Float[Tensor, "batch 1 height width"] | None
    """Where the text term acted, in [0, 1]; None when ``localize`` is 0."""


class Guidance:
    """Turns (image, source image, source prompt, target prompt) into a loss whose gradient edits the image.

    The loss of a step is ½‖x − sg(x − g)‖², summed over all numbers of all elements of the batch, where x is
    the target latent, sg stops gradients, and g is the objective's gradient (see ``objectives``). Its
    gradient on x is therefore exactly g: not divided by batch size, pixels or channels. An optimiser that
    normalises (Adam) does not care; for others scale the loss.

    Args:
        config: read anew at each step.
        denoiser: the diffusion model.

    Raises:
        UserError: if the configuration is invalid.
    """

    def __init__(self, config: GuidanceConfig, denoiser: Denoiser) -> None:
        config.check()
        self.config = config
        self.denoiser = denoiser
        self.prompts: tuple[list[str], list[str]] | None = None
        """The source and the target prompts, once set: one each, or one each for every element of a batch."""
        self._embeddings: Tensor | None = None
        self._generator = torch.Generator(denoiser.device).manual_seed(config.seed)
        self._source_cache = LatentCache(config.cache_size)
        self._masks = MaskAverage(config.cache_size)
        self._weight_tables: BoundedCache[tuple[Tensor, Tensor]] = BoundedCache(8)
        self._timestep_bounds()

    @classmethod
    def from_config(cls, config: GuidanceConfig, device: torch.device | str) -> "Guidance":
        """Load the model that ``config`` names.

        Args:
            config: the configuration.
            device: where the model goes if ``config.device`` is 'auto'.

        Raises:
            UserError: if the configuration is invalid, or the model or device is not available.
        """
        config.check()
        chosen = resolve_device(config.device, torch.device(device))
        dtype = resolve_dtype(config.dtype, chosen)
        compiled = config.compile == "on" or (config.compile == "auto" and chosen.type == "cuda")
        return cls(config, Denoiser.from_pretrained(config.model, chosen, dtype, compiled))

    def set_prompts(self, source: str | Sequence[str], target: str | Sequence[str]) -> None:
        """Say what the source shows and what it should become. May be called again at any time.

        Args:
            source: describes the source image; or one description for each element of the batches to come.
            target: describes the edited image; best the source prompt with only the edit changed.

        Raises:
            UserError: if one of them is empty.
            ValueError: if there are not as many sources as targets.
        """
        sources, targets = ([p.strip() for p in ([ps] if isinstance(ps, str) else ps)] for ps in (source, target))
        for name, prompts in (("source", sources), ("target", targets)):
            if not all(prompts):
                raise UserError(f"The {name} prompt is empty: describe the {name} image in a few words.")
        if (sources, targets) == self.prompts:
            return
        if any(before == after for before, after in zip(sources, targets, strict=True)):
            warnings.warn("The source and target prompts are equal: there is nothing to edit.", stacklevel=2)
        # One row for each quarter of the batch that the denoiser is given, in its order.
        quarters = (targets, [""] * len(targets), sources, [""] * len(sources))
        self._embeddings = torch.stack([self.denoiser.encode_prompts(quarter) for quarter in quarters])
        self.prompts = (sources, targets)
        self._masks.clear()

    def reconfigure(self, **changes: object) -> None:
        """Change settings while an edit runs: all of them or, if one is invalid, none.

        Args:
            changes: new values by the names of ``GuidanceConfig``'s fields.

        Raises:
            UserError: if the result is not valid for this model.
        """
        before = {name: getattr(self.config, name) for name in changes}
        try:
            for name, value in changes.items():
                setattr(self.config, name, value)
            self.config.check()
            self._timestep_bounds()
        except UserError:
            for name, value in before.items():
                setattr(self.config, name, value)
            raise

    def __call__(
        self,
        image: Float[Tensor, "batch 3 height width"],
        source_image: Float[Tensor, "batch 3 height width"],
        progress: float,
        keys: Sequence[Hashable] | None = None,
    ) -> GuidanceOutput:
        """One step of guidance on images.

        Args:
            image: the current images, values in [0, 1]; gradients flow back to them.
            source_image: the same views before the edit, values in [0, 1].
            progress: share of the run that is done, from 0 to 1.
            keys: one for each element, which stands for that source image from now on: its latent is
                encoded once and its mask averaged over the steps. None encodes the source at every step.

        Raises:
            UserError: if no prompts are set, the images are too small, or the configuration is invalid.
            ValueError: if the shapes or the number of keys do not fit.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape != source_image.shape:
            raise ValueError(
                "image and source_image must both be (batch, 3, height, width), got "
                f"{tuple(image.shape)} and {tuple(source_image.shape)}"
            )
        _check_keys(keys, len(image))
        if keys is None:
            with torch.no_grad():
                source = self._encode(source_image)
        else:
            size = self._model_size(image)
            source = self._source_cache.get_or_encode([(key, size) for key in keys], source_image, self._encode)
        output = self.latent_loss(self._encode(image), source, progress, keys)
        return dataclasses.replace(output, loss=output.loss.to(image.device))

    def latent_loss(
        self,
        target: Float[Tensor, "batch channels height width"],
        source: Float[Tensor, "batch channels height width"],
        progress: float,
        keys: Sequence[Hashable] | None = None,
    ) -> GuidanceOutput:
        """One step of guidance on latents, for editors whose parameter is the latent itself.

        Args:
            target: the current latents; gradients flow back to them.
            source: the latents before the edit.
            progress: share of the run that is done, from 0 to 1.
            keys: one for each element, under which its mask is averaged over the steps.

        Raises:
            UserError: if no prompts are set or the configuration is invalid.
            ValueError: if the shapes or the number of keys do not fit.
        """
        z = target.to(self.denoiser.device, self.denoiser.result_dtype)
        t = self.draw_timesteps(len(z), progress)
        noise = torch.randn(z.shape, generator=self._generator, device=z.device, dtype=z.dtype)
        terms = self.gradient_terms(z, source, t, noise, keys)
        grad = terms.text + terms.identity
        # Equal to ½‖z − sg(z − g)‖² in value and gradient. That form takes g as the difference z − (z − g)
        # and rounds it to the precision of z; this one hands on g to the last bit.
        surrogate = (z * grad).sum()
        loss = surrogate - surrogate.detach() + grad.square().sum() / 2
        change = z.detach() - source.to(z)
        return GuidanceOutput(
            loss=loss.to(target.device),
            grad=grad,
            t=t,
            finite=grad.isfinite().all(),
            metrics={
                "gradient_rms": _rms(grad),
                "text_gradient_rms": _rms(terms.text),
                "identity_gradient_rms": _rms(terms.identity),
                "latent_change_rms": _rms(change),
            },
            mask=terms.mask,
        )

    @torch.no_grad()
    def gradient_terms(
        self,
        target: Float[Tensor, "batch channels height width"],
        source: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        noise: Float[Tensor, "batch channels height width"],
        keys: Sequence[Hashable] | None = None,
    ) -> GradientTerms:
        """The gradient for given times and noise; random numbers are drawn elsewhere.

        The denoiser is called once, with {target, source} × {conditional, unconditional} of every element
        (the target alone where the objective compares with the noise). Source and target get the same noise,
        the same time and the same guidance scale.

        Args:
            target: the current latents.
            source: the latents before the edit.
            t: one time for each element, not below the stride, on the denoiser's device.
            noise: standard normal, on the denoiser's device.
            keys: see ``latent_loss``. With keys and ``localize``, the masks' averages move on.

        Raises:
            UserError: if no prompts are set or the configuration is invalid.
            ValueError: if the shapes or the number of keys do not fit.
        """
        self.config.check()
        _check_keys(keys, len(target))
        if target.shape != source.shape:
            raise ValueError(f"latents differ in shape: {tuple(target.shape)} and {tuple(source.shape)}")
        device, dtype = self.denoiser.device, self.denoiser.result_dtype
        target, source = target.to(device, dtype), source.to(device, dtype)

        if OBJECTIVES[self.config.objective].reference == "source":
            noisy = torch.stack([self.denoiser.add_noise(x, noise, t) for x in (target, source)])
            prediction, reference = self._guided_predictions(noisy, t, self.config.guidance_scale)
        else:
            noisy = self.denoiser.add_noise(target, noise, t)[None]
            prediction, reference = self._guided_predictions(noisy, t, self.config.guidance_scale)[0], noise
        difference = prediction - reference

        text_table, identity_table = self._weights()
        text = self.config.text_weight * _per_element(text_table[t]) * difference
        identity = self.config.identity_weight * _per_element(identity_table[t]) * (target - source)
        mask = self._mask(difference, keys) if self.config.localize > 0 else None
        return GradientTerms(text=text if mask is None else text * mask, identity=identity, mask=mask)

    @torch.no_grad()
    def refine(
        self,
        target: Float[Tensor, "batch channels height width"],
        source: Float[Tensor, "batch channels height width"],
        config: RefinementConfig,
        allowed: Float[Tensor, "#batch 1 height width"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Sharpen what an edit has changed, by SDEdit towards the target prompt. Moves the random state on.

        Args:
            target: the edited latents.
            source: the latents before the edit, to which all goes back that the edit has hardly changed.
            config: how strongly to redraw.
            allowed: where anything may change at all, in [0, 1]; None is everywhere.

        Raises:
            UserError: if no prompts are set or the configuration is invalid.
        """
        config.check()
        device, dtype = self.denoiser.device, self.denoiser.result_dtype
        target, source = target.to(device, dtype), source.to(device, dtype)
        mask = edited_region(target, source)
        if allowed is not None:
            mask = mask * allowed.to(mask)
        return self._sdedit(target, source, mask, config)

    @torch.no_grad()
    def redraw(
        self,
        image: Float[Tensor, "batch 3 height width"],
        source_image: Float[Tensor, "batch 3 height width"],
        config: RefinementConfig,
        keys: Sequence[Hashable] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """The images as the model redraws them for the target prompt: what a refinement fits the scene to.

        With ``localize``, what lies outside the masks that the edit has learned is the source image's.

        Args:
            image: the current images, values in [0, 1].
            source_image: the same views before the edit, values in [0, 1].
            config: how strongly to redraw.
            keys: see ``__call__``; views never seen under their key have no mask and are redrawn whole.

        Raises:
            UserError: if no prompts are set or the images are too small.
        """
        config.check()
        _check_keys(keys, len(image))
        size = (image.shape[-2], image.shape[-1])
        latents = self._encode(image)
        everywhere = torch.ones_like(latents[:, :1])
        redrawn = self._sdedit(latents, latents, everywhere, config)
        redrawn = resize(self.denoiser.decode_latents(redrawn), size).to(image)
        if keys is None or self.config.localize == 0:
            return redrawn
        masks = [self._masks.peek((key, tuple(whole.shape))) for key, whole in zip(keys, everywhere, strict=True)]
        learned = torch.stack([whole if mask is None else mask for mask, whole in zip(masks, everywhere, strict=True)])
        # What the edit leaves behind, shadows and old outlines, lies just beside what it draws.
        grown = F.max_pool2d(self._soften(learned), kernel_size=3, stride=1, padding=1)
        mask = resize(grown, size).to(image)
        return mask * redrawn + (1 - mask) * source_image

    def draw_timesteps(self, batch: int, progress: float) -> Int[Tensor, " batch"]:
        """One time for each element, as the configuration says. Moves the random state on."""
        low, high = self._timestep_bounds()
        if self.config.t_schedule == "uniform":
            return uniform_timesteps(batch, low, high, self._generator)
        jitter = self.config.t_jitter * self.denoiser.schedule.num_steps
        return annealed_timesteps(batch, low, high, progress, jitter, self._generator)

    def forget_sources(self) -> None:
        """Forget all source latents and masks, for when the source images themselves change."""
        self._source_cache.clear()
        self._masks.clear()

    def state_dict(self) -> dict[str, Any]:
        """The random state and the masks, all that a resumed run needs to go on as if it had not stopped."""
        return {"generator": self._generator.get_state(), "masks": self._masks.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state. A random state of another kind of device cannot be used: that warns."""
        self._masks.load_state_dict(state.get("masks", []), self.denoiser.device)
        try:
            self._generator.set_state(state["generator"].cpu())
        except RuntimeError:
            warnings.warn(
                "The saved random state is of another kind of device: the run goes on with other noise.",
                stacklevel=2,
            )

    def _model_size(self, image: Tensor) -> tuple[int, int]:
        resolution = self.config.resolution or self.denoiser.resolution
        height, width = image.shape[-2:]
        return model_image_size(height, width, resolution, self.denoiser.size_multiple)

    def _encode(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels height width"]:
        image = image.to(self.denoiser.device, self.denoiser.result_dtype)
        return self.denoiser.encode_image(resize(image, self._model_size(image)))

    def _require_embeddings(self) -> Float[Tensor, "4 pairs tokens width"]:
        if self._embeddings is None:
            raise UserError("No prompts are set: give a source and a target prompt.")
        return self._embeddings

    def _sdedit(
        self,
        latents: Float[Tensor, "batch channels height width"],
        source: Float[Tensor, "batch channels height width"],
        mask: Float[Tensor, "batch 1 height width"],
        config: RefinementConfig,
    ) -> Float[Tensor, "batch channels height width"]:
        highest = max(1, round(config.strength * (self.denoiser.schedule.num_steps - 1)))
        times = torch.linspace(highest, 0, config.denoising_steps + 1, device=latents.device)[:-1].round().long()
        noise = torch.randn(latents.shape, generator=self._generator, device=latents.device, dtype=latents.dtype)
        return sdedit(
            latents,
            source,
            mask,
            noise,
            times,
            self.denoiser.alphas_cumprod,
            lambda x, t: self._guided_predictions(x[None], t, config.guidance_scale)[0],
        )

    def _guided_predictions(
        self,
        noisy: Float[Tensor, "branches batch channels height width"],
        t: Int[Tensor, " batch"],
        guidance_scale: float,
    ) -> Float[Tensor, "branches batch channels height width"]:
        """Classifier-free guided predictions u + w·(c − u) (Ho and Salimans 2022) of target and source."""
        embeddings = self._require_embeddings()
        branches, batch = noisy.shape[:2]
        if embeddings.shape[1] not in (1, batch):
            raise ValueError(f"{embeddings.shape[1]} pairs of prompts for a batch of {batch}")
        quarters = noisy.repeat_interleave(2, dim=0)
        predictions = self.denoiser.predict_noise(
            quarters.flatten(0, 1),
            t.repeat(2 * branches),
            embeddings[: 2 * branches].expand(-1, batch, -1, -1).flatten(0, 1),
        ).unflatten(0, (branches, 2, batch))
        conditional, unconditional = predictions.unbind(dim=1)
        return unconditional + guidance_scale * (conditional - unconditional)

    def _mask(
        self, difference: Float[Tensor, "batch channels height width"], keys: Sequence[Hashable] | None
    ) -> Float[Tensor, "batch 1 height width"]:
        mask = difference_mask(difference)
        if keys is not None:
            mask = self._masks.update([(key, tuple(mask.shape[1:])) for key in keys], mask)
        return self._soften(mask)

    def _soften(self, mask: Tensor) -> Tensor:
        return 1 - self.config.localize * (1 - sharpen(mask))

    def _weights(self) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
        """χ and ψ at every time, on the denoiser's device; renewed only when the configuration changes."""
        parameters = ObjectiveParameters(self._stride(), self.config.dreamcatalyst)
        key = (self.config.objective, dataclasses.astuple(parameters))
        tables = self._weight_tables.get(key)
        if tables is None:
            row = OBJECTIVES[self.config.objective]
            text, identity = (
                weight_table(weight, self.denoiser.schedule, parameters)
                .to(self.denoiser.result_dtype)  # on the CPU: not every accelerator knows float64
                .to(self.denoiser.device)
                for weight in (row.text_weight, row.identity_weight)
            )
            tables = (text, identity)
            self._weight_tables.put(key, tables)
        return tables

    def _stride(self) -> int:
        return stride_of(self.denoiser.schedule.num_steps, self.config.num_inference_steps)

    def _timestep_bounds(self) -> tuple[int, int]:
        num_steps = self.denoiser.schedule.num_steps
        return timestep_bounds(num_steps, self.config.t_min, self.config.t_max, self._stride())


def resolve_device(name: str, default: torch.device) -> torch.device:
    """The device called ``name``; 'auto' means ``default``.

    Raises:
        UserError: if it is no device's name, or this machine does not have it.
    """
    if name == "auto":
        return default
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises the latter
        raise UserError(f"This machine has no device '{name}': choose auto, cpu or cuda:0.") from error
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called ``name``; 'auto' means bfloat16 where the GPU computes in it, else float32.

    bfloat16 has float32's range, so unlike float16 it needs no care about overflow.

    Raises:
        UserError: if there is no such choice.
    """
    if name == "auto":
        # Compute capability 8 (Ampere) brought bfloat16; older GPUs emulate it, slowly.
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if has_bfloat16 else torch.float32
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise UserError(f"There is no dtype '{name}': choose auto, {', '.join(dtypes)}.")
    return dtypes[name]


def _check_keys(keys: Sequence[Hashable] | None, batch: int) -> None:
    if keys is not None and len(keys) != batch:
        raise ValueError(f"{len(keys)} keys for a batch of {batch}")


def _per_element(weights: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
    return weights[:, None, None, None]


def _rms(x: Tensor) -> Float[Tensor, ""]:
    return x.square().mean().sqrt()
