"""The one class that every editor uses: a rendered image goes in, a loss that edits it comes out."""

import dataclasses
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.guidance.attention import stretch
from pds_nerfstudio.guidance.cache import BoundedCache
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.fixed_point import fixed_point_noise
from pds_nerfstudio.guidance.latents import LatentCache, model_image_size, resize
from pds_nerfstudio.guidance.localization import MaskAverage, MaskSource, difference_mask, sharpen
from pds_nerfstudio.guidance.objectives import (
    OBJECTIVES,
    DreamCatalystParameters,
    Latents,
    LusdParameters,
    ObjectiveName,
    ObjectiveParameters,
    Prediction,
    SsdParameters,
    combine,
    guided_source,
    guided_target,
    predictions_of,
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
    edits. ssd: holds the edit to the source's trajectory and stresses the target prompt, for styles. lusd: what
    the two prompts say about the edit itself, in steps of one size. sds: follow the target prompt only (the
    classic text-to-3D objective); the source is soon forgotten."""
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
    t_power: float = 1.0
    """How the annealed noise level falls: with the run's progress to this power. 1 falls evenly; 2 stays longer where
    the light of a whole picture can change. Unused by the uniform schedule."""
    num_inference_steps: int = 500
    """PDS compares two neighbouring times of a sampler with this many steps. Fewer steps put them further
    apart, which strengthens the pull back to the source; at the model's own 1000 the pull vanishes."""
    dreamcatalyst: DreamCatalystParameters = field(default_factory=DreamCatalystParameters)
    """Weights of the objective 'dreamcatalyst'; the other objectives ignore them."""
    ssd: SsdParameters = field(default_factory=SsdParameters)
    """Weights of the objective 'ssd'; the other objectives ignore them."""
    lusd: LusdParameters = field(default_factory=LusdParameters)
    """Weights of the objective 'lusd'; the other objectives ignore them."""
    localize: float = 0.0
    """Confine the text term to where the two prompts disagree (0 = everywhere, 1 = only there). Calms
    backgrounds that should not change."""
    identity_inside: float = 1.0
    """Share of the identity term that acts where ``localize`` lets the text act (0 to 1; 1 is PDS as published). Less
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
    """Precision of the diffusion model. mixed: the UNet in float16, whose finer steps the difference of two predictions
    needs, and the VAE in bfloat16, whose range its gradients need. 'auto': mixed on GPUs that have both, else
    float32."""
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
        if self.localize_by not in get_args(MaskSource):
            choices = " or ".join(get_args(MaskSource))
            raise UserError(f"There is no localize_by '{self.localize_by}': choose {choices}.")
        if self.compile not in ("auto", "on", "off"):
            raise UserError(f"compile is '{self.compile}': choose auto, on or off.")
        for name in ("guidance_scale", "text_weight", "identity_weight", "fixed_point_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}: give a finite number from 0 up.")
        for name in ("t_jitter", "localize", "identity_inside"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}: give a share between 0 and 1.")
        if self.localize > 0 and self.localize_by == "difference" and OBJECTIVES[self.objective].contrast is None:
            raise UserError(
                f"localize compares two prompts, and the objective '{self.objective}' looks at one: set "
                "localize to 0 or localize_by to attention, or choose another objective."
            )
        if not 0 < self.t_power < math.inf:
            raise UserError(f"t_power is {self.t_power}: give a finite number above 0.")
        if self.samples < 1:
            raise UserError(f"samples is {self.samples}: give at least 1.")
        if self.fixed_point_steps < 0:
            raise UserError(f"fixed_point_steps is {self.fixed_point_steps}: give a number of steps, or 0 for none.")
        if self.resolution < 0:
            raise UserError(f"resolution is {self.resolution}: give pixels, or 0 for the model's own.")
        if self.cache_size < 1:
            raise UserError(f"cache_size is {self.cache_size}: give the number of views, at least 1.")


@dataclass(frozen=True)
class GradientTerms:
    """The gradient on the target latent, in its two parts."""

    text: Float[Tensor, "batch channels height width"]
    """χ(t) · M · (Σ_p c_p·ε̂_p + c_ε·ε), weighted."""
    identity: Float[Tensor, "batch channels height width"]
    """ψ(t) · (1 − (1 − ι)·M) · (x_tgt − x_src), weighted; ι is ``identity_inside``."""
    mask: Float[Tensor, "batch 1 height width"] | None
    """Where the text term acts, in [0, 1]; None when ``localize`` is 0."""

    def averaged(self, samples: int) -> "GradientTerms":
        """The mean over each ``samples`` elements in a row; of their masks, whose averages move on, the last one."""
        text, identity = (x.unflatten(0, (-1, samples)).mean(1) for x in (self.text, self.identity))
        return GradientTerms(text, identity, None if self.mask is None else self.mask[samples - 1 :: samples])


@dataclass(frozen=True)
class GuidanceOutput:
    """What one step of guidance gives. All tensors but ``loss`` are on the denoiser's device."""

    loss: Float[Tensor, ""]
    """½‖g‖² in value; its gradient on the target latent is g. On the device of what was passed in."""
    grad: Float[Tensor, "batch channels height width"]
    """g, detached."""
    t: Int[Tensor, " batch"]
    """The times drawn: for each element in turn, as many as there are samples."""
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
        self._words: dict[str, Bool[Tensor, "pairs tokens"]] = {}
        self._embeddings: dict[str, Float[Tensor, "pairs tokens width"]] = {}
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
        dtype, vae_dtype = resolve_dtypes(config.dtype, chosen)
        compiled = config.compile == "on" or (config.compile == "auto" and chosen.type == "cuda")
        return cls(config, Denoiser.from_pretrained(config.model, chosen, dtype, compiled, vae_dtype))

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
        by_name = {"target": targets, "source": sources, "none": [""] * len(targets)}
        self._embeddings = {name: self.denoiser.encode_prompts(some) for name, some in by_name.items()}
        self._words = {}
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
        samples = self.config.samples
        targets, sources = (x.detach().repeat_interleave(samples, dim=0) for x in (z, source.to(z)))
        t = self.draw_timesteps(len(targets), progress)
        noise = torch.randn(targets.shape, generator=self._generator, device=z.device, dtype=z.dtype)
        if self.config.fixed_point_steps > 0:
            noise = self._fixed_point_noise(sources, noise, t)
        each = None if keys is None else [key for key in keys for _ in range(samples)]
        terms = self.gradient_terms(targets, sources, t, noise, each, progress).averaged(samples)
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
        progress: float = 0.0,
    ) -> GradientTerms:
        """The gradient for given times and noise; random numbers are drawn elsewhere.

        The denoiser is called once, for those predictions of every element that the objective makes use of. Source
        and target get the same noise and the same time.

        Args:
            target: the current latents.
            source: the latents before the edit.
            t: one time for each element, not below the stride, on the denoiser's device.
            noise: standard normal, on the denoiser's device.
            keys: see ``latent_loss``. With keys and ``localize``, the masks' averages move on.
            progress: share of the run that is done, from 0 to 1.

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

        row, parameters, scale = OBJECTIVES[self.config.objective], self._parameters(), self.config.guidance_scale
        text_terms = row.text(scale, parameters)
        by_difference = self.config.localize > 0 and self.config.localize_by == "difference"
        contrast_terms = row.contrast(scale, parameters) if row.contrast and by_difference else {}
        noisy = {name: self.denoiser.add_noise(x, noise, t) for name, x in (("target", target), ("source", source))}
        wanted = predictions_of(text_terms, contrast_terms)
        raw_mask: Tensor | None = None
        if self.config.localize > 0 and not by_difference:
            predictions, raw_mask = self._predict_and_attend(wanted, noisy, t)
        else:
            predictions = self._predict(wanted, noisy, t)
            if contrast_terms:
                raw_mask = difference_mask(combine(contrast_terms, predictions, noise))

        text_table, identity_table = self._weights()
        text = self.config.text_weight * _per_element(text_table[t]) * combine(text_terms, predictions, noise)
        identity = self.config.identity_weight * _per_element(identity_table[t]) * (target - source)
        mask = None if raw_mask is None else self._average(raw_mask, keys)
        if mask is not None:
            text = mask * text
            identity = (1 - (1 - self.config.identity_inside) * mask) * identity
        if row.std is not None:
            factor = row.std(progress, parameters) / _deviation(text + identity)
            text, identity = factor * text, factor * identity
        return GradientTerms(text=text, identity=identity, mask=mask)

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
        return annealed_timesteps(batch, low, high, progress, jitter, self._generator, self.config.t_power)

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
            lambda x, t: self._guided_target(x, t, config.guidance_scale),
        )

    def _guided_target(self, x_t: Latents, t: Int[Tensor, " batch"], guidance_scale: float) -> Latents:
        terms = guided_target(guidance_scale)
        return combine(terms, self._predict(predictions_of(terms), {"target": x_t}, t), x_t)

    def _fixed_point_noise(self, source: Latents, noise: Latents, t: Int[Tensor, " batch"]) -> Latents:
        terms = guided_source(self.config.guidance_scale)
        wanted = predictions_of(terms)

        def predict(x_t: Latents) -> Latents:
            predictions = self.denoiser.predict_noise_differentiably(*self._questions(wanted, {"source": x_t}, t))
            return combine(terms, dict(zip(wanted, predictions.split(len(t)), strict=True)), noise)

        alpha_bar, config = self.denoiser.alphas_cumprod[t], self.config
        return fixed_point_noise(source, noise, alpha_bar, predict, config.fixed_point_steps, config.fixed_point_rate)

    def _predict(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Int[Tensor, " batch"]
    ) -> dict[Prediction, Latents]:
        """The predictions that are wanted of noisy latents, from one call of the denoiser."""
        predictions = self.denoiser.predict_noise(*self._questions(wanted, noisy, t))
        return dict(zip(wanted, predictions.split(len(t)), strict=True))

    def _predict_and_attend(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Int[Tensor, " batch"]
    ) -> tuple[dict[Prediction, Latents], Float[Tensor, "batch 1 height width"]]:
        """The same, and where the model looks for the words that differ: those to come, and those to go."""
        if not self._words and self.prompts is not None:
            sources, targets = self.prompts
            self._words = {
                "target": self.denoiser.changed_words(targets, sources),
                "source": self.denoiser.changed_words(sources, targets),
            }
            self._words["none"] = torch.zeros_like(self._words["target"])
        x_t, times, embeddings = self._questions(wanted, noisy, t)
        times_each = len(t) // len(self._words["none"])
        words = torch.cat([self._words[prompt].repeat_interleave(times_each, dim=0) for _, prompt in wanted])
        predictions, attention = self.denoiser.predict_noise_and_attention(x_t, times, embeddings, words)
        mask = torch.stack(stretch(attention).split(len(t))).amax(0)
        return dict(zip(wanted, predictions.split(len(t)), strict=True)), mask

    def _questions(
        self, wanted: Sequence[Prediction], noisy: Mapping[str, Latents], t: Int[Tensor, " batch"]
    ) -> tuple[Latents, Int[Tensor, " latents"], Float[Tensor, "questions tokens width"]]:
        """What the denoiser is given for the predictions that are wanted: latents, times and text embeddings.

        Where all latents are asked equally often, in turn, each is given once.
        """
        if not self._embeddings:
            raise UserError("No prompts are set: give a source and a target prompt.")
        pairs, batch = len(self._embeddings["target"]), len(t)
        if batch % pairs:
            raise ValueError(f"{pairs} pairs of prompts for a batch of {batch}")
        embeddings = [self._embeddings[prompt].repeat_interleave(batch // pairs, dim=0) for _, prompt in wanted]
        latents = [latent for latent, _ in wanted]
        once = list(dict.fromkeys(latents))
        if once * (len(latents) // len(once)) == latents:
            latents = once
        return torch.cat([noisy[latent] for latent in latents]), t.repeat(len(latents)), torch.cat(embeddings)

    def _average(
        self, mask: Float[Tensor, "batch 1 height width"], keys: Sequence[Hashable] | None
    ) -> Float[Tensor, "batch 1 height width"]:
        if keys is not None:
            mask = self._masks.update([(key, tuple(mask.shape[1:])) for key in keys], mask)
        return self._soften(mask)

    def _soften(self, mask: Tensor) -> Tensor:
        return 1 - self.config.localize * (1 - (sharpen(mask) if self.config.localize_by == "difference" else mask))

    def _weights(self) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
        """χ and ψ at every time, on the denoiser's device; renewed only when the configuration changes."""
        parameters = self._parameters()
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

    def _parameters(self) -> ObjectiveParameters:
        return ObjectiveParameters(self._stride(), self.config.dreamcatalyst, self.config.ssd, self.config.lusd)

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


def resolve_dtypes(name: str, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """What ``name`` means for the UNet and for the VAE (see ``GuidanceConfig.dtype``).

    An edit's gradient is the small difference of large predictions, so what counts of the UNet is the fineness of its
    numbers, of which float16 has eight times as many as bfloat16. Through the UNet only fixed-point noise is
    back-propagated, and that from a gradient of length one; through the VAE every edit is, from gradients of any size,
    and bfloat16 has float32's range.

    Raises:
        UserError: if there is no such choice.
    """
    if name == "auto":
        # Compute capability 8 (Ampere) brought bfloat16; older GPUs emulate it, slowly.
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        name = "mixed" if has_bfloat16 else "float32"
    pairs = {
        "mixed": (torch.float16, torch.bfloat16),
        **{str(dtype)[6:]: (dtype, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)},
    }
    if name not in pairs:
        raise UserError(f"There is no dtype '{name}': choose auto, {', '.join(pairs)}.")
    return pairs[name]


def _check_keys(keys: Sequence[Hashable] | None, batch: int) -> None:
    if keys is not None and len(keys) != batch:
        raise ValueError(f"{len(keys)} keys for a batch of {batch}")


def _per_element(weights: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
    return weights[:, None, None, None]


def _deviation(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 1 1"]:
    """Standard deviation of each element's numbers; never 0, so that nothing stays nothing when divided by it."""
    return x.flatten(1).std(1).clamp_min(torch.finfo(x.dtype).tiny)[:, None, None, None]


def _rms(x: Tensor) -> Float[Tensor, ""]:
    return x.square().mean().sqrt()
