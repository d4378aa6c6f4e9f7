"""The world's attributes and sentences: counted, drawn and read."""

import math
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import pytest

from pds_nerfstudio.toyworld.grammar import (
    ARMS,
    COLORS,
    HATS,
    HELD_OUT,
    LIMBED,
    SUBJECTS,
    VALUES,
    Attributes,
    article,
    caption,
    combinations,
    edit,
    labels,
    sample,
    vocabulary,
)


def draws(n: int, held_out: bool | None = False, seed: int = 0) -> list[Attributes]:
    rng = random.Random(seed)
    return [sample(rng, held_out) for _ in range(n)]


class TestCombinations:
    def test_all_that_exist_once_each(self) -> None:
        every = list(combinations())
        assert len(every) == len(set(every)) == 363
        for combination in product(SUBJECTS, COLORS, ARMS, HATS):
            exists = combination[0] in LIMBED or combination[2] == "down"
            assert (combination in every) == exists

    def test_held_out_are_five_percent_and_exist(self) -> None:
        assert len(HELD_OUT) == len(set(HELD_OUT)) == round(0.05 * 363)
        assert set(HELD_OUT) <= set(combinations())

    def test_training_still_has_every_value_and_every_pair(self) -> None:
        kept = set(combinations()) - set(HELD_OUT)
        for position, values in enumerate((SUBJECTS, COLORS, ARMS, HATS)):
            assert {combination[position] for combination in kept} == set(values)
        for i, j in ((0, 1), (0, 2), (0, 3), (1, 3)):
            assert {(c[i], c[j]) for c in kept} == {(c[i], c[j]) for c in combinations()}


class TestSample:
    def test_held_out_ones_only_when_asked(self) -> None:
        held_out = set(HELD_OUT)
        assert not held_out & {thing.combination for thing in draws(5000)}
        assert {thing.combination for thing in draws(600, held_out=True)} == held_out
        both = {thing.combination in held_out for thing in draws(600, held_out=None)}
        assert both == {True, False}

    def test_repeatable(self) -> None:
        assert draws(20, seed=5) == draws(20, seed=5) != draws(20, seed=6)

    @pytest.mark.parametrize("name", VALUES)
    def test_every_value_is_drawn_evenly(self, name: str) -> None:
        # With the held-out ones, where nothing is turned down; limbs only where there are some.
        things = [t for t in draws(12_000, held_out=None) if t.subject in LIMBED or name not in ("arms", "balloon")]
        counts = Counter(getattr(thing, name) for thing in things)
        share = 1 / len(VALUES[name])
        spread = math.sqrt(share * (1 - share) / len(things))
        for value in VALUES[name]:
            assert abs(counts[value] / len(things) - share) < 4.5 * spread, value

    def test_leaving_some_out_hardly_tilts_the_draw(self) -> None:
        counts = Counter(thing.color for thing in draws(12_000))
        assert max(counts.values()) < 1.2 * min(counts.values())


class TestAttributes:
    @pytest.mark.usefixtures("unchecked")
    def test_unknown_values_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"color='mauve' is not of this world.*red"):
            Attributes(color="mauve")  # type: ignore[arg-type]

    @pytest.mark.parametrize("change", [{"arms": "raised"}, {"balloon": "held"}])
    def test_what_has_no_arms(self, change: dict[str, str]) -> None:
        with pytest.raises(ValueError, match="a cube has no arms"):
            Attributes(subject="cube", **change)  # type: ignore[arg-type]

    def test_what_shows(self) -> None:
        bare_cube = Attributes(subject="cube", style="drawing")
        assert [name for name in VALUES if bare_cube.shows(name)] == ["subject", "color", "hat", "style"]
        decked_man = Attributes(hat="top", balloon="held")
        assert all(decked_man.shows(name) for name in VALUES)
        assert not decked_man.shows("beard")


class TestLabels:
    def test_indices_and_what_cannot_be_seen(self) -> None:
        thing = Attributes("cone", "green", hat="top", hat_color="brown", ground="brick", sky="night")
        assert labels(thing) == [6, 3, -1, 2, 10, -1, -1, 3, 2, 0]
        assert labels(replace(thing, style="drawing"))[7:] == [-1, -1, 1]

    def test_agree_with_the_values(self) -> None:
        for thing in draws(300):
            for (name, values), label in zip(VALUES.items(), labels(thing), strict=True):
                assert label == -1 if not thing.shows(name) else values[label] == getattr(thing, name)


class TestCaption:
    def test_in_full(self) -> None:
        thing = Attributes("man", "blue", "raised", "party", "orange", "held", "pink", "snow", "night")
        expected = (
            "a photo of a man in a blue shirt wearing an orange party hat, raising his arms and holding a pink balloon"
            " on the snow at night"
        )
        assert caption(thing) == expected
        two = replace(thing, balloon="none", sky="day", subject="bear")
        assert caption(two) == "a photo of a blue bear wearing an orange party hat and raising its arms on the snow"
        assert caption(Attributes("snowman", "orange", style="drawing")) == (
            "a drawing of a snowman with an orange scarf"
        )
        assert caption(Attributes("cube", "orange", sky="sunset")) == "a photo of an orange cube on the grass at sunset"

    def test_without_chance_always_the_same_and_says_all(self) -> None:
        for thing in draws(300):
            words = caption(thing)
            assert words == caption(thing)
            for name in VALUES:
                value = getattr(thing, name)
                told = name not in ("arms", "hat", "balloon", "sky") and thing.shows(name)
                assert not told or value in words.split(), (words, name)
            assert ("raising" in words) == (thing.arms == "raised")
            assert (f"{thing.hat} hat" in words) == (thing.hat != "none")
            assert ("holding" in words) == (thing.balloon == "held")

    def test_two_things_that_look_different_never_share_the_full_caption(self) -> None:
        seen: dict[str, list[int]] = {}
        for thing in draws(4000):
            assert seen.setdefault(caption(thing), labels(thing)) == labels(thing)

    def test_english_over_many_draws(self) -> None:
        rng, known = random.Random(0), set(vocabulary())
        said = set()
        for thing in draws(4000, held_out=None):
            words = caption(thing, rng)
            assert "  " not in words
            assert words == words.strip()
            assert " ," not in words
            tokens = re.findall(r"[a-z]+|,", words)
            assert " ".join(tokens).replace(" ,", ",") == words
            for word, following in pairwise(tokens):
                if word in ("a", "an"):
                    assert word == article(following) == ("an" if following[0] in "aeiou" else "a")
                assert word != following
            assert set(tokens) - {","} <= known
            assert not {"his", "its"} & set(tokens) or ("his" in tokens) == (thing.subject == "man")
            said |= set(tokens)
        assert known <= said

    def test_chance_leaves_out_but_never_lies(self) -> None:
        rng, lengths = random.Random(1), set()
        thing = Attributes("robot", "red", "raised", "top", "green", "held", "blue", "sand", "sunset")
        full = set(re.findall("[a-z]+", caption(thing)))
        for _ in range(200):
            words = re.findall("[a-z]+", caption(thing, rng))
            assert set(words) <= full | {"a"}
            assert "robot" in words
            lengths.add(len(words))
        assert len(lengths) > 5

    def test_repeatable_with_the_same_chance(self) -> None:
        thing = Attributes(hat="top", balloon="held")
        assert caption(thing, random.Random(3)) == caption(thing, random.Random(3))


class TestEdit:
    def test_changes_one_attribute(self) -> None:
        assert edit(Attributes(), "arms", "raised") == Attributes(arms="raised")

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("thing", "name", "value", "message"),
        [
            (Attributes(), "color", "blue", "color is 'blue' already"),
            (Attributes(), "hat_color", "green", "nobody could see that hat_color is 'green' of 'a photo of a man"),
            (Attributes(style="drawing"), "sky", "night", "nobody could see"),
            (Attributes(), "color", "mauve", "'mauve' is not of this world"),
            (Attributes(subject="ball"), "arms", "raised", "a ball has no arms"),
            (Attributes(arms="raised"), "subject", "cube", "a cube has no arms"),
            (Attributes(), "beard", "long", "no attribute 'beard'"),
        ],
    )
    def test_refusals(self, thing: Attributes, name: str, value: str, message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            edit(thing, name, value)


def test_vocabulary_is_sorted_single_words() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert all(re.fullmatch("[a-z]+", word) for word in words)
