"""What `pds-benchmark` can edit: for each representation, how a drawn case becomes pictures to score.

A representation is made for one variant and refuses unknown options. `settings` returns everything that its results
depend on, `edit` makes them. A new one is one class and one row in `REPRESENTATIONS`.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_type_hints, runtime_checkable

import torch
import yaml
from filelock import FileLock
from nerfstudio.configs.base_config import MachineConfig
from nerfstudio.configs.method_configs import all_methods

from pds_nerfstudio.carry_back import carry_back
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.cases import EditCase
from pds_nerfstudio.evaluation.scene_edits import edit_scene, reconstruct
from pds_nerfstudio.evaluation.toyworld import Pictures, held_out_cameras, pictures
from pds_nerfstudio.evaluation.view_agreement import beside_true_edit, looks_of
from pds_nerfstudio.guidance.config import GuidanceConfig, resolve_device, resolve_dtypes
from pds_nerfstudio.guidance.denoiser import Denoiser
from pds_nerfstudio.guidance.guidance import Guidance
from pds_nerfstudio.guidance.networks.loading import EMBEDDED_MODEL
from pds_nerfstudio.guidance.objectives import make_objective
from pds_nerfstudio.guidance.redraw import RedrawConfig
from pds_nerfstudio.images.edit_loop import ImageEditConfig, ImageEditLoop, picture_guidance
from pds_nerfstudio.images.editor import ImageEditor
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.pipeline import EditPipelineConfig
from pds_nerfstudio.scenes.together import TogetherConfig
from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.drawing import PAPER, drawing
from pds_nerfstudio.toyworld.grammar import Style
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.loop import VectorEditConfig, VectorEditLoop, drawing_guidance
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.color import parse_color
from pds_nerfstudio.vector.svg.document import Document

Config = TypeVar("Config")
EditConfig = TypeVar("EditConfig", ImageEditConfig, VectorEditConfig)


@dataclass(frozen=True)
class Setup:
    """What all edits of a benchmark have in common."""

    seed: int
    """Seed of the noise."""
    size: int
    """Side of the pictures, in pixels."""
    views: int
    """Held-out cameras to judge a scene from."""
    device: str
    """'auto' for the first GPU, else the CPU."""
    out: Path
    """Folder for what is made on the way."""


@dataclass(frozen=True)
class Variant:
    """One way to edit: an objective and options, as in "pds,guidance_scale=15"."""

    text: str
    """As on the command line."""

    @property
    def options(self) -> dict[str, str]:
        """The options with their values, the objective among them.

        Raises:
            UserError: If there is no such objective, or a part is no name=value.
        """
        name, *parts = self.text.split(",")
        if wrong := [part for part in parts if "=" not in part]:
            raise UserError(f"'{wrong[0]}' in '{self.text}' is not of the form name=value.")
        options = dict(part.split("=", 1) for part in parts)
        of_the_objective = {field.name for field in fields(make_objective(name))}  # type: ignore[arg-type]
        objective = ",".join([name, *(f"{k}={v}" for k, v in options.items() if k in of_the_objective)])
        return {"objective": objective} | {k: v for k, v in options.items() if k not in of_the_objective}


@dataclass(frozen=True)
class Edited:
    """An edit to score, with what it is scored against; views of the same cameras."""

    before: Pictures
    """What was edited."""
    truth: Pictures
    """The true edit."""
    edited: Pictures
    """The edit."""
    seconds: float
    """How long it took."""
    view_difference_ratio: float = math.nan
    """See `EditScores`; only of scenes."""


@runtime_checkable
@runtime_checkable
class Representation(Protocol):
    """Something that can be edited in one way."""

    batch: int | None
    """How many cases to edit at a time; None leaves the choice to the user."""
    style: Style
    """Style of the cases' pictures: photos or drawings."""

    def settings(self) -> dict[str, Any]:
        """Return everything that a result depends on besides the case and the setup."""

    def edit(self, cases: Sequence[EditCase]) -> list[Edited]:
        """Edit cases together."""


class PictureEdits:
    """Edits of single pictures, by the loop of pds-image."""

    batch: int | None = None
    style: Style = "photo"

    def __init__(self, variant: Variant, setup: Setup) -> None:
        self.setup = setup
        self.guidance, self.config = _configured_by(variant, picture_guidance(), ImageEditConfig())

    def settings(self) -> dict[str, Any]:
        """Return the configurations of guidance and edit."""
        return {"guidance": asdict(self.guidance), "edit": asdict(self.config)}

    def edit(self, cases: Sequence[EditCase]) -> list[Edited]:
        """Edit the cases as one batch."""
        before, truth = (
            torch.cat([pictures(thing(case), case.camera(self.setup.size)) for case in cases])
            for thing in (lambda case: case.source, lambda case: case.target)
        )
        began = time.perf_counter()
        first = cases[0]
        noise = random.Random(f"{self.setup.seed} {first.kind} {first.index}").getrandbits(32)
        guidance = Guidance(replace(self.guidance, seed=noise), _denoiser(self.guidance.model, self.setup.device))
        sources, targets = zip(*(case.prompts for case in cases), strict=True)
        guidance.set_prompts(sources, targets)
        editor = ImageEditor(before, guidance, self.config.parameters)
        loop = ImageEditLoop(editor, self.config)
        while loop.done < loop.steps:
            loop.step()
        loop.finish()
        edited = carry_back(before, editor.before, editor.pictures())
        edited = (edited * 255).round() / 255  # as a file would hold it
        seconds = (time.perf_counter() - began) / len(cases)
        return [Edited(before[i : i + 1], truth[i : i + 1], edited[i : i + 1], seconds) for i in range(len(cases))]


class DrawingEdits:
    """Edits of SVGs, by the loop of pds-svg, from the front and on their paper."""

    batch: int | None = 1
    style: Style = "drawing"

    def __init__(self, variant: Variant, setup: Setup) -> None:
        self.setup = setup
        self.guidance, self.config = _configured_by(variant, drawing_guidance(), VectorEditConfig(background=PAPER))

    def settings(self) -> dict[str, Any]:
        """Return the configurations of guidance and edit."""
        return {"guidance": asdict(self.guidance), "edit": asdict(self.config)}

    def edit(self, cases: Sequence[EditCase]) -> list[Edited]:
        """Edit one case after the other."""
        return [self._edit(case) for case in cases]

    def _edit(self, case: EditCase) -> Edited:
        before, truth = (Document(drawing(thing).encode()) for thing in (case.source, case.target))
        began = time.perf_counter()
        denoiser = _denoiser(self.guidance.model, self.setup.device)
        guidance = Guidance(replace(self.guidance, seed=self.setup.seed), denoiser)
        guidance.set_prompts(*case.prompts)
        editor = VectorEditor(before, self.setup.size, self.config.groups, denoiser.device)
        loop = VectorEditLoop(editor, guidance, replace(self.config, seed=self.setup.seed))
        while loop.done < loop.steps:
            loop.step()
        edited, seconds = Document(editor.svg()), time.perf_counter() - began
        return Edited(self._picture(before), self._picture(truth), self._picture(edited), seconds)

    @torch.no_grad()
    def _picture(self, document: Document) -> Pictures:
        size, paper = self.setup.size, parse_color(PAPER)
        assert paper is not None
        background = torch.tensor(paper[:3])[:, None, None].expand(3, size, size)
        view = document.view(size, size)
        return Rasterizer(document.scene).render(document.parameters, size, size, view, background)[None]


class SceneEdits:
    """Edits of scenes, reconstructed and edited by ns-train with options for the embedded world and the variant's."""

    batch: int | None = 1
    style: Style = "photo"

    def __init__(self, variant: Variant, setup: Setup, method: str) -> None:
        self.method, self.setup, self.variant = method, setup, variant
        self.model = variant.options.get("model", EMBEDDED_MODEL)
        self.options = [part for name, value in variant.options.items() for part in (self._flag(name), value)]

    def _flag(self, name: str) -> str:
        """Return the option of ns-train that is called `name` in a variant."""
        if name == "steps":
            return "--max-num-iterations"
        for config, prefix in _SCENE_OPTIONS.items():
            if name in get_type_hints(config):
                return f"{prefix}{name.replace('_', '-')}"
        raise UserError(f"'{self.variant.text}': there is no option {name} of the guidance or of scenes.")

    def settings(self) -> dict[str, Any]:
        """Return the method with its configuration, and the variant's options."""
        guidance, config = {"model": self.model}, yaml.dump(all_methods[self.method])
        return {"method": self.method, "config": config, "options": self.options, "guidance": guidance}

    def edit(self, cases: Sequence[EditCase]) -> list[Edited]:
        """Edit one case after the other."""
        return [self._edit(case) for case in cases]

    def _edit(self, case: EditCase) -> Edited:
        about = f"{self.setup.size} {asdict(case.source)}"
        folder = self.setup.out / "scenes" / self.method / hashlib.sha256(about.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # another process may be about to edit the same scene in another way
            if not (folder / "scene" / "transforms.json").exists():
                size = self.setup.size
                for _ in write_scene(folder / "scene", case.source, case.target, width=size, height=size):
                    pass
            start = reconstruct(self.method, folder / "scene", folder, case.source, case.target)
        name = hashlib.sha256(f"{self.variant.text} {self.setup.seed} {case}".encode()).hexdigest()[:16]
        options = [*self.options, "--load-dir", start, "--show-edit", False, "--pipeline.guidance.seed"]
        began = time.perf_counter()
        edit_scene(self.method, folder / "scene", folder, name, case.source, case.target, [*options, self.setup.seed])
        seconds = time.perf_counter() - began
        finished = FinishedEdit(folder / name / self.method / "run" / "config.yml")
        cameras = held_out_cameras(self.setup.views, self.setup.size, self.setup.size)
        with torch.no_grad():
            edited = finished.render(cameras.camera_to_world, cameras.focal, cameras.width, cameras.height).cpu()
        agreement = beside_true_edit(case.target, cameras, functools.partial(looks_of, finished))
        return Edited(pictures(case.source, cameras), pictures(case.target, cameras), edited, seconds, agreement)


_SCENE_OPTIONS: dict[type, str] = {
    GuidanceConfig: "--pipeline.guidance.",
    RedrawConfig: "--pipeline.refinement.",
    TogetherConfig: "--pipeline.together.",
    EditPipelineConfig: "--pipeline.",
    EditNerfModelConfig: "--pipeline.model.",
    EditSplatModelConfig: "--pipeline.model.",
    MachineConfig: "--machine.",
}
"""Where an option of a variant belongs on ns-train's command line."""


REPRESENTATIONS: dict[str, Callable[[Variant, Setup], Representation]] = {
    "image": PictureEdits,
    "svg": DrawingEdits,
    "splat": functools.partial(SceneEdits, method="pds-splat-toyworld"),
    "nerf": functools.partial(SceneEdits, method="pds-nerf-toyworld"),
}
"""Every representation by its name on the command line."""


@functools.lru_cache(maxsize=1)
def _denoiser(model: str, device: str) -> Denoiser:
    where = resolve_device(device, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    dtype, vae_dtype = resolve_dtypes("auto", where)
    return Denoiser.from_pretrained(model, where, dtype, vae_dtype=vae_dtype)


def _configured_by(variant: Variant, guidance: GuidanceConfig, edit: EditConfig) -> tuple[GuidanceConfig, EditConfig]:
    """Return the configurations with the variant's options.

    Raises:
        UserError: If there is no such option, or a value means nothing.
    """
    guidance, rest = configured(guidance, variant.options)
    edit, rest = configured(edit, rest)
    if rest:
        raise UserError(f"'{variant.text}': there is no option {', '.join(rest)} of the guidance or of the edit.")
    guidance.check()
    edit.check()
    return guidance, edit


def configured(config: Config, options: dict[str, str]) -> tuple[Config, dict[str, str]]:
    """Return `config` with the options that are among its fields, and the options that aren't.

    Those of a configuration within it have its name and a dot before their own.

    Raises:
        UserError: If a value is no number where one is needed.
    """
    hints = get_type_hints(type(config))
    changes: dict[str, Any] = {}
    rest: dict[str, str] = {}
    within: dict[str, dict[str, str]] = {}
    for name, value in options.items():
        outer, _, inner = name.partition(".")
        kind = hints.get(outer)
        if inner and is_dataclass(kind):
            within.setdefault(outer, {})[inner] = value
        elif name not in hints or is_dataclass(kind):
            rest[name] = value
        else:
            try:
                changes[name] = kind(value) if kind in (int, float) else value
            except ValueError:
                raise UserError(f"{name} is '{value}': give a number.") from None
    for outer, own in within.items():
        changes[outer], unknown = configured(getattr(config, outer), own)
        rest |= {f"{outer}.{name}": value for name, value in unknown.items()}
    return replace(config, **changes), rest  # type: ignore[type-var]
