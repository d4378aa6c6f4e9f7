"""What the world can show, in attributes and in English.

A thing of the world is one `Attributes`; `caption` says it in a sentence, `edit` changes one attribute of it, and the
grammar keeps a fixed list of attribute combinations out of the training set, so that composition can be tested.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from pds_nerfstudio.errors import UserError

Subject = Literal["man", "robot", "snowman", "bear", "ball", "cube", "cone"]
Color = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "gray", "brown"]
Arms = Literal["down", "raised"]
Hat = Literal["none", "party", "top"]
Balloon = Literal["none", "held"]
Ground = Literal["grass", "sand", "snow", "brick"]
Sky = Literal["day", "sunset", "night"]
Style = Literal["photo", "drawing"]

SUBJECTS: tuple[Subject, ...] = get_args(Subject)
LIMBED: tuple[Subject, ...] = ("man", "robot", "snowman", "bear")
"""Subjects with arms, which can raise them and hold a balloon."""
COLORS: tuple[Color, ...] = get_args(Color)
ARMS: tuple[Arms, ...] = get_args(Arms)
HATS: tuple[Hat, ...] = get_args(Hat)
BALLOONS: tuple[Balloon, ...] = get_args(Balloon)
GROUNDS: tuple[Ground, ...] = get_args(Ground)
SKIES: tuple[Sky, ...] = get_args(Sky)
STYLES: tuple[Style, ...] = get_args(Style)

VALUES: dict[str, tuple[str, ...]] = {
    "subject": SUBJECTS,
    "color": COLORS,
    "arms": ARMS,
    "hat": HATS,
    "hat_color": COLORS,
    "balloon": BALLOONS,
    "balloon_color": COLORS,
    "ground": GROUNDS,
    "sky": SKIES,
    "style": STYLES,
}
"""Every attribute and the values it can take; the classifier has one head for each."""

_POSSESSIVE = {"man": "his"}


@dataclass(frozen=True)
class Attributes:
    """One thing of the world and its surroundings; every field is a value of `VALUES` under the same name."""

    subject: Subject = "man"
    """The subject, in the middle."""
    color: Color = "blue"
    """Colour of the body; of a man the shirt, of a snowman the scarf."""
    arms: Arms = "down"
    """Only a man, a robot, a snowman or a bear can raise them."""
    hat: Hat = "none"
    """On the head, or on top."""
    hat_color: Color = "red"
    """Colour of the hat, if there is one."""
    balloon: Balloon = "none"
    """Held in a hand, by those with arms."""
    balloon_color: Color = "red"
    """Colour of the balloon, if there is one."""
    ground: Ground = "grass"
    """What a photo's subject stands on."""
    sky: Sky = "day"
    """Time of day of a photo."""
    style: Style = "photo"
    """A photo has ground, sky and light; a drawing has flat colours on white."""

    def __post_init__(self) -> None:
        for name, allowed in VALUES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not of this world; it can be {', '.join(allowed)}")
        if self.subject not in LIMBED and (self.arms, self.balloon) != ("down", "none"):
            raise ValueError(f"a {self.subject} has no arms to raise or to hold a balloon with")

    @property
    def combination(self) -> tuple[Subject, Color, Arms, Hat]:
        """The attributes whose combinations are held out of training."""
        return self.subject, self.color, self.arms, self.hat

    def shows(self, name: str) -> bool:
        """Return whether attribute `name` can be seen at all: a hat's colour needs a hat, a drawing has no sky."""
        match name:
            case "arms" | "balloon":
                return self.subject in LIMBED
            case "hat_color":
                return self.hat != "none"
            case "balloon_color":
                return self.balloon != "none"
            case "ground" | "sky":
                return self.style == "photo"
        return name in VALUES


HELD_OUT: tuple[tuple[Subject, Color, Arms, Hat], ...] = (
    ("man", "red", "raised", "party"),
    ("man", "green", "down", "top"),
    ("man", "purple", "raised", "none"),
    ("man", "white", "down", "party"),
    ("robot", "orange", "down", "party"),
    ("robot", "blue", "raised", "top"),
    ("robot", "pink", "raised", "none"),
    ("robot", "brown", "down", "top"),
    ("snowman", "yellow", "raised", "top"),
    ("snowman", "purple", "down", "party"),
    ("snowman", "gray", "raised", "party"),
    ("snowman", "green", "raised", "none"),
    ("bear", "blue", "down", "party"),
    ("bear", "black", "raised", "top"),
    ("bear", "orange", "raised", "none"),
    ("ball", "red", "down", "top"),
    ("cube", "yellow", "down", "party"),
    ("cone", "pink", "down", "top"),
)
"""5 % of the 363 combinations of (subject, colour, arms, hat): never in the training set."""

_HELD_OUT = frozenset(HELD_OUT)


def combinations() -> Iterator[tuple[Subject, Color, Arms, Hat]]:
    """Yield all (subject, colour, arms, hat) that exist: 363 of them."""
    for subject in SUBJECTS:
        for color in COLORS:
            for arms in ARMS if subject in LIMBED else ARMS[:1]:
                for hat in HATS:
                    yield subject, color, arms, hat


def sample(rng: random.Random, held_out: bool | None = False) -> Attributes:
    """Draw one thing, every attribute evenly.

    Args:
        rng: The source of randomness.
        held_out: False leaves the held-out combinations out, True draws only from them, None takes both.
    """
    while True:
        if held_out:
            subject, color, arms, hat = rng.choice(HELD_OUT)
        else:
            subject, color, hat = rng.choice(SUBJECTS), rng.choice(COLORS), rng.choice(HATS)
            arms = rng.choice(ARMS) if subject in LIMBED else "down"
            if held_out is False and (subject, color, arms, hat) in _HELD_OUT:
                continue
        return Attributes(
            subject=subject,
            color=color,
            arms=arms,
            hat=hat,
            hat_color=rng.choice(COLORS),
            balloon=rng.choice(BALLOONS) if subject in LIMBED else "none",
            balloon_color=rng.choice(COLORS),
            ground=rng.choice(GROUNDS),
            sky=rng.choice(SKIES),
            style=rng.choice(STYLES),
        )


def article(word: str) -> Literal["a", "an"]:
    """Return the indefinite article before one of this world's words."""
    return "an" if word[0] in "aeiou" else "a"


def caption(thing: Attributes, rng: random.Random | None = None, keep: float = 0.75) -> str:
    """Say `thing` in a sentence.

    Args:
        thing: What to describe.
        rng: None says everything that is worth saying; a generator leaves details out, each said with probability
            `keep`, as people do. Training uses the second, prompts the first.
        keep: See `rng`.

    Returns:
        For instance "a photo of a man in a blue shirt wearing a red party hat and raising his arms on the grass".
    """

    def say(probability: float = keep) -> bool:
        return rng is None or rng.random() < probability

    subject, color = thing.subject, thing.color
    colored = f"{article(color)} {color}"
    if subject == "man":
        noun = f"a man in {colored} shirt" if say() else "a man"
    elif subject == "snowman":
        noun = f"a snowman with {colored} scarf" if say() else "a snowman"
    else:
        noun = f"{colored} {subject}" if say() else f"a {subject}"
    doing = []
    if thing.hat != "none" and say(0.95):
        hat_color = f"{article(thing.hat_color)} {thing.hat_color}" if say() else "a"
        doing.append(f"wearing {hat_color} {thing.hat} hat")
    possessive = _POSSESSIVE.get(subject, "its")
    if thing.arms == "raised" and say(0.95):
        doing.append(f"raising {possessive} arms")
    elif subject in LIMBED and thing.arms == "down" and rng is not None and rng.random() < 0.15:
        doing.append(f"with {possessive} arms down")
    if thing.balloon != "none" and say(0.9):
        balloon_color = f"{article(thing.balloon_color)} {thing.balloon_color}" if say() else "a"
        doing.append(f"holding {balloon_color} balloon")
    words = [f"a {thing.style} of {noun}"]
    if doing:
        words.append(" and ".join([", ".join(doing[:-1]), doing[-1]] if len(doing) > 1 else doing))
    if thing.style == "photo":
        if say(0.6):
            words.append(f"on the {thing.ground}")
        if thing.sky == "sunset" and say(0.95):
            words.append("at sunset")
        elif thing.sky == "night" and say(0.95):
            words.append("at night")
        elif thing.sky == "day" and rng is not None and rng.random() < 0.15:
            words.append("by day")
    return " ".join(words)


def edit(thing: Attributes, name: str, value: str) -> Attributes:
    """Return the same thing with one attribute changed: the truth that an edit is scored against.

    Raises:
        ValueError: If the change is none, can't be seen, or leaves this world.
    """
    if name not in VALUES:
        raise ValueError(f"things of this world have no attribute {name!r}, they have {', '.join(VALUES)}")
    changed = replace(thing, **{name: value})  # type: ignore[arg-type]
    if changed == thing:
        raise ValueError(f"{name} is {value!r} already")
    if not changed.shows(name):
        raise ValueError(f"nobody could see that {name} is {value!r} of {caption(changed)!r}")
    return changed


def asked_edit(thing: Attributes, text: str) -> Attributes:
    """Return the same thing after an edit that is given as attribute=value, as the option `--edit` takes it.

    Raises:
        UserError: If there is no such edit.
    """
    name, _, value = text.partition("=")
    if name not in VALUES:
        raise UserError(f"--edit {text}: give attribute=value with one of {', '.join(VALUES)}.")
    try:
        return edit(thing, name, value)
    except ValueError as error:
        raise UserError(f"--edit {text}: {error}.") from None


def vocabulary() -> list[str]:
    """Return every word that a caption can hold, sorted."""
    nouns = "photo drawing shirt scarf party top hat arms balloon"
    others = "a an the of in on at by with and his its down wearing raising holding"
    words = {*nouns.split(), *others.split()}
    return sorted(words | set(COLORS) | set(SUBJECTS) | set(GROUNDS) | set(SKIES))


def labels(thing: Attributes) -> list[int]:
    """Return the index of each attribute's value, in the order of `VALUES`; −1 where it can't be seen."""
    return [
        VALUES[field.name].index(getattr(thing, field.name)) if thing.shows(field.name) else -1
        for field in fields(thing)
    ]
