"""Which weights a model's folder holds: in which variant, and whether all of them."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pds_nerfstudio.errors import UserError

_STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
_SHARD = r"-\d+-of-\d+"
# diffusers writes the variant before the number of a shard, and wrote it after it once.
_WEIGHTS = re.compile(
    rf"(?:diffusion_pytorch_model|pytorch_model|model)(?:{_SHARD})?(?:\.(?P<variant>\w+))?(?:{_SHARD})?"
    r"\.(?:safetensors|bin)"
)
_LIST_OF_SHARDS = re.compile(r"\w+\.(?:safetensors|bin)\.(?:(\w+)\.)?index(?:\.(\w+))?\.json")
_WITHOUT_WEIGHTS = re.compile(r"(?:Scheduler|Tokenizer|Processor|Extractor)(?:Fast)?$")


def needed_variant(files: Iterable[str], unused: Collection[str] = ()) -> str | None:
    """Return the variant of weights, such as 'fp16', that a model has to be loaded in.

    Args:
        files: Of the model: paths inside it, with slashes.
        unused: Parts that are not loaded.

    Returns:
        None if all parts have weights without a variant, or none.
    """
    variants: dict[str, set[str | None]] = {}
    for file in map(PurePosixPath, files):
        match = _WEIGHTS.fullmatch(file.name)
        if match and len(file.parts) == 2 and file.parts[0] not in unused:
            variants.setdefault(file.parts[0], set()).add(match["variant"])
    named = [{variant for variant in some if variant} for some in variants.values() if None not in some]
    if not named:
        return None
    return min(set.intersection(*named) or set.union(*named))


def variant_of(folder: Path, unused: Collection[str] = ()) -> str | None:
    """Return the variant that the model in a folder has to be loaded in; see `needed_variant`."""
    return needed_variant((path.relative_to(folder).as_posix() for path in _files(folder)), unused)


def missing_weights(folder: Path, index: Mapping[str, Any], unused: Collection[str] = ()) -> list[str]:
    """Return which files of weights a folder lacks, by their paths inside it.

    Args:
        folder: Of a model in diffusers' layout.
        index: Its model_index.json.
        unused: Parts that are not loaded.
    """
    there = {path.relative_to(folder).as_posix() for path in _files(folder)}
    variant = needed_variant(there, unused)
    missing = []
    for part, entry in index.items():
        if part in unused or not isinstance(entry, list) or entry[1] is None or _WITHOUT_WEIGHTS.search(entry[1]):
            continue
        sets = _sets_of_weights(folder / part, variant) or [{f"{_STEMS.get(entry[0], 'model')}.safetensors"}]
        lacking: list[list[str]] = [sorted({f"{part}/{name}" for name in names} - there) for names in sets]
        fewest: list[str] = min(lacking, key=len)
        missing += fewest
    return missing


def check_complete(folder: Path, name: str, index: Mapping[str, Any], unused: Collection[str] = ()) -> None:
    """Refuse a folder that lacks weights, as one whose download broke off.

    Args:
        folder: Of a model in diffusers' layout.
        name: What the user calls it.
        index: Its model_index.json.
        unused: Parts that are not loaded.

    Raises:
        UserError: Naming the model and a file.
    """
    missing = missing_weights(folder, index, unused)
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"The model '{name}' is incomplete, as if its download had broken off: it lacks {missing[0]}{others}; "
            "download or copy it again."
        )


def _files(folder: Path) -> list[Path]:
    """Return the files of a model's parts that can be read: links of a hub's cache may lead nowhere."""
    return [path for path in sorted(folder.glob("*/*")) if path.is_file()]


def _sets_of_weights(part: Path, variant: str | None) -> list[set[str]]:
    """Return sets of names of files, each of which is all the weights of a part: single files, and lists of shards."""
    sets: list[set[str]] = []
    for path in sorted(part.glob("*")):
        shards = _LIST_OF_SHARDS.fullmatch(path.name)
        if shards and (shards[1] or shards[2]) in (None, variant):
            sets.append(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        weights = _WEIGHTS.fullmatch(path.name)
        if weights and weights["variant"] in (None, variant) and not re.search(_SHARD, path.name):
            sets.append({path.name})
    return sets
