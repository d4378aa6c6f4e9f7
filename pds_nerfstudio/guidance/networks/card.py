"""What is known of a model before its weights are looked at: its index and its parts' configurations."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pds_nerfstudio.errors import UserError

INDEX = "model_index.json"
_LIBRARIES = ("diffusers", "transformers")
"""Whose classes a model's parts can be."""
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that no edit needs."""


@dataclass(frozen=True)
class ModelCard:
    """The small files of a model in diffusers' layout, on this machine or on a hub."""

    name: str
    """What the user calls it."""
    locate: Callable[[str], Path | None]
    """Where one of its files is, by the path inside the model; fetched if it is on a hub. None if there is no such."""
    index: dict[str, Any]
    """Its model_index.json."""
    checkpoint: Path | None = None
    """The one file that its weights are in, where they aren't in the folder."""
    only_network: bool = False
    """Whether that file holds the denoising model alone, and the folder the weights of all else."""

    @classmethod
    def read(
        cls,
        name: str,
        locate: Callable[[str], Path | None],
        checkpoint: Path | None = None,
        only_network: bool = False,
    ) -> "ModelCard":
        """Return the card of a model.

        Raises:
            UserError: If it has no index, or a damaged one.
        """
        path = locate(INDEX)
        if path is None:
            raise UserError(
                f"'{name}' is no diffusers model (it has no {INDEX}): give a folder or hub id of a whole pipeline."
            )
        try:
            index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"The {INDEX} of '{name}' is damaged: download or save the model again.") from error
        _refuse_code(name, index)
        return cls(name, locate, index, checkpoint, only_network)

    @property
    def kind(self) -> str:
        """The class of its pipeline."""
        return str(self.index.get("_class_name"))

    @property
    def network_part(self) -> str:
        """The name of its denoising model's part."""
        return "unet" if self.has("unet") else "transformer"

    @property
    def folder(self) -> Path:
        """Where it is on this machine.

        Raises:
            UserError: If it isn't there.
        """
        path = self.locate(INDEX)
        if path is None:
            raise UserError(f"The model '{self.name}' is not on this machine: download it again.")
        return path.parent

    def has(self, part: str) -> bool:
        """Return whether it is said to have a part."""
        return self.part_class(part) is not None

    def part_class(self, part: str) -> str | None:
        """Return the name of a part's class, None if it has no such part."""
        entry = self.index.get(part)
        return entry[1] if isinstance(entry, list) and len(entry) == 2 else None

    def config(self, part: str) -> dict[str, Any]:
        """Return the configuration of a part; an empty one if the part is said to be absent.

        Raises:
            UserError: If it has none, or a damaged one.
        """
        if not self.has(part):
            return {}
        file = "scheduler_config.json" if part == "scheduler" else "config.json"
        path = self.locate(f"{part}/{file}")
        if path is None:
            raise UserError(f"The model '{self.name}' lacks its {part} ({part}/{file}): download or save it again.")
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"The {part}/{file} of '{self.name}' is damaged: download or save it again.") from error
        if not isinstance(config, dict):
            raise UserError(f"The {part}/{file} of '{self.name}' is damaged: download or save it again.")
        return config


def _refuse_code(name: str, index: Any) -> None:
    """Refuse a model that brings code of its own, which some versions of diffusers would run (UserError)."""
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(kind, str):
        what = "" if kind is None else f" ({kind})"
        raise UserError(
            f"The {INDEX} of '{name}' names no pipeline of diffusers{what}: give a model without code of its own."
        )
    for part, entry in index.items():
        named = isinstance(entry, list) and len(entry) == 2 and any(isinstance(word, str) for word in entry)
        if not named or part in UNUSED:
            continue
        if entry[0] not in _LIBRARIES or not isinstance(entry[1], str) or not part.isidentifier():
            raise UserError(
                f"'{name}' has a {part} that is none of {' and '.join(_LIBRARIES)} ({'.'.join(map(str, entry))}), and "
                "no code that comes with a model is run: give a model without it."
            )


def card_of_folder(
    folder: Path, name: str | None = None, checkpoint: Path | None = None, only_network: bool = False
) -> ModelCard:
    """Return the card of a model in a folder (UserError if that holds none, or lacks parts)."""

    def locate(file: str) -> Path | None:
        return path if (path := folder / file).is_file() else None

    card = ModelCard.read(name or str(folder), locate, checkpoint, only_network)
    parts = (part for part in card.index if card.has(part) and part not in UNUSED)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise UserError(f"The model '{card.name}' lacks its {' and '.join(missing)}: download or save it again.")
    return card
