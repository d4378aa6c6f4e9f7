"""Tokenizers, text encoders and autoencoders that tiny models are put together from."""

from typing import Any

# What wraps a conversation for language models that encode prompts.
CHAT_TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.content is string %}{{- m.content }}"
    "{%- else %}{%- for c in m.content %}"
    "{{- c.text if c.text is defined else '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
_CHAT_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_CHAT_VOCABULARY = 400


def _bytes_as_letters() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())


def clip_tokenizer(max_length: int = 77) -> Any:
    """A CLIP tokenizer that spells every word."""
    from transformers import CLIPTokenizer

    letters = _bytes_as_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=max_length, pad_token="<|endoftext|>")


def clip(projection: int | None = None, positions: int = 77, **options: Any) -> Any:
    """A CLIP text encoder of width 32; with a projection also of the whole text."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=positions,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        projection_dim=projection or 32,
        **options,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5_tokenizer() -> Any:
    """A T5 tokenizer that spells every word."""
    from transformers import T5Tokenizer

    letters = [(chr(code), -3.0) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0), *letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def t5(width: int = 32) -> Any:
    """A T5 encoder."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=128,
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5EncoderModel(config)


def chat_tokenizer() -> Any:
    """A tokenizer of Qwen's kind, with a conversation's tokens."""
    from transformers import Qwen2Tokenizer

    vocabulary = {letter: number for number, letter in enumerate(_bytes_as_letters())}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=32768, extra_special_tokens=None)
    tokenizer.add_special_tokens({"additional_special_tokens": [*_CHAT_TOKENS, "<think>", "</think>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def qwen3(layers: int = 4, causal: bool = False) -> Any:
    """A Qwen 3 language model, or what is below its head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

    config = Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=_CHAT_VOCABULARY,
        max_position_embeddings=2048,
    )
    return (Qwen3ForCausalLM if causal else Qwen3Model)(config)


def qwen_vl() -> Any:
    """A Qwen 2.5 model of language and pictures."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokens = chat_tokenizer().get_added_vocab()
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": _CHAT_VOCABULARY,
            "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
        },
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def mistral3() -> Any:
    """A Mistral 3 model of language and pictures, as deep as FLUX.2 looks into it."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": _CHAT_VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 37,
            "max_position_embeddings": 512,
            "num_attention_heads": 4,
            "num_hidden_layers": 32,
            "num_key_value_heads": 2,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 37,
            "image_size": 30,
            "patch_size": 6,
            "num_channels": 3,
        },
        image_token_index=1,
    )
    return Mistral3ForConditionalGeneration(config)


def gemma_tokenizer() -> Any:
    """A Gemma tokenizer that spells every word."""
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*special, "▁", *(chr(code) for code in range(33, 127))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=8192, padding_side="right")


def gemma2() -> Any:
    """A Gemma 2 language model without its head."""
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=512,
        max_position_embeddings=8192,
    )
    return Gemma2Model(config)


def kl_vae(channels: int = 4, scaling: float = 0.18215, levels: int = 4, **options: Any) -> Any:
    """A KL autoencoder of Stable Diffusion's kind, which halves pictures `levels` − 1 times."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(latent_channels=channels, scaling_factor=scaling, **_vae_blocks(levels), **options)


def flow_vae(scaling: float, shift: float) -> Any:
    """A KL autoencoder with 16 channels and a shift, as models of flows have since Stable Diffusion 3."""
    return kl_vae(16, scaling, shift_factor=shift, use_quant_conv=False, use_post_quant_conv=False)


def flux2_vae() -> Any:
    """The autoencoder of FLUX.2: 32 channels, normalised in patches by statistics of a batch norm."""
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(latent_channels=32, **_vae_blocks(4))


def _vae_blocks(levels: int) -> dict[str, Any]:
    return {
        "block_out_channels": (8,) * levels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "sample_size": 64,
    }
