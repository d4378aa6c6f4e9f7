"""Write the results of a finished edit, for people to look at and for other programs to use."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from rich.progress import track
from torch import Tensor

from pds_nerfstudio.contact_sheet import contact_sheet
from pds_nerfstudio.measures import psnr
from pds_nerfstudio.page import OfAnySize, Picture
from pds_nerfstudio.scenes.files.formats import write_splats
from pds_nerfstudio.scenes.files.placement import Coordinates, comments, placement
from pds_nerfstudio.scenes.files.splats import Splats
from pds_nerfstudio.scenes.models.ball import looked_at_ball
from pds_nerfstudio.scenes.models.scene_model import SceneModel, render
from pds_nerfstudio.scenes.output.before import SceneBefore
from pds_nerfstudio.scenes.output.pictures import to_bytes
from pds_nerfstudio.scenes.run import Scene
from pds_nerfstudio.scenes.terminal import say
from pds_nerfstudio.scenes.views import SourceViews, opaque
from pds_nerfstudio.video import has_ffmpeg, write_video
from pds_nerfstudio.whole_files import whole_file, whole_folder

_CAMERA_MODELS = {
    CameraType.PERSPECTIVE.value: "OPENCV",
    CameraType.FISHEYE.value: "OPENCV_FISHEYE",
    CameraType.EQUIRECTANGULAR.value: "EQUIRECTANGULAR",
}
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_SHEET_VIEWS = 6
_FRAMES_PER_SECOND = 30
_JUDGED_VIEWS = 3
_POOR_DECIBELS = 20.0


def fixed_view(scene: Scene) -> Picture:
    """Return what the scene looks like now from its first training view, at the size the guidance works with."""
    training = scene.training
    scene.eval()
    try:
        return to_bytes(render(scene.model, scene.views[0].camera))
    finally:
        scene.train(training)


@torch.no_grad()
def evaluation_decibels(scene: Scene, most: int) -> list[float]:
    """Return the PSNR in dB of each of the data set's evaluation views.

    The scene is not reconstructed from those, unless the data parser takes all views for both (--eval-mode all). A data
    set of few images has none.

    Args:
        scene: Its model is set to eval.
        most: How many views to use at most.
    """
    model = scene.model
    model.eval()
    decibels = []
    # nerfstudio's data manager of rays lacks this where there are no such views.
    views = getattr(scene.datamanager, "fixed_indices_eval_dataloader", ())
    for camera, batch in itertools.islice(views, most):
        image = opaque(batch["image"].to(model.device), model.edit_background.to(model.device))
        decibels.append(psnr(render(model, camera), image))
    return torch.stack(decibels).tolist() if decibels else []


def judge_reconstruction(scene: Scene) -> None:
    """Print how good a reconstruction is: to edit a failed one is a waste of time.

    Args:
        scene: Its model is set to eval.
    """
    decibels = evaluation_decibels(scene, _JUDGED_VIEWS)
    if not decibels:
        return
    mean = sum(decibels) / len(decibels)
    say(f"Reconstructed: {mean:.1f} dB on {len(decibels)} of the data set's evaluation views.")
    if mean < _POOR_DECIBELS:
        say(
            "That is a poor scene, and an edit keeps its faults: stop, and give a larger "
            "--pipeline.reconstruct-steps, or check the camera poses.",
            "yellow",
        )


def write_results(
    scene: Scene,
    folder: Path,
    turntable_frames: int,
    coordinates: Coordinates = "scene",
    before_edit: SceneBefore | None = None,
) -> list[Path]:
    """Render every training view and a turntable.

    Args:
        scene: With its source views; set to eval.
        folder: Of the run.
        turntable_frames: 0 for no turntable.
        coordinates: Of a splat's file; ns-export writes the scene's.
        before_edit: The scene as it was, to turn beside the edit; None turns the edit alone.

    Returns:
        The data set's transforms.json, the before/after sheet, of a splat splat.ply, and the video where there is an
        ffmpeg.
    """
    views, model = scene.views, scene.model
    shown = shown_views(views)
    after: list[OfAnySize] = []

    def edited() -> Iterator[OfAnySize]:
        for i in track(range(len(views)), description="Rendering the edited views", console=CONSOLE, transient=True):
            picture = to_bytes(render(model, views.full_size_camera(i)))
            if i in shown:
                after.append(picture)
            yield picture

    written = [write_dataset(folder / "edited_views", views, edited())]
    before = [to_bytes(views.full_size_image(i)) for i in shown]
    titles = before_and_after(scene.settings["src_prompt"], scene.settings["tgt_prompt"])
    sheet = contact_sheet(dict(zip(titles, (before, after), strict=True)))
    with whole_file(folder / "before_after.png") as unfinished:
        sheet.save(unfinished)
    written.append(folder / "before_after.png")
    if (columns := model.splats()) is not None:
        splats = Splats.of_columns(columns)
        if coordinates == "world":
            splats = splats.moved(placement(views.outputs).inverse())
        written.append(write_splats(folder / "splat.ply", splats, comments(coordinates)))
    if turntable_frames and has_ffmpeg():
        cameras = turntable(views.cameras, turntable_frames, model.points)
        frames = (
            _beside(before_edit, model, cameras[i : i + 1])
            for i in track(range(len(cameras)), description="Rendering the turntable", console=CONSOLE, transient=True)
        )
        written.append(write_video(folder / "turntable.mp4", frames, _FRAMES_PER_SECOND))
    elif turntable_frames:
        CONSOLE.print("No turntable.mp4, because ffmpeg is missing. For the next run: pip install imageio-ffmpeg")
    return written


def _beside(before_edit: SceneBefore | None, model: SceneModel, camera: Cameras) -> Picture:
    """Return what a camera sees of the edit, on its left what it saw before."""
    after = to_bytes(render(model, camera))
    return after if before_edit is None else np.concatenate([to_bytes(before_edit.render(camera)), after], axis=1)


def before_and_after(source: str, target: str) -> tuple[str, str]:
    """Return titles for the two states of a scene, with its prompts; an empty one, as instructions have it, is no part.

    Args:
        source: The source prompt.
        target: The target prompt.
    """
    return f"Before: {source}" if source.strip() else "Before", f"After: {target}" if target.strip() else "After"


def shown_views(views: SourceViews) -> list[int]:
    """Return the numbers of some training views, spread evenly over all of them."""
    n = len(views)
    return sorted({round(i * (n - 1) / max(1, _SHEET_VIEWS - 1)) for i in range(_SHEET_VIEWS)})


def write_dataset(folder: Path, views: SourceViews, images: Iterable[OfAnySize]) -> Path:
    """Write rendered views as a nerfstudio data set in the source data's own coordinates, one at a time.

    The intrinsics are those of the cameras that rendered, so they match whatever downscaling or undistortion the
    source images went through.
    """
    outputs = views.outputs
    stems = [Path(path).stem for path in outputs.image_filenames]
    if len(set(stems)) < len(stems):  # images of one name in several folders
        stems = [f"{i:05d}_{stem}" for i, stem in enumerate(stems)]
    frames = []
    with whole_folder(folder) as unfinished:
        (unfinished / "images").mkdir()
        for i, image in enumerate(images):
            camera = views.full_size_camera(i).to("cpu")
            pose = outputs.transform_poses_to_original_space(camera.camera_to_worlds, camera_convention="opengl")[0]
            name = f"images/{stems[i]}.png"
            Image.fromarray(image).save(unfinished / name)
            frame = {
                "file_path": name,
                "fl_x": camera.fx.item(),
                "fl_y": camera.fy.item(),
                "cx": camera.cx.item(),
                "cy": camera.cy.item(),
                "w": image.shape[1],
                "h": image.shape[0],
                "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
            }
            if camera.distortion_params is not None:
                frame |= dict(zip(_DISTORTION, camera.distortion_params[0].tolist(), strict=True))
            frames.append(frame)
        model = _CAMERA_MODELS.get(int(views.full_size_camera(0).camera_type.item()), "OPENCV")
        content = {"camera_model": model, "frames": frames}
        (unfinished / "transforms.json").write_text(json.dumps(content, indent=2) + "\n")
    return folder / "transforms.json"


def turntable(cameras: Cameras, n_frames: int, points: Float[Tensor, "points 3"]) -> Cameras:
    """Return a camera that goes once around what the training cameras look at, at their mean height and distance.

    Args:
        cameras: The training cameras.
        n_frames: Of the video.
        points: Of the scene, see `looked_at_ball`.
    """
    poses = cameras.camera_to_worlds.cpu()
    center, _ = looked_at_ball(cameras.to("cpu"), points)
    offsets = poses[:, :, 3] - center
    height = offsets[:, 2].mean()
    radius = offsets[:, :2].norm(dim=-1).mean()
    first = torch.atan2(offsets[0, 1], offsets[0, 0])
    angle = first + torch.arange(n_frames) * (2 * torch.pi / n_frames)
    backward = torch.stack([radius * angle.cos(), radius * angle.sin(), height.expand(n_frames)], -1)
    positions = center + backward
    backward = torch.nn.functional.normalize(backward, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]).expand_as(backward), backward), dim=-1
    )
    up = torch.linalg.cross(backward, right)
    first_camera = cameras[:1].to("cpu")
    width, height_px = int(first_camera.width.item()), int(first_camera.height.item())
    return Cameras(
        camera_to_worlds=torch.stack([right, up, backward, positions], -1),
        fx=first_camera.fx[0],
        fy=first_camera.fy[0],
        cx=width / 2,
        cy=height_px / 2,
        width=width,
        height=height_px,
    )
