"""Scene folders in the layouts of nerfstudio's data parsers, made of photographs of the embedded world.

Each function writes one, and returns which shot each picture file shows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.data.utils.colmap_parsing_utils import rotmat2qvec
from PIL import Image

from tests.scenes.inputs.shots import Shots, shoot, surface

Shown = dict[Path, int]
Save = Callable[[Path, np.ndarray, int], None]
COLMAP_MODELS = {
    "SIMPLE_PINHOLE": 0,
    "PINHOLE": 1,
    "SIMPLE_RADIAL": 2,
    "OPENCV": 4,
    "OPENCV_FISHEYE": 5,
    "FULL_OPENCV": 6,
}


def save_plain(path: Path, picture: np.ndarray, i: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def transforms(
    folder: Path,
    shots: Shots | None = None,
    name: Callable[[int], str] = "images/{:04d}.png".format,
    save: Save = save_plain,
    frame: Callable[[int], Mapping[str, Any]] = lambda i: {},
    meta: Mapping[str, Any] | None = None,
) -> Shown:
    """Nerfstudio's own layout; `frame` and `meta` add to transforms.json, or take out what they give as None."""
    shots = shots or shoot()
    frames, shown = [], {}
    for i in range(len(shots)):
        path = folder / name(i)
        save(path, shots.pictures[i], i)
        shown[path.resolve()] = i
        whole = {
            "file_path": name(i),
            "transform_matrix": shots.pose(i).tolist(),
            **shots.intrinsics(i),
            **shots.lens,
            **frame(i),
        }
        frames.append({key: value for key, value in whole.items() if value is not None})
    write_json(folder / "transforms.json", {"camera_model": "OPENCV", **(meta or {}), "frames": frames})
    return shown


def with_masks(folder: Path, shots: Shots | None = None, save: Save = save_plain, some: bool = False) -> Shown:
    """The right half of each picture is masked out."""
    shots = shots or shoot()
    for i, picture in enumerate(shots.pictures):
        mask = np.full(picture.shape[:2], 255, np.uint8)
        mask[:, picture.shape[1] // 2 :] = 0
        save(folder / f"masks/{i:04d}.png", mask, i)

    def named(i: int) -> dict[str, str]:
        return {} if some and i % 2 else {"mask_path": f"masks/{i:04d}.png"}

    return transforms(folder, shots, frame=named)


def with_depths(folder: Path, some: bool = False) -> Shown:
    for i, picture in enumerate(shoot().pictures):
        save_plain(folder / f"depths/{i:04d}.png", np.full(picture.shape[:2], 3000, np.uint16), i)
    return transforms(folder, frame=lambda i: {} if some and i % 2 else {"depth_file_path": f"depths/{i:04d}.png"})


def blender(folder: Path, splits: tuple[str, ...] = ("train", "val", "test"), times: bool = False) -> Shown:
    shots, shown = shoot(), {}
    k = shots.intrinsics(0)
    for split in splits:
        frames = []
        for i in range(len(shots)) if split == "train" else [0]:
            path = folder / split / f"r_{i}.png"
            save_plain(path, shots.pictures[i], i)
            shown[path.resolve()] = i
            moment = {"time": i / len(shots)} if times else {}
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": shots.pose(i).tolist(), **moment})
        angle = float(2 * np.arctan(k["w"] / 2 / k["fl_x"]))
        write_json(folder / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": frames})
    return shown


def instant_ngp(folder: Path) -> Shown:
    shots = shoot()
    k = shots.intrinsics(0)
    shown = transforms(folder)
    frames = [{"file_path": f"images/{i:04d}", "transform_matrix": shots.pose(i).tolist()} for i in range(len(shots))]
    angle = float(2 * np.arctan(k["w"] / 2 / k["fl_x"]))
    write_json(folder / "transforms.json", {"camera_angle_x": angle, "aabb_scale": 4, "frames": frames})
    return shown


def _colmap_parameters(model: str, k: Mapping[str, float], lens: Mapping[str, float]) -> list[float]:
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL"):
        radial = [lens.get("k1", 0.0)] if model == "SIMPLE_RADIAL" else []
        return [k["fl_x"], k["cx"], k["cy"], *radial]
    names = {
        "PINHOLE": (),
        "OPENCV": ("k1", "k2", "p1", "p2"),
        "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
        "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    }[model]
    return [k["fl_x"], k["fl_y"], k["cx"], k["cy"], *(lens.get(name, 0.0) for name in names)]


def colmap(
    folder: Path,
    model: str = "PINHOLE",
    shots: Shots | None = None,
    lens: Mapping[str, float] | None = None,
    place: str = "colmap/sparse/0",
    images: str = "images",
    text: bool = False,
    points: bool = True,
) -> Shown:
    """A model of COLMAP's, in binary or text (colmap.github.io/format.html); each image has a camera of its own."""
    shots = shots or shoot()
    into, shown = folder / place, {}
    into.mkdir(parents=True)
    cameras, views = [], []
    for i in range(len(shots)):
        name = f"{i:04d}.png"
        save_plain(folder / images / name, shots.pictures[i], i)
        shown[(folder / images / name).resolve()] = i
        back = np.linalg.inv(shots.opencv_pose(i))
        k = shots.intrinsics(i)
        cameras.append((i + 1, model, k["w"], k["h"], _colmap_parameters(model, k, lens or shots.lens)))
        views.append((i + 1, [*rotmat2qvec(back[:3, :3]), *back[:3, 3]], i + 1, name))
    cloud = [(xyz.tolist(), (rgb * 255).round().int().tolist()) for xyz, rgb, _ in zip(*surface(), strict=True)]
    write = _write_text if text else _write_binary
    write(into, cameras, views, cloud if points else None)
    return shown


def _write_text(into: Path, cameras: list[Any], views: list[Any], cloud: list[Any] | None) -> None:
    def line(*values: Any) -> str:
        return " ".join(str(value) for value in values) + "\n"

    (into / "cameras.txt").write_text("".join(line(*camera[:4], *camera[4]) for camera in cameras))
    (into / "images.txt").write_text("".join(line(n, *pose, c, name) + "\n" for n, pose, c, name in views))
    if cloud is not None:
        rows = (line(n + 1, *xyz, *rgb, 0.5, 1, 0) for n, (xyz, rgb) in enumerate(cloud))
        (into / "points3D.txt").write_text("".join(rows))


def _write_binary(into: Path, cameras: list[Any], views: list[Any], cloud: list[Any] | None) -> None:
    with (into / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for number, model, width, height, parameters in cameras:
            file.write(struct.pack("<iiQQ", number, COLMAP_MODELS[model], width, height))
            file.write(struct.pack(f"<{len(parameters)}d", *parameters))
    with (into / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(views)))
        for number, pose, camera, name in views:
            file.write(struct.pack("<i7di", number, *pose, camera) + name.encode() + b"\0" + struct.pack("<Q", 0))
    if cloud is not None:
        with (into / "points3D.bin").open("wb") as file:
            file.write(struct.pack("<Q", len(cloud)))
            for number, (xyz, rgb) in enumerate(cloud):
                file.write(struct.pack("<Q3d3BdQii", number + 1, *xyz, *rgb, 0.5, 1, 1, 0))


def colmap_masked(folder: Path) -> Shown:
    shown = colmap(folder)
    with_masks(folder)
    (folder / "transforms.json").unlink()
    return shown


def phototourism(folder: Path) -> Shown:
    return colmap(folder, place="dense/sparse", images="dense/images")


def scannet(folder: Path) -> Shown:
    shots, shown = shoot(), {}
    for i in range(len(shots)):
        save_plain(folder / f"color/{i}.png", shots.pictures[i], i)
        save_plain(folder / f"depth/{i}.png", np.full(shots.pictures[i].shape[:2], 3000, np.uint16), i)
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / f"pose/{i}.txt", shots.opencv_pose(i))
        shown[(folder / f"color/{i}.png").resolve()] = i
    (folder / "intrinsic").mkdir()
    np.savetxt(folder / "intrinsic/intrinsic_color.txt", shots.matrix(0))
    return shown


def arkit(folder: Path) -> Shown:
    shots, shown = shoot(), {}
    inner = folder / f"{folder.name}_frames"
    lines = []
    for i in range(len(shots)):
        k, moment = shots.intrinsics(i), f"{i}.000"
        picture = inner / f"lowres_wide/{folder.name}_{moment}.png"
        save_plain(picture, shots.pictures[i], i)
        save_plain(inner / f"lowres_depth/{picture.name}", np.full(shots.pictures[i].shape[:2], 3000, np.uint16), i)
        (inner / "lowres_wide_intrinsics").mkdir(exist_ok=True)
        values = [k["w"], k["h"], k["fl_x"], k["fl_y"], k["cx"], k["cy"]]
        np.savetxt(inner / f"lowres_wide_intrinsics/{picture.stem}.pincam", [values])
        back = np.linalg.inv(shots.opencv_pose(i))
        quaternion = rotmat2qvec(back[:3, :3])
        sine = np.linalg.norm(quaternion[1:])
        turn = 2 * np.arctan2(sine, quaternion[0]) * quaternion[1:] / sine
        lines.append(" ".join(str(x) for x in [moment, *turn, *back[:3, 3]]))
        shown[picture.resolve()] = i
    (inner / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    return shown


def sdfstudio(folder: Path) -> Shown:
    shots, shown, frames = shoot(), {}, []
    for i in range(len(shots)):
        path = folder / f"{i:06d}_rgb.png"
        save_plain(path, shots.pictures[i], i)
        shown[path.resolve()] = i
        matrices = {"intrinsics": shots.matrix(i).tolist(), "camtoworld": shots.opencv_pose(i).tolist()}
        frames.append({"rgb_path": path.name, **matrices})
    k = shots.intrinsics(0)
    box = {"aabb": [[-3, -3, -3], [3, 3, 3]], "near": 0.1, "far": 9, "radius": 3, "collider_type": "near_far"}
    meta = {"width": k["w"], "height": k["h"], "has_mono_prior": False, "scene_box": box, "frames": frames}
    write_json(folder / "meta_data.json", meta)
    return shown


def scannetpp(folder: Path) -> Shown:
    shots, shown, frames = shoot(), {}, []
    for i in range(len(shots)):
        path = folder / f"dslr/resized_images/{i:04d}.png"
        save_plain(path, shots.pictures[i], i)
        shown[path.resolve()] = i
        frames.append({"file_path": path.name, "transform_matrix": shots.pose(i).tolist()})
    meta = {**shots.intrinsics(0), "camera_model": "OPENCV", "frames": frames[1:], "test_frames": frames[:1]}
    write_json(folder / "dslr/nerfstudio/transforms.json", meta)
    return shown


def nerfosr(folder: Path) -> Shown:
    shots, shown = shoot(), {}
    for split, numbers in (("train", range(1, len(shots))), ("validation", [0]), ("test", [0])):
        inner = folder / "church/final" / split
        for i in numbers:
            save_plain(inner / f"rgb/{i}.png", shots.pictures[i], i)
            shown[(inner / f"rgb/{i}.png").resolve()] = i
            for name, matrix in (("pose", shots.opencv_pose(i)), ("intrinsics", shots.matrix(i))):
                (inner / name).mkdir(exist_ok=True)
                np.savetxt(inner / name / f"{i}.txt", matrix)
    return shown


def sitcoms3d(folder: Path) -> Shown:
    shots, shown, frames = shoot(), {}, []
    for i in range(len(shots)):
        path = folder / f"images/{i:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(shots.pictures[i]).save(path, quality=100, subsampling=0)
        shown[path.resolve()] = i
        matrices = {"intrinsics": shots.matrix(i)[:3, :3].tolist(), "camtoworld": shots.pose(i).tolist()}
        frames.append({"image_name": path.name, **matrices})
    write_json(folder / "cameras.json", {"frames": frames, "bbox": [[-4.0, -4.0, -1.0], [4.0, 4.0, 3.0]]})
    write_json(folder / "panoptic_classes.json", {"thing": ["person"], "thing_colors": [[255, 0, 0]]})
    return shown


def dycheck(folder: Path) -> Shown:
    shots, shown, names = shoot(), {}, [f"0_{i:05d}" for i in range(5)]
    for i, name in enumerate(names):
        k, pose = shots.intrinsics(i), shots.opencv_pose(i)
        path = folder / f"rgb/1x/{name}.png"
        save_plain(path, shots.pictures[i], i)
        shown[path.resolve()] = i
        (folder / "depth/1x").mkdir(parents=True, exist_ok=True)
        np.save(folder / f"depth/1x/{name}.npy", np.full((*shots.pictures[i].shape[:2], 1), 3.0, np.float32))
        camera = {
            "orientation": pose[:3, :3].T.tolist(),
            "position": pose[:3, 3].tolist(),
            "focal_length": k["fl_x"],
            "pixel_aspect_ratio": 1.0,
            "principal_point": [k["cx"], k["cy"]],
            "image_size": [k["w"], k["h"]],
        }
        write_json(folder / f"camera/{name}.json", camera)
    extra = {"factor": 1, "fps": 30, "bbox": [[-1] * 3, [1] * 3], "lookat": [0, 0, 1], "up": [0, 0, 1]}
    write_json(folder / "extra.json", extra)
    write_json(folder / "scene.json", {"center": [0.0, 0.0, 1.0], "scale": 0.2, "near": 0.1, "far": 2.0})
    write_json(folder / "dataset.json", {"ids": names})
    write_json(folder / "metadata.json", {name: {"warp_id": i, "camera_id": 0} for i, name in enumerate(names)})
    write_json(folder / "splits/train.json", {"frame_names": names, "time_ids": list(range(5))})
    return shown


def minimal(folder: Path) -> Shown:
    shots, shown = shoot(), {}
    for i in range(len(shots)):
        save_plain(folder / f"{i}.png", shots.pictures[i], i)
        shown[(folder / f"{i}.png").resolve()] = i
    for split, numbers in (("train", [1, 2, 3, 4]), ("val", [0]), ("test", [0])):
        some = shots.cameras[torch.tensor(numbers)]
        cameras = {name: getattr(some, name).numpy() for name in ("fx", "fy", "cx", "cy", "height", "width")}
        cameras |= {"camera_to_worlds": some.camera_to_worlds.numpy(), "camera_type": some.camera_type.numpy()}
        np.savez(
            folder / f"{split}.npz",
            image_filenames=np.array([f"{i}.png" for i in numbers]),
            scene_box=np.array([[-3.0] * 3, [3.0] * 3], np.float32),
            cameras=np.array(cameras, dtype=object),
        )
    return shown
