"""Runs that earlier versions wrote: they open, go on and export, wherever their classes are now."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.viewer import Viewer
from PIL import Image
from plyfile import PlyData

from pds_nerfstudio.guidance.objectives import make_objective
from pds_nerfstudio.guidance.objectives.dreamcatalyst import DreamCatalyst
from pds_nerfstudio.guidance.objectives.ssd import Ssd
from pds_nerfstudio.scenes import compat
from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import read_record
from pds_nerfstudio.scenes.models.nerf import EditNerfModelConfig
from pds_nerfstudio.scenes.models.scene_model import render
from pds_nerfstudio.scenes.models.splat import EditSplatModelConfig
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.trainer import EditTrainerConfig
from pds_nerfstudio.scenes.views import SourceViews

KINDS = ["splat", "nerf"]
WRITTEN = Path(__file__).parent / "fixtures" / "run-0.2"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Finds the folder of a run of "splat" or "nerf" that version 0.2 wrote, in a copy of its own.

    The paths in its config.yml are relative, as they were given to ns-train.
    """
    folder = shutil.copytree(WRITTEN, tmp_path / "earlier")
    monkeypatch.chdir(folder)
    return lambda kind: Path("runs", "man", f"pds-{kind}", "written")


def config_of(run: Path) -> EditTrainerConfig:
    """Read a config.yml as nerfstudio does, for ns-viewer and for --load-config."""
    config = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)
    assert isinstance(config, EditTrainerConfig)
    return config


def test_their_settings_are_what_they_were(written: Any) -> None:
    splat, nerf = (config_of(written(kind)).pipeline for kind in KINDS)
    assert make_objective(splat.guidance.objective) == DreamCatalyst(delta=0.05, gamma=0.2, psi0=0.1)
    assert (splat.guidance.localize, splat.guidance.guidance_scale, splat.guidance.seed) == (0.5, 6.0, 0)
    assert (splat.refinement.strength, splat.refine_steps) == (0.3, 2)
    assert isinstance(splat.model, EditSplatModelConfig) and splat.model.strewn_gaussians == 20
    assert make_objective(nerf.guidance.objective) == Ssd(trajectory=1.5, enhancement=4.0)
    assert (nerf.guidance.t_schedule, nerf.refinement.denoising_steps) == ("annealed", 3)
    assert isinstance(nerf.model, EditNerfModelConfig) and nerf.model.log2_hashmap_size == 8
    assert splat.photometric_loss_mult == nerf.photometric_loss_mult == 2.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["test", "inference"])
def test_they_open_and_look_as_they_did(kind: str, mode: Any, written: Any) -> None:
    """As ns-viewer, ns-render and ns-export open them."""
    run = written(kind)
    _, pipeline, path, _ = eval_setup(run / "config.yml", test_mode=mode)
    assert path.parent == run / "nerfstudio_models"
    views = SourceViews(pipeline.datamanager, 1, pipeline.model.edit_background, pipeline.device)
    shown = to_bytes(render(pipeline.model, views.full_size_camera(0)))
    then = np.array(Image.open(run / "edited_views" / "images" / "frame_00001.png"))
    assert np.abs(shown.astype(int) - then).max() <= 2


@pytest.mark.filterwarnings("ignore:LPIPS reads NaN:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_ns_eval_works_on_them(kind: str, written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_lpips_backbone_available", lambda: False)  # it would be downloaded
    _, pipeline, _, _ = eval_setup(written(kind) / "config.yml")
    with torch.no_grad():
        assert torch.tensor(pipeline.get_average_eval_image_metrics()["psnr"]).isfinite()


@pytest.mark.parametrize("kind", KINDS)
def test_they_go_on_for_a_step_and_leave_their_results(kind: str, written: Any, run: Any, last_state: Any) -> None:
    earlier = written(kind)
    config = config_of(earlier)
    last = max(int(path.stem.removeprefix("step-")) for path in (earlier / "nerfstudio_models").iterdir())
    config.timestamp, config.load_dir = "resumed", earlier / "nerfstudio_models"
    # Of a splat that has been refined, all refining steps but the last stay done.
    config.max_num_iterations += 1
    trainer = run(config)
    assert last_state(trainer)["step"] == last + 1
    assert trainer.optimizers.skipped == 0 and trainer.source_folder.is_dir()
    written_now = {path.name for path in trainer.base_dir.iterdir()}
    assert {"report.html", "edited_views"} <= written_now and ("splat.ply" in written_now) == (kind == "splat")


@pytest.mark.parametrize("kind", KINDS)
def test_their_sessions_can_be_replayed(kind: str, written: Any) -> None:
    ((step, began),) = read_record(written(kind) / "session.jsonl")
    assert step == 0 and began.action == "set" and began.settings["steps_left"] == 3


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Nerfstudio's exporter, also where open3d lacks its system library; what is exported here needs none of it."""
    for name in ("open3d", "nerfstudio.scripts.exporter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "open3d", MagicMock())
    from nerfstudio.scripts import exporter

    return exporter


def test_ns_export_works_on_the_splat(written: Any, exporter: Any, tmp_path: Path) -> None:
    exporter.ExportGaussianSplat(written("splat") / "config.yml", tmp_path / "exports").main()
    theirs = PlyData.read(tmp_path / "exports" / "splat.ply")["vertex"]
    assert theirs.count > 60 and {"f_dc_0", "f_rest_8", "opacity", "scale_2", "rot_3"} <= set(theirs.data.dtype.names)


def test_ns_export_works_on_the_nerf(written: Any, exporter: Any, tmp_path: Path) -> None:
    exporter.ExportCameraPoses(written("nerf") / "config.yml", tmp_path / "exports").main()
    assert (tmp_path / "exports" / "transforms_train.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_ns_viewer_shows_them_with_their_panel(kind: str, written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(kind)
    config, pipeline, _, _ = eval_setup(run / "config.yml", test_mode="test")
    opened: list[EditPanel] = []
    usual = EditPanel.open_in

    def noted(self: EditPanel, viewer: Viewer) -> None:
        usual(self, viewer)
        opened.append(self)

    monkeypatch.setattr(EditPanel, "open_in", noted)
    viewer = Viewer(config.viewer, run / "viewer.txt", pipeline.datamanager.get_datapath(), pipeline)
    try:
        (panel,) = opened
        panel.refresh(force=True)
        assert "A finished edit" in panel._status.content and "loss" in panel._pictures.content
        assert pipeline.datamanager.train_dataset is not None
        camera = pipeline.datamanager.train_dataset.cameras[:1]
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(camera)
        assert {"rgb", "source", "before_after", "change"} <= outputs.keys()
    finally:
        viewer.viser_server.stop()
