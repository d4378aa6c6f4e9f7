"""The one class that every editor uses: a rendered image goes in, the gradient that edits it comes out."""

import dataclasses
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pds_nerfstudio.guidance.config import GuidanceConfig, load_options, resolve_device
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.draws import Draws
from pds_nerfstudio.guidance.fixed_point import agreeing_noise
from pds_nerfstudio.guidance.flow_edit import QUICK_DRAFT, FlowEdit, FlowEditConfig
from pds_nerfstudio.guidance.gradient import GradientTerms, GuidanceOutput, ObjectiveGradient
from pds_nerfstudio.guidance.latents import ImageEncoder, Keys, check_images, check_latents, resize
from pds_nerfstudio.guidance.masks import MaskAverage, soften
from pds_nerfstudio.guidance.networks.loading import load_network
from pds_nerfstudio.guidance.prompted import PromptedDenoiser
from pds_nerfstudio.guidance.redraw import RedrawConfig, edited_region, put_back, redraw_latents
from pds_nerfstudio.guidance.timesteps import Timesteps

Images = Float[Tensor, "batch 3 height width"]
Latents = Float[Tensor, "batch channels height width"]
Masks = Float[Tensor, "#batch 1 height width"]


class Guidance:
    """Turns (image, source image, source prompt, target prompt) into a gradient that edits the image.

    The loss of a step is ½‖x − sg(x − g)‖², summed over all numbers of all elements of the batch, where x is the target
    latent, sg stops gradients, and g is the objective's gradient (see `objectives`). Its gradient on x is therefore
    exactly g: not divided by batch size, pixels or channels. Adam does not care; for other optimisers scale the loss.

    Args:
        config: How to edit. `reconfigure` replaces it.
        denoiser: The diffusion model.
        rank: Number of this process among those that edit together; each draws noise and times of its own.

    Raises:
        UserError: If the configuration is invalid.
    """

    def __init__(self, config: GuidanceConfig, denoiser: Denoiser, rank: int = 0) -> None:
        config.check()
        self.denoiser = denoiser
        self._prompted = PromptedDenoiser(denoiser, config.negative_prompt or None)
        self._draws = Draws(config.seed + rank, denoiser.device)
        self._encode = ImageEncoder(denoiser, config.resolution or denoiser.resolution, config.cache_size)
        self._masks = MaskAverage(config.cache_size)
        self._configure(config)

    @classmethod
    def from_config(cls, config: GuidanceConfig, device: torch.device | str, rank: int = 0) -> "Guidance":
        """Load the model that `config` names, onto `device` if that says 'auto'.

        Raises:
            UserError: If the configuration is invalid, or the model or device is not available.
        """
        config.check()
        chosen = resolve_device(config.device, torch.device(device))
        network = load_network(config.model, partial(load_options, config, chosen), config.model_config or None)
        return cls(config, Denoiser(network), rank)

    def reconfigure(self, **changes: Any) -> None:
        """Change settings while an edit runs: all of them or, if one is invalid, none.

        Args:
            changes: New values by the names of `GuidanceConfig`'s fields.

        Raises:
            UserError: If the result is not valid for this model.
        """
        (config := dataclasses.replace(self.config, **changes)).check()
        self._configure(config)

    def _configure(self, config: GuidanceConfig) -> None:
        config = config.for_model(self.denoiser.network.guidance_scale)
        times = Timesteps.of(config, self.denoiser.schedule, self.denoiser.device)
        gradient = ObjectiveGradient(config, self._prompted, self._masks)
        self.config, self._times, self._gradient = config, times, gradient  # all, after nothing was refused

    @property
    def prompts(self) -> tuple[list[str], list[str]] | None:
        """The source and the target prompts, once set: one each, or one each for every element of a batch."""
        return self._prompted.prompts

    def set_prompts(self, source: str | Sequence[str], target: str | Sequence[str]) -> None:
        """Say what the source shows and what it should become. May be called again at any time.

        Args:
            source: Describes the source image; or one description for each element of the batches to come.
            target: Describes the edited image; best the source prompt with only the edit changed.

        Raises:
            UserError: If one of them is empty.
            ValueError: If there are not as many sources as targets.
        """
        if self._prompted.set_prompts(source, target):
            self._masks.clear()

    def __call__(self, image: Images, source_image: Images, progress: float, keys: Keys = None) -> GuidanceOutput:
        """Take one step of guidance on images.

        Args:
            image: The current images, values in [0, 1]; gradients flow back to them.
            source_image: The same views before the edit, values in [0, 1].
            progress: Share of the run that is done, from 0 to 1.
            keys: One for each element, which stands for that source image from now on: its latent is encoded once and
                its mask averaged over the steps. None encodes the source at every step.

        Raises:
            UserError: If no prompts are set, or the images are too small.
            ValueError: If the shapes or the number of keys do not fit.
        """
        check_images(image, source_image, keys)
        source = self._encode.sources(source_image, keys)
        output = self.latent_loss(self._encode(image), source, progress, keys)
        return dataclasses.replace(output, loss=output.loss.to(image.device))

    def image_gradient(
        self, image: Images, source_image: Images, progress: float, keys: Keys = None
    ) -> tuple[Images, GuidanceOutput]:
        """Return the gradient on the image itself, and the step it came from, whose graph is gone.

        For editors that walk the graph of a render once, with other losses. Arguments and errors as in `__call__`.
        """
        leaf = image.detach().requires_grad_()
        output = self(leaf, source_image, progress, keys)
        (gradient,) = torch.autograd.grad(output.loss, leaf)
        return gradient, dataclasses.replace(output, loss=output.loss.detach())

    def latent_loss(self, target: Latents, source: Latents, progress: float, keys: Keys = None) -> GuidanceOutput:
        """Take one step of guidance on latents, for editors whose parameter is the latent itself.

        Args:
            target: The current latents; gradients flow back to them.
            source: The latents before the edit.
            progress: Share of the run that is done, from 0 to 1.
            keys: One for each element, under which its mask is averaged over the steps.

        Raises:
            UserError: If no prompts are set.
            ValueError: If the shapes or the number of keys do not fit.
        """
        z = target.to(self.denoiser.device, self.denoiser.result_dtype)
        samples = self.config.samples
        targets, sources = (x.detach().repeat_interleave(samples, dim=0) for x in (z, source.to(z)))
        t = self.draw_timesteps(len(targets), progress)
        noise = agreeing_noise(self._prompted, sources, self._draws.noise(targets), t, self.config)
        each = None if keys is None else [key for key in keys for _ in range(samples)]
        terms = self.gradient_terms(targets, sources, t, noise, each, progress).averaged(samples)
        return GuidanceOutput.of(target, z, source, terms, t.unflatten(0, (-1, samples)))

    def gradient_terms(
        self,
        target: Latents,
        source: Latents,
        t: Int[Tensor, " batch"],
        noise: Latents,
        keys: Keys = None,
        progress: float = 0.0,
    ) -> GradientTerms:
        """Return the gradient for given times and noise; random numbers are drawn elsewhere.

        Args:
            target: The current latents.
            source: The latents before the edit.
            t: One time for each element, not below the stride, on the denoiser's device, as the noise is.
            noise: Standard normal. Source and target get the same.
            keys: See `latent_loss`, as of other arguments and errors. With `localize`, the masks' averages move on.
            progress: Share of the run that is done, from 0 to 1.
        """
        check_latents(target, source, keys)
        device, dtype = self.denoiser.device, self.denoiser.result_dtype
        return self._gradient(target.to(device, dtype), source.to(device, dtype), t, noise, keys, progress)

    @torch.no_grad()
    def redraw_latents(
        self, target: Latents, source: Latents, config: RedrawConfig, allowed: Masks | None = None
    ) -> Latents:
        """Sharpen what an edit has changed, by SDEdit towards the target prompt. Moves the random state on.

        Args:
            target: The edited latents.
            source: The latents before the edit, to which all goes back that the edit has hardly changed.
            config: How strongly to redraw.
            allowed: Where anything may change at all, in [0, 1]; None is everywhere.

        Raises:
            UserError: If no prompts are set or the configuration is invalid.
        """
        config.check()
        device, dtype = self.denoiser.device, self.denoiser.result_dtype
        target, source = target.to(device, dtype), source.to(device, dtype)
        mask = edited_region(target, source) * (1 if allowed is None else allowed.to(target))
        return redraw_latents(self._prompted, self._draws, target, source, mask, config, self.config)

    def flow_edit(self, source: Latents, config: FlowEditConfig, allowed: Masks | None = None) -> FlowEdit:
        """Begin an edit from noise to none, which needs no optimiser. Its steps move the random state on.

        Args:
            source: The latents before the edit.
            config: How to edit; not off.
            allowed: See `redraw_latents`.

        Raises:
            UserError: If the configuration is invalid; by its steps, if no prompts are set.
        """
        config.check()
        source = source.to(self.denoiser.device, self.denoiser.result_dtype)
        return FlowEdit(self._prompted, self._draws, source, source, config, self.config, allowed)

    @torch.no_grad()
    def round_trip(self, source_image: Images, keys: Keys = None) -> Images:
        """Return source images as the model sees them: encoded and decoded, without the detail that this takes.

        What an edit has changed is what differs from these, not from the source images. Arguments and errors as in
        `__call__`.
        """
        check_images(source_image, source_image, keys)
        return self._decoded(self._encode.sources(source_image, keys), source_image)

    @torch.no_grad()
    def redraw(
        self,
        image: Images,
        source_image: Images,
        config: RedrawConfig,
        keys: Keys = None,
        unedited: Images | None = None,
    ) -> Images:
        """Return the images as the model redraws them for the target prompt: what a refinement fits the scene to.

        With `localize`, what lies outside the masks that the edit has learned is unedited; views never seen under their
        key have no mask and are redrawn whole. Redrawing by a `flow_edit` learns masks, too. Other arguments and errors
        as in `__call__`.

        Args:
            image: What the edit has made.
            source_image: The same before the edit.
            config: How to redraw.
            keys: One of each image.
            unedited: What the results show where nothing is edited; None is the source images.
        """
        config.check()
        check_images(image, source_image, keys)
        latents, source = self._encode(image), self._encode.sources(source_image, keys)
        everywhere = torch.ones_like(latents[:, :1])
        shape = tuple(everywhere.shape[1:])
        learn = None if keys is None else partial(self._masks.update, [(key, shape) for key in keys])
        given = latents, source, everywhere, config, self.config, learn
        redrawn = redraw_latents(self._prompted, self._draws, *given)
        return self.finish_redrawing(redrawn, source_image if unedited is None else unedited, keys)

    @torch.no_grad()
    def redraw_together(
        self,
        images: Sequence[Images],
        source_images: Sequence[Images],
        config: FlowEditConfig,
        keys: Sequence[Hashable],
        key_views: int,
    ) -> FlowEdit:
        """Begin to redraw views of one scene which see some of each other while they are drawn; see `redraw`.

        Its latents go to `finish_redrawing`, one by one. Learns masks where nothing else has localized.

        Args:
            images: What the edit has made, one by one, all of a size.
            source_images: The same before the edit.
            config: How to redraw; not off.
            keys: One of each image.
            key_views: How many all others see, the first.

        Raises:
            UserError: If the configuration is invalid, or the model can't let views see each other.
        """
        config.check()
        latents = torch.cat([self._encode(image) for image in images])
        source = torch.cat([self._encode.sources(x, [key]) for x, key in zip(source_images, keys, strict=True)])
        shape = (1, *latents.shape[-2:])
        learn = partial(self._masks.update, [(key, shape) for key in keys])
        return FlowEdit(self._prompted, self._draws, source, latents, config, self.config, None, learn, key_views)

    @torch.no_grad()
    def finish_redrawing(
        self,
        latents: Float[Tensor, "batch channels latent_height latent_width"],
        unedited: Images,
        keys: Keys = None,
    ) -> Images:
        """Return redrawn latents as images of the size of the unedited ones, which are put back outside their masks."""
        redrawn = self._decoded(latents, unedited)
        if keys is None or self.config.localize == 0:
            return redrawn
        masks = soften(self._masks.learned(keys, torch.ones_like(latents[:, :1])), self.config)
        return put_back(redrawn, unedited, masks)

    def _decoded(self, latents: Latents, like: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch 3 _ _"]:
        return resize(self.denoiser.decode_latents(latents), (like.shape[-2], like.shape[-1])).to(like)

    @torch.no_grad()
    def draft(
        self, image: Images, source: str, target: str, config: FlowEditConfig = QUICK_DRAFT, seed: int = 0
    ) -> Images:
        """Return images as an edit may come to show them: each by itself, drawn from noise to none in a few steps.

        Nothing that an edit depends on changes: neither its prompts nor its random state.

        Args:
            image: What is to be edited, values in [0, 1].
            source: Describes it.
            target: Describes what it should become.
            config: How to draw.
            seed: Of the noise.

        Raises:
            UserError: If a prompt is empty, or the images are too small.
        """
        config.check()
        check_images(image, image, None)
        prompted = PromptedDenoiser(self.denoiser, self.config.negative_prompt or None)
        prompted.set_prompts(source, target)
        latents = self._encode(image)
        edit = FlowEdit(prompted, Draws(seed, self.denoiser.device), latents, latents, config, self.config)
        return self._decoded(edit.run(), image).clamp(0, 1)

    @torch.no_grad()
    def look(
        self, source_image: Float[Tensor, "1 3 _ _"], looks: int, seed: int, keys: Keys = None, batch: int = 1
    ) -> Float[Tensor, "1 1 _ _"]:
        """Return where the text is to act on a view, before any edit; see `ObjectiveGradient.look`.

        The random state does not move on: times, spread over a run, and noise are drawn from a seed.
        """
        draws, steps = Draws(seed, self.denoiser.device), torch.linspace(0, 1, looks).tolist()
        times = torch.cat([self._times.draw(1, progress, draws.generator) for progress in steps])
        return self._gradient.look(self._encode.sources(source_image, keys), times, draws, batch)

    def draw_timesteps(self, batch: int, progress: float) -> Int[Tensor, " batch"]:
        """Return one time for each element, as the configuration says. Moves the random state on."""
        return self._times.draw(batch, progress, self._draws.generator)

    def forget_sources(self) -> None:
        """Forget all source latents and masks, for when the source images themselves change."""
        self._encode.forget_sources()
        self._masks.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the random state and the masks, all that a resumed run needs to go on as if it had not stopped."""
        return {"generator": self._draws.state(), "masks": self._masks.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, of which the random state may be left out."""
        self._masks.load_state_dict(state.get("masks", []), self.denoiser.device)
        if "generator" in state:
            self._draws.go_on_from(state["generator"])
