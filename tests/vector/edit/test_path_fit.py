"""A fit that makes new paths of what old ones cannot show, and leaves alone what the draft leaves alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.editing import Fit, Goal
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.images.edit_loop import ImageEditConfig
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.edit.holding import Holding
from pds_nerfstudio.vector.edit.loop import VectorEditConfig, VectorEditLoop
from pds_nerfstudio.vector.edit.path_fit import PathFit
from pds_nerfstudio.vector.svg.document import Document
from tests.vector.conftest import Oracle, Render, Towards

MAN = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">
  <rect id="paper" width="128" height="128" fill="#fffbe8"/>
  <g id="man" transform="translate(4 0)">
    <rect id="body" class="cloth" x="40" y="70" width="40" height="50" fill="#2050c0"/>
    <circle id="head" cx="60" cy="52" r="18" fill="#f0c090"/>
    <circle id="eye" cx="66" cy="50" r="2" fill="#202020"/>
  </g>
  <path id="bow" d="M60 74L68 78L60 82Z" fill="#d02020"/>
</svg>
"""
HAT = b'    <path d="M44 38L76 38L76 12L44 12Z" fill="#d02020"/>\n'


def changed(*changes: tuple[bytes, bytes], of: bytes = MAN) -> bytes:
    for before, after in changes:
        assert of.count(before) == 1
        of = of.replace(before, after)
    return of


IN_FRONT = changed((b'  </g>\n  <path id="bow"', HAT + b'  </g>\n  <path id="bow"'))
"""The man with a hat."""


def fit(
    source: bytes, draft: bytes, holding: Holding | None = None, canvas: int = 128, **options: Any
) -> tuple[VectorEditor, VectorEditLoop]:
    """Fit one drawing to the picture of another."""
    config = VectorEditConfig(
        **{"draft": ImageEditConfig(steps=1, refine=0), "fit_steps": 40, "background": "white", **options}
    )
    editor, goal = VectorEditor(Document(source), canvas, config.groups), Towards(draft, canvas)
    loop = VectorEditLoop(editor, goal, config, holding)  # type: ignore[arg-type]
    stage = loop.stages[1]
    assert isinstance(stage, PathFit | Fit)
    stage._make_goal = lambda: Goal(loop._drawing.whole(), goal.goal)
    while stage.done < stage.steps:
        stage.step()
    stage.finish()
    return editor, loop


def new_paths(svg: bytes) -> list[dict[str, bytes]]:
    group = re.search(rb'<g id="pds-new-paths">(.*?)</g>', svg, re.DOTALL)
    paths = re.findall(rb"<path ([^>]*)/>", group[1]) if group else []
    return [dict((k.decode(), v) for k, v in re.findall(rb'([\w-]+)="([^"]*)"', path)) for path in paths]


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


def test_a_missing_hat_becomes_one_path_with_straight_edges_in_a_color_of_the_palette(
    render: Render, oracle: Oracle
) -> None:
    editor, loop = fit(MAN, IN_FRONT)
    svg = editor.svg()
    (hat,) = new_paths(svg)
    assert hat["fill"] == b"#d02020"
    corners = [tuple(map(float, pair.split())) for pair in re.findall(r"[ML]([\d. ]+)", hat["d"].decode())]
    assert "C" not in hat["d"].decode() and 4 <= len(corners) <= 8
    for x, y in [(48, 12), (80, 12)]:  # of the drawing: the man stands 4 to the right
        assert min(abs(x - cx) + abs(y - cy) for cx, cy in corners) < 1.5, corners
    assert re.sub(rb' *<g id="pds-new-paths">.*?</g>\n', b"", svg, flags=re.DOTALL) == MAN
    assert loop.path_fit is not None
    report = loop.path_fit.report
    assert (report.new_paths, report.new_nodes) == (1, len(corners)) and report.gain > 10
    assert str(report).startswith(f"1 new path of {len(corners)} nodes: +")
    # read again, it looks as it did
    shown = editor.render()[0].detach()
    assert apart(render(Document(svg)), shown) < 1e-3 and apart(oracle(svg, supersampling=4), shown) < 2e-3
    assert apart(shown, render(Document(IN_FRONT))) < 4e-3


def test_what_is_behind_something_is_put_below_it() -> None:
    bar = b'<rect x="10" y="84" width="100" height="14" fill="#d02020"/>'
    pole = changed((b'<rect id="body"', bar + b'<rect id="body"'))
    editor, _ = fit(MAN, pole)
    svg = editor.svg()
    (path,) = new_paths(svg)
    assert svg.index(b"pds-new-paths") < svg.index(b'id="body"')
    assert len(re.findall(rb"[MLC]", path["d"])) == 4  # one bar, not two stumps
    assert re.sub(rb'<g id="pds-new-paths">.*?</g>\n *', b"", svg, flags=re.DOTALL) == MAN


def test_a_path_takes_another_color_and_no_more() -> None:
    editor, _ = fit(MAN, changed((b"#2050c0", b"#d02020")))
    assert editor.svg() == changed((b"#2050c0", b"#d02020"))


def test_a_path_that_moved_stays_what_it_was() -> None:
    editor, _ = fit(MAN, changed((b'x="40" y="70"', b'x="46" y="70"')), fit_steps=80)
    svg = editor.svg()
    assert new_paths(svg) == [] and b'<rect id="body"' in svg
    (x,) = re.findall(rb'id="body" class="cloth" x="([\d.]+)"', svg)
    assert float(x) == pytest.approx(46, abs=0.5)
    for line in MAN.splitlines():
        assert b'id="body"' in line or line in svg.splitlines()


@pytest.mark.parametrize("vanished", ["keep", "hide", "remove"])
def test_what_the_draft_does_not_show_vanishes(vanished: str) -> None:
    bow = b'  <path id="bow" d="M60 74L68 78L60 82Z" fill="#d02020"/>\n'
    editor, _ = fit(MAN, changed((bow, b"")), vanished=vanished)
    svg = editor.svg()
    if vanished == "remove":
        assert svg == changed((bow, b""))
    elif vanished == "hide":
        assert svg == changed((b'fill="#d02020"/>', b'fill="#d02020" display="none"/>'))
    else:
        assert b"display" not in svg and b'id="bow"' in svg


def test_a_limb_that_swings_far_stays_the_limb() -> None:
    arm = b'<path id="arm" d="M80 74L116 110L122 104L86 68Z" fill="#f0c090"/>'
    raised = b'<path id="arm" d="M80 74L116 110L122 104L86 68Z" fill="#f0c090" transform="rotate(-110 83 71)"/>'
    source, draft = (MAN.replace(b"</svg>", limb + b"</svg>") for limb in (arm, raised))
    editor, loop = fit(source, draft)
    svg = editor.svg()
    assert new_paths(svg) == [] and b"display" not in svg and loop.path_fit is not None
    assert re.sub(rb'(id="arm" d=")[^"]*', rb"\1", svg) == re.sub(rb'(id="arm" d=")[^"]*', rb"\1", source)
    goal = VectorEditor(Document(draft), 128).render()
    assert apart(editor.render()[0].detach(), goal[0].detach()) < 2e-3


def test_a_faint_part_that_is_gone_vanishes() -> None:
    cloud = b'<circle id="cloud" cx="104" cy="24" r="14" fill="#e8e4d4" opacity=".8"/>'
    editor, _ = fit(MAN.replace(b"</svg>", cloud + b"</svg>"), MAN)
    assert editor.svg() == MAN.replace(b"</svg>", cloud[:-2] + b' display="none"/></svg>')


def test_what_covers_another_thing_is_not_painted_white_when_both_are_gone() -> None:
    scene = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">
      <rect id="house" x="10" y="70" width="40" height="50" fill="#2050c0"/>
      <rect id="hand" x="84" y="44" width="40" height="10" fill="#303030"/>
      <circle id="ball" cx="91" cy="49" r="20" fill="#d02020" stroke="#101010" stroke-width="2"/></svg>"""
    draft = re.sub(rb'<(rect id="hand"|circle)[^>]*>', b"", scene)
    editor, _ = fit(scene, draft)
    hidden = scene.replace(b'fill="#303030"', b'fill="#303030" display="none"')
    assert editor.svg() == hidden.replace(b'stroke-width="2"', b'stroke-width="2" display="none"')


def test_paths_of_one_color_get_one_color_again() -> None:
    # Two that a softer draft shows a little differently.
    sleeve = b'<path id="sleeve" d="M84 74L100 96L92 100L80 84Z" fill="#2050c0"/></svg>'
    two = MAN.replace(b"</svg>", sleeve)
    editor, _ = fit(
        two, two.replace(b'"#2050c0"/>\n', b'"#c03050"/>\n').replace(sleeve, sleeve.replace(b"2050c0", b"c83a58"))
    )
    svg = editor.svg()
    assert svg.count(b'fill="#c03050"') == 2 and b"2050c0" not in svg


UNDERLINED = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">
  <g id="lines" stroke="#101010" stroke-width="6">
    <use href="#body"/>
    <use href="#head"/>
  </g>
  <path id="body" fill="#2050c0" d="M44 70L84 70L84 120L44 120Z"/>
  <path id="head" fill="#f0c090" d="M50 40L78 40L78 72L50 72Z"/>
</svg>
"""
"""A man with one line around the whole, below all parts."""


def test_a_new_part_gets_the_line_that_lies_below_the_others(render: Render) -> None:
    hat = (
        b'    <use href="#hat"/>\n  </g>',
        b'  <path id="hat" fill="#d02020" d="M46 44L82 44L82 16L46 16Z"/>\n</svg>',
    )
    draft = UNDERLINED.replace(b"  </g>", hat[0]).replace(b"</svg>", hat[1])
    editor, _ = fit(UNDERLINED, draft)
    svg = editor.svg()
    (path,) = new_paths(svg)
    (use,) = re.findall(rb'<use href="#(pds-new[^"]*)" ([^>]*)/>', svg)
    assert path["id"] == use[0] and b'stroke="#101010" stroke-width="6"' in use[1] and "stroke" not in path
    assert svg.index(b'<use href="#pds') < svg.index(b'id="body"')
    assert apart(render(Document(svg)), render(Document(draft))) < 4e-3
    assert (
        re.sub(rb' *<g id="pds-new-paths">.*?</g>\n|<use href="#pds[^>]*>\s*', b"", svg, flags=re.DOTALL) == UNDERLINED
    )


def test_an_equal_draft_changes_nothing() -> None:
    editor, loop = fit(MAN, MAN)
    assert editor.svg() == MAN
    assert loop.path_fit is not None and str(loop.path_fit.report) == "0 new paths; 0 paths changed, 0 vanished"


BOTH = changed((b"#2050c0", b"#30a030"), (b"#f0c090", b"#805030"))
"""A man of other colours."""


@pytest.mark.parametrize("new_paths", [0, 4])
@pytest.mark.parametrize(
    "holding",
    [Holding(lock="#head"), Holding(only=".cloth"), Holding(only="#man", lock="circle"), Holding(region="30,71,70,57")],
)
def test_what_is_held_stays(holding: Holding, new_paths: int) -> None:
    editor, _ = fit(MAN, BOTH, holding, new_paths=new_paths)
    svg = editor.svg()
    assert b'<circle id="head" cx="60" cy="52" r="18" fill="#f0c090"/>' in svg
    assert b"#2050c0" not in svg and b"pds-new-paths" not in svg
    if new_paths:
        assert svg == changed((b"#2050c0", b"#30a030"))


def test_new_paths_stay_in_the_region() -> None:
    two = changed((b"</svg>", b'<circle cx="20" cy="20" r="9"/><circle cx="108" cy="20" r="9"/></svg>'))
    editor, _ = fit(MAN, two, Holding(region="64,0,64,128"))
    (path,) = new_paths(editor.svg())
    xs = [float(x) for x in re.findall(r"([\d.]+) [\d.]+", path["d"].decode())]
    assert min(xs) > 90


@pytest.mark.parametrize(
    ("holding", "words"),
    [
        (Holding(only="#hat"), "only is '#hat': nothing"),
        (Holding(lock="#a["), "lock is '#a['"),
        (Holding(region="1,2,3"), "region is '1,2,3'"),
        (Holding(region="1,2,0,3"), "above 0"),
        (Holding(region="nan,2,4,3"), "finite numbers"),
        (Holding(region="1,2,inf,3"), "finite numbers"),
    ],
)
def test_what_picks_nothing_is_refused(holding: Holding, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        fit(MAN, MAN, holding)


def test_later_stages_go_on_with_the_new_paths() -> None:
    config = VectorEditConfig(draft=ImageEditConfig(steps=60, latent_lr=0.05, refine=0), fit_steps=4, steps=2)
    editor = VectorEditor(Document(MAN), 64, config.groups)
    loop = VectorEditLoop(editor, Towards(IN_FRONT, 64), config)  # type: ignore[arg-type]
    while loop.done < 64:
        loop.step()
    before = new_paths(editor.svg())
    source = editor.render(source=True)
    loop.step()
    after = new_paths(editor.svg())
    assert before and after != before and torch.equal(source, VectorEditor(Document(MAN), 64).render())


def test_without_new_paths_the_fit_is_the_one_of_all_paths() -> None:
    editor, loop = fit(MAN, IN_FRONT, new_paths=0, fit_steps=3)
    assert loop.path_fit is None and isinstance(loop.stages[1], Fit)
    other = VectorEditor(Document(MAN), 128, loop._config.groups)
    goal = Goal(loop._drawing.whole(), Towards(IN_FRONT, 128).goal)
    again = VectorEditLoop(other, Towards(IN_FRONT, 128), loop._config)  # type: ignore[arg-type]
    alone = Fit(again._fitting(3), lambda: goal)
    for _ in range(3):
        alone.step()
    assert other.svg() == editor.svg() != MAN


DOTS = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><style>.a{fill:#0a7d3b}</style>%s</svg>'
    % b"".join(b'<circle class="a" cx="%d" cy="%d" r="10"/>' % (x, y) for x in (16, 48, 80) for y in (16, 48, 80))
)
"""Nine dots of one class."""


def test_a_class_that_takes_another_color_stays_one() -> None:
    draft = changed((b"#0a7d3b", b"#d01040"), of=DOTS)
    editor, _ = fit(DOTS, draft, canvas=96, fit_steps=10)
    found = editor.svg()
    assert re.sub(rb"#\w{6}", b"", found) == re.sub(rb"#\w{6}", b"", DOTS)
    assert apart(editor.render().detach(), VectorEditor(Document(draft), 96).render().detach()) < 2e-3


def test_one_of_a_class_that_takes_another_color_has_its_own() -> None:
    middle = b'cx="48" cy="48" r="10"'
    editor, _ = fit(DOTS, changed((middle, middle + b' style="fill:#d01040"'), of=DOTS), canvas=96, fit_steps=10)
    found = re.sub(b' style="fill:#[cd]\\w{5}"', b"", editor.svg(), count=1)
    assert found == DOTS != editor.svg()


BAT = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">
  <path id="body" d="M64 30C76 36 78 60 64 100C50 60 52 36 64 30Z" fill="#404060"/>
  <path id="left" d="M54 50L20 40L30 70Z" fill="#8060a0"/>
  <path id="right" d="M74 50L108 40L98 70Z" fill="#8060a0"/>
</svg>
"""


def points_of(svg: bytes, name: bytes) -> Tensor:
    (d,) = re.findall(rb'id="' + name + rb'" d="([^"]*)"', svg)
    return torch.tensor([float(number) for number in re.findall(rb"-?\d*\.?\d+", d)]).reshape(-1, 2)


def from_corners(svg: bytes, of: bytes, name: bytes) -> float:
    """Return how far the points of a path are from another's, whichever of them comes first."""
    return float(torch.cdist(points_of(svg, name), points_of(of, name)).amin(1).max())


def test_a_path_that_is_bent_in_the_draft_bends_and_needs_no_new_one() -> None:
    bent = changed((b"M74 50L108 40L98 70Z", b"M74 50L120 10L112 40Z"), of=BAT)
    editor, loop = fit(BAT, bent, fit_steps=150)
    svg = editor.svg()
    assert new_paths(svg) == [] and from_corners(svg, bent, b"right") < 1
    assert loop.path_fit is not None and loop.path_fit.report.changed_paths == 1
    for same in (b"left", b"body"):  # the one that was its mirror image, too
        assert torch.equal(points_of(svg, same), points_of(BAT, same))


def test_what_is_symmetric_stays_so_where_the_draft_nearly_is() -> None:
    draft = changed(
        (b"M64 30C76 36 78 60 64 100C50 60 52 36 64 30Z", b"M64 20C86 30 80 60 64 108C46 60 43 30 64 20Z"),
        (b"M54 50L20 40L30 70Z", b"M52 54L12 20L30 84Z"),
        (b"M74 50L108 40L98 70Z", b"M76 54L115.7 20.4L98.3 84.2Z"),
        of=BAT,
    )
    hat = b'<path d="M50 4L78 4L78 18L50 18Z" fill="#d02020"/></svg>'
    svg = fit(BAT, draft.replace(b"</svg>", hat), fit_steps=150)[0].svg()
    assert [path["fill"] for path in new_paths(svg)] == [b"#d02020"]
    body, left, right = (points_of(svg, name) for name in (b"body", b"left", b"right"))
    assert max(from_corners(svg, draft, name) for name in (b"left", b"right")) < 1.5  # they have followed
    for one, other in ((left, right), (body[[1, 2]], body[[5, 4]])):
        across = one - other  # the same direction for all: that of what crosses the axis
        assert float((across[:, 1] / across[:, 0]).diff().abs().max()) < 0.002
        middles = (one + other) / 2
        assert float(((middles - middles[0]) * across[0]).sum(1).abs().max() / across[0].norm()) < 0.02
