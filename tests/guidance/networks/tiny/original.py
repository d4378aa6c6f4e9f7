"""Stable Diffusion 1 and XL in one file, by the names that their weights had first (Rombach et al. 2022)."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_UNET = {
    r"^conv_in": "input_blocks.0.0",
    r"^time_embedding\.linear_1": "time_embed.0",
    r"^time_embedding\.linear_2": "time_embed.2",
    r"^add_embedding\.linear_1": "label_emb.0.0",
    r"^add_embedding\.linear_2": "label_emb.0.2",
    r"^conv_norm_out": "out.0",
    r"^conv_out": "out.2",
    r"^mid_block\.resnets\.0": "middle_block.0",
    r"^mid_block\.attentions\.0": "middle_block.1",
    r"^mid_block\.resnets\.1": "middle_block.2",
}
_UNET_RESNET = {
    r"\.norm1\.": ".in_layers.0.",
    r"\.conv1\.": ".in_layers.2.",
    r"\.time_emb_proj\.": ".emb_layers.1.",
    r"\.norm2\.": ".out_layers.0.",
    r"\.conv2\.": ".out_layers.3.",
    r"\.conv_shortcut\.": ".skip_connection.",
}
_VAE = {
    r"\.down_blocks\.(\d+)\.resnets\.": r".down.\1.block.",
    r"\.down_blocks\.(\d+)\.downsamplers\.0\.": r".down.\1.downsample.",
    r"\.up\.(\d+)\.resnets\.": r".up.\1.block.",
    r"\.up\.(\d+)\.upsamplers\.0\.": r".up.\1.upsample.",
    r"\.mid_block\.resnets\.0\.": ".mid.block_1.",
    r"\.mid_block\.resnets\.1\.": ".mid.block_2.",
    r"\.mid_block\.attentions\.0\.": ".mid.attn_1.",
    r"\.conv_norm_out\.": ".norm_out.",
    r"\.conv_shortcut\.": ".nin_shortcut.",
    r"\.group_norm\.": ".norm.",
    r"\.to_([qkv])\.": r".\1.",
    r"\.to_out\.0\.": ".proj_out.",
}
_OPEN_CLIP = {
    r"^embeddings\.position_embedding\.weight": "positional_embedding",
    r"^embeddings\.token": "token",
    r"^final_layer_norm": "ln_final",
    r"^encoder\.layers\.": "transformer.resblocks.",
    r"\.self_attn\.": ".attn.",
    r"\.layer_norm([12])\.": r".ln_\1.",
    r"\.fc1\.": ".c_fc.",
    r"\.fc2\.": ".c_proj.",
}


def original_state(pipeline: Any) -> dict[str, Tensor]:
    """Return all weights of a pipeline of Stable Diffusion 1 or XL."""
    unet = pipeline.unet
    attending = {int(level) for level in re.findall(r"up_blocks\.(\d+)\.attentions", "\n".join(unet.state_dict()))}
    names = {name: _unet_name(name, unet.config.layers_per_block + 1, attending) for name in unet.state_dict()}
    state = {f"model.diffusion_model.{names[name]}": x for name, x in unet.state_dict().items()}
    levels = len(pipeline.vae.config.block_out_channels)
    for name, x in pipeline.vae.state_dict().items():
        linear = "attentions" in name and x.ndim == 2  # it was a convolution
        state[f"first_stage_model.{_vae_name(name, levels)}"] = x[..., None, None] if linear else x
    second = getattr(pipeline, "text_encoder_2", None)
    first = "cond_stage_model" if second is None else "conditioner.embedders.0"
    for name, x in pipeline.text_encoder.state_dict().items():
        state[f"{first}.transformer.text_model.{name.removeprefix('text_model.')}"] = x
    if second is not None:
        state |= {f"conditioner.embedders.1.model.{name}": x for name, x in _open_clip(second.state_dict()).items()}
    return {name: x.contiguous() for name, x in state.items()}


def save_original(pipeline: Any, path: Path) -> Path:
    """Save a pipeline of Stable Diffusion 1 or XL in one file."""
    from safetensors.torch import save_file

    state = original_state(pipeline)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    return path


def _open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a text encoder's weights as OpenCLIP has them: queries, keys and values in one, the projection turned."""
    found: dict[str, Tensor] = {}
    for name, x in state.items():
        short = name.removeprefix("text_model.")
        if short == "text_projection.weight":
            found["text_projection"] = x.T
        elif ".q_proj." in short:
            all_three = torch.cat([state[name.replace("q_proj", f"{which}_proj")] for which in "qkv"])
            found[_replaced(short, _OPEN_CLIP).replace("q_proj.", "in_proj_")] = all_three
        elif not re.search(r"\.[kv]_proj\.", short):
            found[_replaced(short, _OPEN_CLIP)] = x
    return found


def _unet_name(name: str, layers: int, attending: Collection[int]) -> str:
    """Return a weight's first name, where each level of a half takes `layers` numbers.

    Args:
        name: Of the weight.
        layers: So many.
        attending: The levels of the way up that have attention.
    """
    name = _replaced(name, _UNET)
    match = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.", name)
    if match:
        half, level, what, layer = match[1], int(match[2]), match[3], int(match[4])
        rest = name[match.end() :]
        if what == "downsamplers":
            return f"input_blocks.{(level + 1) * layers}.0.op.{rest.removeprefix('conv.')}"
        if what == "upsamplers":  # after a ResNet and attention, if there is any
            return f"output_blocks.{level * layers + layers - 1}.{2 if level in attending else 1}.{rest}"
        number = level * layers + layer
        block = f"input_blocks.{number + 1}" if half == "down" else f"output_blocks.{number}"
        name = f"{block}.{0 if what == 'resnets' else 1}.{rest}"
    resnet = re.match(r"(input_blocks|output_blocks)\.\d+\.0\.|middle_block\.[02]\.", name)
    return _replaced(name, _UNET_RESNET) if resnet else name


def _vae_name(name: str, levels: int) -> str:
    """Return a weight's first name; the decoder's levels were counted from the picture."""
    name = re.sub(r"\.up_blocks\.(\d+)\.", lambda match: f".up.{levels - 1 - int(match[1])}.", name)
    return _replaced(name, _VAE)


def _replaced(name: str, patterns: dict[str, str]) -> str:
    for pattern, replacement in patterns.items():
        name = re.sub(pattern, replacement, name)
    return name
