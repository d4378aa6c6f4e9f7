"""Write a thing of the world as a nerfstudio data set, as if somebody had walked around it with a camera."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from plyfile import PlyData, PlyElement
from torch import Tensor

from pds_nerfstudio.toyworld.geometry import build
from pds_nerfstudio.toyworld.grammar import Attributes, caption
from pds_nerfstudio.toyworld.renderer import Cameras, orbit, render
from pds_nerfstudio.whole_files import whole_file, write_text

RECORD = "toyworld.json"
"""File beside transforms.json that says what the scene shows and what its edit should show."""
_SKY_DISTANCE = 25.0


def walk_around(n: int, seed: int, width: int = 128, height: int = 128) -> Cameras:
    """Return `n` cameras spread evenly around the subject, at changing heights and distances.

    Args:
        n: How many.
        seed: Shifts them all; scenes are trained on seed 0 and judged from others.
        width: In pixels.
        height: In pixels.
    """
    rng = torch.Generator().manual_seed(seed)

    def spread(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=rng)

    azimuth = (torch.arange(n) + spread(-0.3, 0.3)) * (360 / n) + 360 * torch.rand(1, generator=rng)
    return orbit(azimuth, spread(4, 28), spread(0.84, 1.0), width=width, height=height)


@torch.no_grad()
def photograph(thing: Attributes, cameras: Cameras) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], Tensor]]:
    """Yield the picture, in bytes, and the depth (metres, infinite in the sky) that each camera sees."""
    solids = build([thing], cameras.camera_to_world.device)
    for i in range(len(cameras)):
        picture = render(solids, cameras.of(i))
        yield (picture.rgb[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy(), picture.depth[0]


def write_scene(
    folder: Path,
    source: Attributes,
    target: Attributes,
    views: int = 32,
    width: int = 128,
    height: int = 128,
    seed: int = 0,
    seed_points: int = 8000,
) -> Iterator[int]:
    """Write images, transforms.json, a seed point cloud for splats, and the record of the edit.

    Args:
        folder: Created if need be; must not hold a scene already.
        source: What the scene shows.
        target: What an edit of it should show.
        views: Cameras around the subject.
        width: Of the images, in pixels.
        height: Of the images, in pixels.
        seed: Of the cameras and the points.
        seed_points: Points on the subject, the ground and the sky.

    Yields:
        The number of images written so far.

    Raises:
        FileExistsError: If the folder holds a scene.
    """
    if (folder / "transforms.json").exists():
        raise FileExistsError(f"{folder} holds a scene already: give a new folder.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    cameras = walk_around(views, seed, width, height)
    rng = torch.Generator().manual_seed(seed)
    frames, points, colors = [], [], []
    for i, (image, depth) in enumerate(photograph(source, cameras)):
        name = f"images/frame_{i + 1:05d}.png"
        with whole_file(folder / name) as unfinished:
            Image.fromarray(image).save(unfinished)
        pose = [*cameras.camera_to_world[i].tolist(), [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": name, "transform_matrix": pose})
        some = torch.randint(0, width * height, (-(-seed_points // views),), generator=rng)
        points.append(_surface(cameras, i, depth, some))
        colors.append(torch.from_numpy(image).reshape(-1, 3)[some])
        yield i + 1
    _write_ply(folder / "seed_points.ply", torch.cat(points)[:seed_points], torch.cat(colors)[:seed_points])
    record = {
        "source": asdict(source),
        "target": asdict(target),
        "source_prompt": caption(source),
        "target_prompt": caption(target),
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    transforms = {**_intrinsics(cameras), "ply_file_path": "seed_points.ply", "frames": frames}
    write_text(folder / "transforms.json", json.dumps(transforms, indent=2) + "\n")


def read_record(folder: Path) -> tuple[Attributes, Attributes]:
    """Return what a written scene shows, and what its edit should show."""
    record = json.loads((folder / RECORD).read_text())
    return Attributes(**record["source"]), Attributes(**record["target"])


def _intrinsics(cameras: Cameras) -> dict[str, str | float]:
    """Return what all frames have in common, by the names in transforms.json."""
    width, height, focal = cameras.width, cameras.height, cameras.focal[0].item()
    center = {"cx": width / 2, "cy": height / 2}
    return {"camera_model": "OPENCV", "fl_x": focal, "fl_y": focal, **center, "w": width, "h": height}


def _surface(cameras: Cameras, i: int, depth: Tensor, pixels: Tensor) -> Float[Tensor, "points 3"]:
    origins, directions = cameras.of(i).rays()  # of all cameras they would be too many
    distance = depth.reshape(-1)[pixels].clamp(max=_SKY_DISTANCE)
    return origins[0, pixels] + distance[:, None] * directions[0, pixels]


def _write_ply(path: Path, points: Float[Tensor, "points 3"], colors: UInt8[Tensor, "points 3"]) -> None:
    types = [(axis, "<f4") for axis in "xyz"] + [(channel, "u1") for channel in ("red", "green", "blue")]
    vertices = np.rec.fromarrays([*points.numpy().T, *colors.numpy().T], dtype=types)
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(path)
