"""The drawings as SVG: they look as the renderer's, and an edit finds the same parts in both."""

import re
from dataclasses import fields, replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from pds_nerfstudio.measures import psnr
from pds_nerfstudio.toyworld.classifier import AttributeClassifier
from pds_nerfstudio.toyworld.drawing import PAPER, drawing, front_camera
from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, Subject
from pds_nerfstudio.toyworld.renderer import render
from pds_nerfstudio.vector.raster.rasterizer import Rasterizer
from pds_nerfstudio.vector.svg.color import parse_color
from pds_nerfstudio.vector.svg.document import Document

THINGS = [
    Attributes(subject="man", hat="party", hat_color="yellow", style="drawing"),
    Attributes(subject="man", arms="raised", balloon="held", hat="top", style="drawing"),
    Attributes(subject="robot", color="green", hat="top", style="drawing"),
    Attributes(subject="robot", arms="raised", style="drawing"),
    Attributes(subject="snowman", color="purple", hat="party", style="drawing"),
    Attributes(subject="snowman", arms="raised", hat="top", balloon="held", style="drawing"),
    Attributes(subject="bear", color="brown", balloon="held", style="drawing"),
    Attributes(subject="bear", color="orange", arms="raised", hat="party", style="drawing"),
    Attributes(subject="ball", color="red", hat="party", style="drawing"),
    Attributes(subject="cube", color="yellow", hat="top", style="drawing"),
    Attributes(subject="cube", color="pink", hat="party", style="drawing"),
    Attributes(subject="cone", color="blue", hat="top", style="drawing"),
]


def named(thing: Attributes) -> str:
    return f"{thing.subject}-{thing.arms}-{thing.hat}"


def rasterized(svg: str, side: int = 128) -> Float[Tensor, "3 side side"]:
    document, color = Document(svg.encode()), parse_color(PAPER)
    assert color is not None
    paper = torch.tensor(color[:3])[:, None, None].expand(3, side, side)
    return Rasterizer(document.scene).render(document.parameters, side, side, document.view(side, side), paper)


def paths(svg: str) -> dict[str, str]:
    return dict(re.findall(r'<path id="([^"]*)"[^>]* d="([^"]*)"', svg))


@pytest.mark.parametrize("thing", THINGS, ids=named)
@torch.no_grad()
def test_a_drawing_looks_as_the_renderer_draws_it(thing: Attributes) -> None:
    theirs = render(build([thing]), front_camera(128)).rgb[0]
    ours = rasterized(drawing(thing))
    assert psnr(ours, theirs) > 28


@torch.no_grad()
def test_the_classifier_reads_drawings() -> None:
    read = AttributeClassifier.load().read(torch.stack([rasterized(drawing(thing)) for thing in THINGS]))
    answers = [
        VALUES[field.name][read[field.name][i]] == getattr(thing, field.name)
        for i, thing in enumerate(THINGS)
        for field in fields(thing)
        if thing.shows(field.name)
    ]
    assert sum(answers) / len(answers) > 0.95


@pytest.mark.parametrize("thing", THINGS, ids=named)
def test_every_part_has_a_name_and_a_line_around_it(thing: Attributes) -> None:
    svg = drawing(thing)
    ids = re.findall(r'id="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert re.findall(r'<use href="#([^"]*)"', svg) == list(paths(svg))


def curves(path: str) -> list[str]:
    return sorted(re.findall("[A-Z]", path))


@pytest.mark.parametrize("subject", ["man", "robot", "snowman", "bear"])
def test_raised_arms_are_the_same_parts_with_the_same_curves(subject: Subject) -> None:
    source = Attributes(subject=subject)
    before, after = paths(drawing(source)), paths(drawing(replace(source, arms="raised")))
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} >= {"left-arm", "right-arm"}
    for name in before:
        assert curves(before[name]) == curves(after[name]), name
    assert before["head"] == after["head"]


def test_a_hat_adds_its_own_parts_and_changes_no_other() -> None:
    source = Attributes(subject="bear")
    before, after = paths(drawing(source)), paths(drawing(replace(source, hat="party")))
    assert after.keys() - before.keys() == {"hat"}
    assert all(after[name] == before[name] for name in before)


def test_a_color_changes_nothing_but_colors() -> None:
    before, after = drawing(Attributes(color="blue")), drawing(Attributes(color="red"))
    assert paths(before) == paths(after)
    assert 'id="torso" fill="#1a47d9"' in before
    assert 'id="torso" fill="#d91a1a"' in after


def test_a_part_that_moves_takes_its_line_along() -> None:
    document = Document(drawing(Attributes(subject="ball")).encode())
    parameters = document.parameters
    right = replace(parameters, points=parameters.points + torch.tensor([64.0, 0.0]))
    white = torch.ones(3, 64, 64)
    renderer = Rasterizer(document.scene)
    before, after = (renderer.render(p, 64, 64, document.view(64, 64), white) for p in (parameters, right))
    torch.testing.assert_close(after[:, :, 8:], before[:, :, :-8], atol=1e-4, rtol=0)
