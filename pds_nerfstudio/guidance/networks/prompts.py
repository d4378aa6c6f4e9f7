"""Prompts to text embeddings, each prompt encoded once."""

import difflib
import itertools
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pds_nerfstudio.guidance.networks.libraries import quiet_libraries
from pds_nerfstudio.one_line import one_line


class PromptEncoder:
    """A tokenizer and a CLIP-type text encoder behind one call.

    Args:
        tokenizer: a transformers tokenizer.
        text_encoder: a transformers text encoder whose first output is one vector a token.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._words = several_vectors(tokenizer.get_added_vocab())
        # A tokenizer without a limit of its own reports a number around 1e30.
        self._max_tokens = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)

    @property
    def reader(self) -> tuple[Any, int]:
        """The tokenizer, and how many tokens it reads: see `warn_of_lost_text`."""
        return self._tokenizer, self._max_tokens

    @torch.no_grad()
    def __call__(self, prompt: str) -> Float[Tensor, "tokens channels"]:
        """Return a prompt's embedding, on the text encoder's device and in its dtype."""
        tokens = self._tokenizer(
            [spelled_out(prompt, self._words)],
            padding="max_length",
            max_length=self._max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        device = next(self._text_encoder.parameters()).device
        # Stable Diffusion attends to the padding too, unless the encoder's configuration says otherwise.
        uses_mask = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(device) if uses_mask else None
        embeddings: Tensor = self._text_encoder(tokens.input_ids.to(device), attention_mask=mask)[0]
        return embeddings[0]

    def changed_words(self, prompt: str, other: str) -> Bool[Tensor, " tokens"]:
        """Which tokens of a prompt another prompt doesn't have in their place, as a person would compare the two."""
        own, others = (
            self._tokenizer(spelled_out(p, self._words), max_length=self._max_tokens, truncation=True).input_ids
            for p in (prompt, other)
        )
        changed = torch.zeros(self._max_tokens, dtype=torch.bool)
        for kind, begin, end, *_ in difflib.SequenceMatcher(None, own, others, autojunk=False).get_opcodes():
            if kind != "equal":
                changed[begin:end] = True
        return changed


def warn_of_lost_text(prompt: str, readers: Sequence[tuple[Any, int]]) -> None:
    """Warn of the end of a prompt that is cut off by all who read it.

    Args:
        prompt: As a person wrote it.
        readers: For each text encoder its tokenizer, and how many tokens it reads, with those that stand for begin and
            end. Where a template is around the prompt, a little more is lost than what is quoted.
    """
    with quiet_libraries(progress_bars=False):  # tokenizers have their own words for it
        lost = [_lost_text(prompt, *reader) for reader in readers]
    if lost and all(lost):
        warnings.warn(
            f"The prompt is longer than the model reads; cut off: '{one_line(min(lost, key=len))}'.", stacklevel=4
        )


def warn_of_unknown_words(prompt: str, known_words: Collection[str] | None) -> None:
    """Warn of words of a prompt that are not among those that a model knows; None are words at large."""
    if known_words is None:
        return
    words = dict.fromkeys(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", prompt.lower()))
    unknown = [word for word in words if word not in known_words]
    if unknown:
        warnings.warn(
            f"The model was never shown these words and cannot follow them: {', '.join(unknown)}.", stacklevel=4
        )


def _lost_text(prompt: str, tokenizer: Any, limit: int) -> str:
    """Return what of a prompt comes after the tokens that are read; empty if nothing does."""
    tokens = tokenizer.tokenize(spelled_out(prompt, several_vectors(tokenizer.get_added_vocab())))
    room = limit - tokenizer.num_special_tokens_to_add()
    lost: str = tokenizer.decode(tokenizer.convert_tokens_to_ids(tokens[room:])) if len(tokens) > room else ""
    return lost.strip()


def read_known_words(folder: Path) -> frozenset[str] | None:
    """Return the words in the optional `words.txt` of `folder` (one a line), or None if it has no such file."""
    path = folder / "words.txt"
    return frozenset(path.read_text(encoding="utf-8").lower().split()) if path.is_file() else None


def several_vectors(words: Iterable[str]) -> dict[str, list[str]]:
    """Return the words of a textual inversion (Gal et al. 2023) that stand for several vectors, each with all of them.

    Args:
        words: That were added to a vocabulary. The vectors of WORD after the first are WORD_1, WORD_2 …
    """
    words = set(words)
    found = {}
    for word in sorted(words):
        rest = list(itertools.takewhile(words.__contains__, (f"{word}_{number}" for number in itertools.count(1))))
        if rest:
            found[word] = [word, *rest]
    return found


def spelled_out(prompt: str, words: Mapping[str, Sequence[str]]) -> str:
    """Return a prompt with all vectors of the words of several vectors, for those who write the first of them only."""
    for word, vectors in words.items():
        later = "|".join(re.escape(vector[len(word) :]) for vector in vectors[1:])
        alone = rf"{re.escape(word)}(?!{later}|\s*{re.escape(vectors[1])})"
        prompt = re.sub(alone, lambda _, vectors=vectors: " ".join(vectors), prompt)  # type: ignore[misc]
    return prompt
