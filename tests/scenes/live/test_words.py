"""Prompts as the panel shows them, and those of before."""

from pathlib import Path

import pytest

from pds_nerfstudio.scenes.live.words import last_words, marked, plain
from pds_nerfstudio.scenes.plan import EditPlan
from pds_nerfstudio.scenes.states import State


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a man on grass", "a man on grass", [("a man on grass", False)]),
        ("a man on grass", "a fat man on snow", [("a", False), ("fat", True), ("man on", False), ("snow", True)]),
        ("", "make him a clown", [("make him a clown", True)]),
        ("a man in a hat", "a man", [("a man", False)]),
        ("a dog", "**a dog**", [("**a dog**", True)]),
    ],
)
def test_words_that_the_source_does_not_have_are_marked(
    source: str, target: str, words: list[tuple[str, bool]]
) -> None:
    shown = " ".join(f"**{plain(text)}**" if new else plain(text) for text, new in words)
    assert marked(source, target) == f"*{plain(source)}* → {shown}"


def state(number: int, source: str, target: str) -> State:
    settings = {"src_prompt": source, "tgt_prompt": target}
    return State(number, settings, EditPlan(0, 1), 1, Path(), Path())


def test_the_last_five_prompts_are_offered_once_each_and_newest_first() -> None:
    states = [state(i, "a cat", f"a dog {i}") for i in range(6)]
    now = {"src_prompt": "a cat", "tgt_prompt": "a dog 4"}
    assert list(last_words(now, states)) == ["a dog 4", "a dog 5", "a dog 3", "a dog 2", "a dog 1"]


def test_the_last_source_that_went_with_the_words_comes_back_with_them() -> None:
    now = {"src_prompt": "a cat", "tgt_prompt": "a\ndog"}
    states = [state(1, "a bird", "a fox"), state(2, "a cow", "a fox"), state(3, "a bird", "a dog")]
    assert last_words(now, states) == {"a dog": ("a cat", "a\ndog"), "a fox": ("a cow", "a fox")}
