"""The rectified flow over the embedded VAE before training: Stable Diffusion 3's parts, small, and its pipeline."""

from __future__ import annotations

import inspect

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from jaxtyping import Float, Int
from torch import Tensor, nn
from toyworld_networks import TEXT_LENGTH
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

T5_LENGTH: int = inspect.signature(StableDiffusion3Pipeline.encode_prompt).parameters["max_sequence_length"].default
"""Tokens of zeros that the pipeline puts behind a caption in place of a T5 encoder's."""
WIDTHS = (128, 64)
"""Of the two text encoders."""


class TextToFlow(nn.Module):
    """The transformer and both text encoders, trained together on what the pipeline's `encode_prompt` would give.

    The zeros that stand for T5 have no position, so that all of them are the same token in every layer. One is carried
    through the network, and only attention sees its keys and values as often as they come: the result is the
    pipeline's own, with 41 tokens of text in place of 296.

    Args:
        tokenizer: Whose tokens it reads.
        latent_size: Side of the latents.
    """

    def __init__(self, tokenizer: CLIPTokenizer, latent_size: int) -> None:
        super().__init__()
        heads, head_width = 3, 48
        self.text, self.text_2 = (_text_encoder(tokenizer, width) for width in WIDTHS)
        self.transformer = SD3Transformer2DModel(
            sample_size=latent_size,
            patch_size=1,  # at 16×16 latents, every one counts
            in_channels=4,
            out_channels=4,
            num_layers=8,
            attention_head_dim=head_width,
            num_attention_heads=heads,
            joint_attention_dim=sum(WIDTHS),
            caption_projection_dim=heads * head_width,
            pooled_projection_dim=sum(WIDTHS),
            pos_embed_max_size=2 * latent_size,
            qk_norm="rms_norm",
        )
        _begin_as_identity(self.transformer)
        for block in self.transformer.transformer_blocks:
            for projection in (block.attn.add_k_proj, block.attn.add_v_proj):
                projection.register_forward_hook(_repeat_last)

    def forward(
        self,
        noisy: Float[Tensor, "batch 4 height width"],
        time: Float[Tensor, " batch"],
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch 4 height width"]:
        """Return the velocity ε − x at `noisy` = (1 − time)·x + time·ε, as the caption's tokens explain it."""
        said = [encoder(tokens, output_hidden_states=True) for encoder in (self.text, self.text_2)]
        states = torch.cat([one.hidden_states[-2] for one in said], -1)
        return self.transformer(
            noisy,
            encoder_hidden_states=torch.cat([states, torch.zeros_like(states[:, :1])], 1),
            pooled_projections=torch.cat([one.text_embeds for one in said], -1),
            timestep=1000 * time,
            return_dict=False,
        )[0]

    def pipeline(self, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
        """Return an ordinary pipeline with these weights; it shares the text encoders and the VAE."""
        transformer = SD3Transformer2DModel.from_config(self.transformer.config)  # without the hooks
        transformer.load_state_dict(self.transformer.state_dict())
        vae.register_to_config(shift_factor=0.0)  # None, as Stable Diffusion's is, this pipeline can't add
        return StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
            vae=vae,
            text_encoder=self.text,
            tokenizer=tokenizer,
            text_encoder_2=self.text_2,
            tokenizer_2=tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )


def draw_times(n: int, device: torch.device) -> Float[Tensor, " n"]:
    """Draw flow times in 0..1: nine of ten logit-normal (Esser et al. 2024, eq. 19 with m = 0, s = 1), one evenly.

    Logit-normal times hardly ever come near 0 or 1, where a sampler begins and ends.
    """
    middle = torch.randn(n, device=device).sigmoid()
    return torch.where(torch.rand(n, device=device) < 0.1, torch.rand(n, device=device), middle)


def _text_encoder(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=3,
            num_attention_heads=width // 32,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _begin_as_identity(transformer: SD3Transformer2DModel) -> None:
    """Initialise as DiT does (Peebles & Xie 2023, adaLN-Zero): at first every block passes on what it is given."""
    for name, module in transformer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if "norm" in name or name == "proj_out":  # a modulation by time and text, or the end
            nn.init.zeros_(module.weight)


def _repeat_last(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.cat([output, output[:, -1:].expand(-1, T5_LENGTH - 1, -1)], 1)
