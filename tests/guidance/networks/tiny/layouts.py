"""Stable Diffusion 1.5 in the layouts that its files come in: precisions, formats, shards, the hub's cache, and torsos.

A kind whose folder holds a `hub` is named as the hub names it: see `model_name`.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from tests.guidance.networks.tiny.registry import kind
from tests.guidance.networks.tiny.sd import pipeline, safety_checker

_HUB, _OWNER = "hub", "tiny"


@kind
def sd15_fp16_variant(folder: Path) -> None:
    import torch

    pipeline().to(torch.float16).save_pretrained(folder, variant="fp16")


@kind
def sd15_fp16_plain_name(folder: Path) -> None:
    import torch

    pipeline().to(torch.float16).save_pretrained(folder)


@kind
def sd15_both_variants(folder: Path) -> None:
    import torch

    both = pipeline()
    both.save_pretrained(folder)
    both.to(torch.float16).save_pretrained(folder, variant="fp16")


@kind
def sd15_sharded(folder: Path) -> None:
    pipeline().save_pretrained(folder, max_shard_size="200KB")


@kind
def sd15_sharded_fp16_variant(folder: Path) -> None:
    import torch

    pipeline().to(torch.float16).save_pretrained(folder, max_shard_size="100KB", variant="fp16")


@kind
def sd15_bin(folder: Path) -> None:
    pipeline().save_pretrained(folder, safe_serialization=False)


@kind
def sd15_fp16_bin(folder: Path) -> None:
    import torch

    pipeline().to(torch.float16).save_pretrained(folder, safe_serialization=False, variant="fp16")


@kind
def sd15_old_bin(folder: Path) -> None:
    import torch

    torch.save(_old_text_encoder(folder), folder / "text_encoder" / "pytorch_model.bin")


@kind
def sd15_old_keys(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(_old_text_encoder(folder), folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})


def _old_text_encoder(folder: Path) -> dict[str, Any]:
    """Save a model without its text encoder's weights, and return them as of 2022: longer names, and positions."""
    import torch
    from safetensors.torch import load_file

    pipeline().save_pretrained(folder, safe_serialization=False)
    new = folder / "text_encoder" / "model.safetensors"
    weights = load_file(new)
    new.unlink()
    first = "text_model."
    named = {first + name.removeprefix(first): weight for name, weight in weights.items()}
    return {**named, "text_model.embeddings.position_ids": torch.arange(77)[None]}


@kind
def sd15_old_index(folder: Path) -> None:
    pipeline(**safety_checker()).save_pretrained(folder)
    file = folder / "model_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    index |= {"feature_extractor": ["transformers", "CLIPFeatureExtractor"], "_diffusers_version": "0.6.0"}
    file.write_text(json.dumps(index), encoding="utf-8")


@kind
def sd15_missing_shard(folder: Path) -> None:
    sd15_sharded(folder)
    sorted((folder / "unet").glob("*-of-*.safetensors"))[1].unlink()


@kind
def sd15_missing_weights(folder: Path) -> None:
    pipeline().save_pretrained(folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()


@kind
def cached(folder: Path) -> None:
    _cache(folder, sd15_both_variants)


@kind
def cached_without_safety_checker(folder: Path) -> None:
    def with_safety_checker(plain: Path) -> None:
        pipeline(**safety_checker()).save_pretrained(plain)

    _cache(folder, with_safety_checker, lambda file: file.parts[0] in ("safety_checker", "feature_extractor"))


@kind
def cached_only_fp16(folder: Path) -> None:
    _cache(folder, sd15_both_variants, lambda file: file.suffix == ".safetensors" and ".fp16." not in file.name)


@kind
def cached_half(folder: Path) -> None:
    _cache(folder, sd15_sharded, lambda file: file.parts[0] == "vae")


@kind
def cached_half_sharded(folder: Path) -> None:
    _cache(folder, sd15_sharded, lambda file: "-00002-of-" in file.name)


def _cache(folder: Path, build: Callable[[Path], None], skip: Callable[[Path], bool] = lambda file: False) -> None:
    """Lay a model out as the hub's cache does: blobs by their hash, and snapshots of links to them.

    Args:
        folder: Whose `hub` becomes the cache.
        build: Makes the model.
        skip: Which of its files, by their path inside, are not downloaded yet.
    """
    plain = folder / "plain"
    build(plain)
    repository = folder / _HUB / f"models--{_OWNER}--{folder.name}"
    commit = sha1(folder.name.encode()).hexdigest()
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    (repository / "blobs").mkdir()
    for file in sorted(plain.rglob("*")):
        inside = file.relative_to(plain)
        if file.is_dir() or skip(inside):
            continue
        blob = repository / "blobs" / sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        link = repository / "snapshots" / commit / inside
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    shutil.rmtree(plain)


def model_name(folder: Path) -> str:
    """Return what a user names as the model: a folder, or the id of a model that is in the hub's cache."""
    return f"{_OWNER}/{folder.name}" if (folder / _HUB).is_dir() else str(folder)


@contextmanager
def offline_hub(folder: Path) -> Iterator[None]:
    """Let libraries see a built folder's `hub` as the hub's cache, and no network."""
    from unittest.mock import patch

    import diffusers.pipelines.pipeline_utils as pipelines
    from huggingface_hub import constants

    with (
        patch.object(constants, "HF_HUB_CACHE", str(folder / _HUB)),
        patch.object(constants, "HF_HUB_OFFLINE", True),
        patch.object(pipelines, "model_info", _no_network),
    ):
        yield


def _no_network(*arguments: object, **options: object) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    raise OfflineModeIsEnabled("there is no network")
