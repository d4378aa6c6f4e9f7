"""pds-eval on finished runs of the real methods, from the command to the figures in the report."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pds_nerfstudio.evaluation.cli import Evaluation, run
from pds_nerfstudio.evaluation.edited_region import Selection, share_of_light
from pds_nerfstudio.evaluation.metrics import gradient_energy, psnr
from pds_nerfstudio.evaluation.toyworld import held_out_cameras
from pds_nerfstudio.evaluation.view_agreement import looks_of
from pds_nerfstudio.scenes.loading import FinishedEdit
from pds_nerfstudio.scenes.models.scene_model import render

VIEWS = 3


@pytest.fixture(scope="module", params=["splat", "nerf"])
def folder(request: pytest.FixtureRequest, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was scored with masks that cover the left half."""
    trainer = finished(request.param)
    copy = Path(shutil.copytree(trainer.base_dir, tmp_path_factory.mktemp(request.param) / trainer.base_dir.name))
    masks = copy / "masks"
    masks.mkdir()
    mask = np.zeros((32, 48), np.uint8)
    mask[:, :24] = 255
    for path in trainer.pipeline.views.outputs.image_filenames:
        Image.fromarray(mask).save(masks / f"{path.stem}.png")
    run(Evaluation(copy / "config.yml", views=VIEWS, masks=masks))
    return copy


def scores_of(folder: Path) -> dict[str, Any]:
    text = (folder / "evaluation" / "scores.json").read_text()
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_numbers_are_those_of_full_size_renders_beside_the_photos(folder: Path) -> None:
    loaded = FinishedEdit(folder / "config.yml")
    scores = scores_of(folder)["scene"]
    chosen, source = loaded.spread_views(VIEWS), loaded.reconstruction
    assert source is not None
    right = [
        tuple(
            image[:, 24:].permute(2, 0, 1)[None]
            for image in (
                loaded.views.full_size_image(i),
                *(render(model, loaded.views.full_size_camera(i)) for model in (source, loaded.pipeline.model)),
            )
        )
        for i in chosen
    ]
    photos, before, after = (torch.cat(images) for images in zip(*right, strict=True))
    assert scores["outside_share"] == 0.5 and scores["views"] == VIEWS
    for state, images in (("edit", after), ("reconstruction", before)):
        assert scores[state]["psnr_to_photos"] == pytest.approx(psnr(images, photos).mean().item(), abs=1e-3)
        sharpness = gradient_energy(images).mean() / gradient_energy(photos).mean()
        assert scores[state]["sharpness_outside"] == pytest.approx(sharpness.item(), rel=1e-3)
    assert scores["edit"]["psnr_to_reconstruction"] == pytest.approx(psnr(after, before).mean().item(), abs=1e-3)
    assert scores["reconstruction"]["psnr_to_reconstruction"] is None


def test_an_edit_of_the_embedded_world_has_its_true_edit_beside_it(folder: Path) -> None:
    scores = scores_of(folder)["true_edit"]
    assert 0 <= scores["kept"] <= 1
    assert scores["view_difference_ratio"] > 0
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "view difference ratio" in report and f"{scores['view_difference_ratio']:.3f}" in report


def test_the_looks_of_a_run_are_its_renders_and_their_points_are_where_its_cameras_see_them(folder: Path) -> None:
    loaded = FinishedEdit(folder / "config.yml")
    cameras = held_out_cameras(2, 24, 16)
    with torch.no_grad():
        looks = looks_of(loaded, cameras)
    rendered = loaded.render(cameras.camera_to_world, cameras.focal, 24, 16)
    for i, look in enumerate(looks):
        torch.testing.assert_close(look.color.permute(2, 0, 1), rendered[i], atol=0.01, rtol=0)
        assert torch.equal(look.camera_to_world, loaded.to_scene(cameras.camera_to_world)[i])
        at, _ = look.project(look.points())
        assert at[0, 0].tolist() == pytest.approx([0.5, 0.5], abs=1e-2)


def test_the_report_has_the_same_figures_once(folder: Path) -> None:
    report = folder / "report.html"
    once = report.read_text(encoding="utf-8")
    psnr_to_photos = f"{scores_of(folder)['scene']['edit']['psnr_to_photos']:.1f} dB"
    assert once.count("Measured by pds-eval") == once.count("Beside its source") == 1 and psnr_to_photos in once
    run(Evaluation(folder / "config.yml", views=1, out=folder / "again"))
    twice = report.read_text(encoding="utf-8")
    assert twice.count("Measured by pds-eval") == twice.count("Beside its source") == 1
    assert "whole pictures, as no region of the edit is known" in twice and "outside the masks" not in twice


def test_a_run_s_selection_says_what_is_outside(finished: Any, tmp_path: Path) -> None:
    config = dataclasses.replace(finished("splat").config, output_dir=tmp_path)
    folder = Path(shutil.copytree(finished("splat").base_dir, config.get_base_dir()))
    (folder / "config.yml").write_text(yaml.dump(config), encoding="utf-8")
    (checkpoint,) = (folder / "nerfstudio_models").glob("step-*.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    sizes = state["pipeline"]["_model.gauss_params.scales"].amax(1)
    free = sizes <= sizes.kthvalue(5).values  # few and small: in so small a scene others light all of a view
    state["pipeline"]["_extra_state"]["free"] = free
    (kept,) = (folder / "reconstruction").glob("step-*.ckpt")
    source = torch.load(kept, weights_only=True)
    frozen = {name: value[~free] for name, value in state["pipeline"].items() if "gauss_params" in name}
    source["pipeline"] |= frozen  # what a selection freezes is the same to the bit before and after the edit
    torch.save(state, checkpoint)
    torch.save(source, kept)
    run(Evaluation(folder / "config.yml", views=1))
    scores = scores_of(folder)["scene"]
    assert scores["outside"] == Selection.words
    loaded = FinishedEdit(folder / "config.yml")
    model: Any = loaded.pipeline.model
    light = share_of_light(model, loaded.views.full_size_camera(0), free)
    assert scores["outside_share"] == pytest.approx((light < 0.01).float().mean().item())
    assert 0 < scores["outside_share"] < 1
