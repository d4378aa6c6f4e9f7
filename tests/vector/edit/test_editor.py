"""A drawing whose numbers change: in which units, which of them, and within which bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.vector.edit.editor import VectorEditor
from pds_nerfstudio.vector.raster.affine import Affine
from pds_nerfstudio.vector.raster.scene import Scene, SceneParameters
from pds_nerfstudio.vector.svg.document import Document

SVG = b"""<svg viewBox="0 0 64 32"><linearGradient id="g">
<stop stop-color="red"/><stop offset=".5"/></linearGradient>
<g transform="scale(2)"><path d="M4 4h8v8h-8z"
fill="blue" fill-opacity=".5" stroke="green" stroke-width="1"/></g>
<circle cx="48" cy="16" r="9" fill="url(#g)"/></svg>"""


def _editor(**options: Any) -> VectorEditor:
    return VectorEditor(Document(SVG), 128, **options)


def test_without_a_change_it_renders_the_document() -> None:
    editor = _editor()
    assert editor.render().shape == (1, 3, 128, 128)
    assert torch.equal(editor.render(), editor.render(source=True))
    assert editor.svg() == SVG


def test_changes_count_in_pixels_of_the_reference_canvas() -> None:
    editor = _editor()
    with torch.no_grad():
        editor.changes["points"][:4, 0] += 8
        editor.changes["widths"] += 4
    # 8 pixels of 512 are 1 unit of a 64-wide drawing, and half a unit inside of scale(2)
    moved = editor.parameters().points - editor.source.points
    assert moved[:4].tolist() == [[0.5, 0]] * 4 and moved[4:].abs().max() == 0
    assert (editor.parameters().widths - editor.source.widths).tolist() == [0.25]


def test_only_the_chosen_groups_can_change() -> None:
    editor = _editor(groups=("colors",))
    assert set(editor.changes) == {"colors"}
    groups = _editor().parameter_groups(
        {"paths": 2.0, "points": 1.0, "colors": 0.1, "opacities": 0.4, "strokes": 0.2, "gradients": 0.3}
    )
    assert [(g["name"], g["lr"], len(g["params"])) for g in groups] == [
        ("paths", 2.0, 1),
        ("points", 1.0, 1),
        ("colors", 0.1, 1),
        ("opacities", 0.4, 1),
        ("strokes", 0.2, 1),
        ("gradients", 0.3, 2),
    ]


def test_gradients_reach_every_change() -> None:
    editor = _editor()
    (editor.render() * torch.linspace(0, 1, 128)).sum().backward()
    for name, change in editor.changes.items():
        assert change.grad is not None and change.grad.abs().sum() > 0, name


def test_what_cannot_be_written_does_not_change() -> None:
    editor = VectorEditor(
        Document(b'<svg viewBox="0 0 9 9"><path id="p" d="M0 0h1v1z"/><use href="#p" fill="red"/></svg>'), 32
    )
    with torch.no_grad():
        editor.changes["opacities"] += 0.5
    assert "colors" not in editor.changes


def test_projection_and_pull() -> None:
    editor = _editor()
    with torch.no_grad():
        for change in editor.changes.values():
            change += 1000
    editor.project()
    now = editor.parameters()
    for name in ("colors", "opacities", "offsets"):
        values = getattr(now, name)
        assert values.min() >= 0 and values.max() <= 1 + 1e-6
    with torch.no_grad():
        editor.changes["widths"] -= 1e6
    editor.project()
    assert editor.parameters().widths.min() == 0
    editor.pull_back(0.25)
    assert (editor.changes["points"] == 750).all()


def test_the_crossing_loss_has_no_say_over_the_document_itself() -> None:
    circle = b"M57 16C57 21 53 25 48 25C43 25 39 21 39 16C39 11 43 7 48 7C53 7 57 11 57 16z"
    editor = VectorEditor(Document(SVG.replace(b'circle cx="48" cy="16" r="9"', b'path d="%s"' % circle)), 128)
    assert editor.crossing_loss() == 0
    with torch.no_grad():
        editor.changes["points"] += torch.randn(
            editor.changes["points"].shape, generator=torch.Generator().manual_seed(0)
        ).mul_(50)
    loss = editor.crossing_loss()
    (gradient,) = torch.autograd.grad(loss, editor.changes["points"])
    assert loss > 0 and gradient.abs().max() <= 2.001


@pytest.mark.parametrize("groups", [("points",), ("paths", "points")])
def test_basic_shapes_move_as_wholes(groups: Any) -> None:
    shapes = b"""<rect width="9" height="4" rx="1"/><rect x="9" width="9" height="4"/><line x2="9" y2="9" stroke="red"/>
    <ellipse cx="5" cy="9" rx="4" ry="2"/>"""
    editor = VectorEditor(Document(b'<svg viewBox="0 0 16 16">%s<path d="M0 0h4v4h-4z"/></svg>' % shapes), 64, groups)
    generator = torch.Generator().manual_seed(0)
    for change in editor.changes.values():
        change.data += 8 * torch.randn(change.shape, generator=generator)
    before, after = editor.source.points, editor.parameters().points.detach()
    for path in editor.document.paths:
        rows = slice(path.first, path.first + len(path.source.outline.points))
        from_here = torch.cat([before[rows], torch.ones(len(before[rows]), 1)], 1)
        left = from_here @ torch.linalg.lstsq(from_here, after[rows], driver="gelsd").solution - after[rows]
        assert (left.abs().max() < 1e-4) == (path.source.tag != "path")
        assert (after[rows] - before[rows]).abs().max() > 0.1


@pytest.mark.parametrize("transform", ["", ' transform="rotate(30)"'])
def test_rectangles_with_an_outline_are_not_slanted(transform: str) -> None:
    rect = f'<rect x="20" y="20" width="20" height="8" stroke="red"{transform}/>'
    editor = VectorEditor(Document(f'<svg viewBox="0 0 64 64">{rect}</svg>'.encode()), 64)
    assert torch.equal(editor.parameters().points, editor.source.points)
    with torch.no_grad():
        editor.changes["paths"] += torch.tensor([[0.0, 40, 0], [20, 10, 0]])
    a, b, _, d = editor.parameters().points.detach()
    assert abs(float((b - a) @ (d - a))) < 1e-3
    assert (b - a)[1].abs() > 1 and (d - a).norm() != pytest.approx(8)
    found = editor.svg()
    assert b"<rect" in found and b"rotate(" in found
    editor.render().sum().backward()
    gradient = editor.changes["paths"].grad
    assert gradient is not None and gradient.isfinite().all() and gradient.abs().sum() > 0


DEFINED = """<linearGradient id="g"><stop stop-color="red"/><stop offset="1"/></linearGradient>
<clipPath id="c"><rect x="10" y="10" width="30" height="30"/></clipPath><style>.t{transform:scale(1.1)}</style>"""


@pytest.mark.parametrize("turned", ['fill="url(#g)"', 'stroke="url(#g)"', 'clip-path="url(#c)"', 'class="t"'])
@pytest.mark.parametrize(
    "shape",
    [
        '<rect x="20" y="20" width="20" height="8" rx="2" %s/>',
        '<circle cx="30" cy="24" r="9" transform="scale(-1)" %s/>',
    ],
)
def test_shapes_whose_paint_would_turn_with_them_are_stretched_alone(shape: str, turned: str) -> None:
    """So they stay what they are, and what is written looks as it did."""
    editor = VectorEditor(Document(f'<svg viewBox="0 0 64 64">{DEFINED}{shape % turned}</svg>'.encode()), 64)
    generator = torch.Generator().manual_seed(1)
    for change in editor.changes.values():
        change.data += 2 * torch.randn(change.shape, generator=generator)
    editor.project()
    again = Document(editor.svg())
    assert all(path.source.tag != "path" for path in again.paths)
    moved = editor.parameters().points.detach() - editor.source.points
    assert moved.abs().max() > 0.1
    with torch.no_grad():
        assert torch.allclose(VectorEditor(again, 64).render(), editor.render(), atol=0.02)


def test_shapes_go_where_most_of_their_points_are_pulled() -> None:
    editor = VectorEditor(Document(b'<svg viewBox="0 0 64 64"><rect width="9" height="4"/></svg>'), 64, ("points",))
    with torch.no_grad():
        editor.changes["points"] += torch.tensor([8.0, 16])
    assert editor.svg() == b'<svg viewBox="0 0 64 64"><rect width="9" height="4" x="1" y="2"/></svg>'


def test_a_drawing_with_nothing_to_edit_is_refused() -> None:
    with pytest.raises(UserError):
        VectorEditor(Document(b'<svg viewBox="0 0 9 9"><path d="M0 0h1v1z"/></svg>'), 32, groups=("strokes",))


def test_another_backend_may_draw() -> None:
    class Flat:
        def __init__(self, scene: Scene) -> None:
            self.scene = scene

        def render(
            self, parameters: SceneParameters, width: int, height: int, view: Affine, background: Tensor
        ) -> Tensor:
            return background * parameters.opacities.mean()

    editor = _editor(backend=Flat)
    assert isinstance(editor.renderer, Flat) and editor.renderer.scene is editor.document.scene
    torch.testing.assert_close(editor.render(), editor.source.opacities.mean().expand(1, 3, 128, 128))
