"""Kinds of scene folders, and what each method makes of them. docs/guide/inputs.md says the same."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.arkitscenes_dataparser import ARKitScenesDataParserConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from nerfstudio.data.dataparsers.dycheck_dataparser import DycheckDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.minimal_dataparser import MinimalDataParserConfig
from nerfstudio.data.dataparsers.nerfosr_dataparser import NeRFOSRDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.dataparsers.phototourism_dataparser import PhototourismDataParserConfig
from nerfstudio.data.dataparsers.scannet_dataparser import ScanNetDataParserConfig
from nerfstudio.data.dataparsers.scannetpp_dataparser import ScanNetppDataParserConfig
from nerfstudio.data.dataparsers.sdfstudio_dataparser import SDFStudioDataParserConfig
from nerfstudio.data.dataparsers.sitcoms3d_dataparser import Sitcoms3DDataParserConfig
from PIL import Image
from torch import Tensor

from tests.scenes.inputs import folders
from tests.scenes.inputs.folders import Shown
from tests.scenes.inputs.shots import HEIGHT, WIDTH, shoot

WORKS = None


def as_it_is(picture: Tensor, background: Tensor) -> Tensor:
    return picture


@dataclass(frozen=True)
class Kind:
    """A kind of folder."""

    write: Callable[[Path], Shown]
    parser: Any = field(default_factory=NerfstudioDataParserConfig)
    splat: str | None = WORKS
    """Part of the line that refuses it."""
    nerf: str | None = WORKS
    data: str = ""
    """What in the folder is named as the data."""
    world: bool = True
    """Whether nerfstudio's parser says how it has moved the scene."""
    looks: Callable[[Tensor, Tensor], Tensor] = as_it_is
    """What a photograph looks like, as it is in the file and on a background."""
    tolerance: float = 0.02
    """Of the mean difference between a source view and the world seen by its camera."""

    def refused(self, method: str) -> str | None:
        return self.splat if method == "splat" else self.nerf


def refused(write: Callable[[Path], Any], line: str, parser: Any = None, data: str = "") -> Kind:
    return Kind(write, parser or NerfstudioDataParserConfig(), splat=line, nerf=line, data=data)


def _saving(convert: Callable[[Image.Image], Image.Image], name: str = "images/{:04d}.png") -> Callable[[Path], Shown]:
    def save(path: Path, picture: np.ndarray, i: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        convert(Image.fromarray(picture)).save(path)

    return partial(folders.transforms, save=save, name=name.format)


def _left_transparent(photo: Image.Image) -> Image.Image:
    pixels = np.array(photo.convert("RGBA"))
    pixels[:, : photo.width // 2] = (255, 0, 255, 0)
    return Image.fromarray(pixels)


def _left_shows(picture: Tensor, background: Tensor) -> Tensor:
    left = torch.arange(picture.shape[1])[None, :, None] < picture.shape[1] // 2
    return torch.where(left, background, picture)


def _left_white(picture: Tensor, background: Tensor) -> Tensor:
    return _left_shows(picture, torch.ones(3))


def _grey(picture: Tensor, background: Tensor) -> Tensor:
    luma = (picture * torch.tensor([0.299, 0.587, 0.114])).sum(-1, keepdim=True)
    return luma.expand_as(picture)


def _deep(photo: Image.Image) -> Image.Image:
    return Image.fromarray(np.array(photo.convert("L")).astype(np.uint16) * 257)


def _make_transparent(*paths: Path) -> None:
    for path in paths:
        with Image.open(path) as photo:
            changed = _left_transparent(photo)
        changed.save(path)


def _some_transparent(folder: Path) -> Shown:
    def save(path: Path, picture: np.ndarray, i: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = Image.fromarray(picture)
        (photo.convert("RGBA") if i % 2 else photo).save(path)

    return folders.transforms(folder, save=save)


def _on_its_side(folder: Path) -> Shown:
    """As a phone writes them: the pixels turned, and Exif that says so."""

    def save(path: Path, picture: np.ndarray, i: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)

    return folders.transforms(folder, save=save)


def _after(write: Callable[[Path], Shown], then: Callable[[Path], Any]) -> Callable[[Path], Shown]:
    def wrote(folder: Path) -> Shown:
        shown = write(folder)
        then(folder)
        return shown

    return wrote


def _in_json(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "transforms.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return cut


def _halved(pattern: str) -> Callable[[Path], None]:
    def halve(folder: Path) -> None:
        for path in folder.glob(pattern):
            with Image.open(path) as picture:
                small = picture.resize((picture.width // 2, picture.height // 2))
            small.save(path)

    return halve


def _with_copies(folder: Path) -> Shown:
    shown = folders.transforms(folder, shoot(sizes=((2 * WIDTH, 2 * HEIGHT),)))
    shutil.copytree(folder / "images", folder / "images_2")
    _halved("images_2/*.png")(folder)
    return {folder.resolve() / "images_2" / path.name: i for path, i in shown.items()}


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _absolute(folder: Path) -> Shown:
    return folders.transforms(folder, name=lambda i: str(folder.resolve() / f"images/{i:04d}.png"))


def _in_colour(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.open(path).convert("RGB").save(path)


def _listed(folder: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Shown:
    names = [f"images/{i:04d}.png" for i in range(5)]
    lists = {f"{split}_filenames": names[1:] if split == "train" else names[:1] for split in splits}
    return folders.transforms(folder, meta=lists)


def _touch(*names: str) -> Callable[[Path], Shown]:
    def touch(folder: Path) -> Shown:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return {}

    return touch


def _of_camera(
    model: str,
    camera_type: CameraType = CameraType.PERSPECTIVE,
    lens: Mapping[str, float] | None = None,
    degrees: float | None = None,
) -> Callable[[Path], Shown]:
    def write(folder: Path) -> Shown:
        focal_length = None if degrees is None else WIDTH / math.radians(degrees)
        shots = shoot(lens=tuple((lens or {}).items()), camera_type=camera_type, focal_length=focal_length)
        return folders.transforms(folder, shots, meta={"camera_model": model})

    return write


def _of_sizes(
    *sizes: tuple[int, int], write: Callable[..., Shown] = folders.transforms, lens: Mapping[str, float] | None = None
) -> Callable[[Path], Shown]:
    return lambda folder: write(folder, shoot(sizes=sizes, lens=tuple((lens or {}).items())))


def _few(n: int, write: Callable[..., Shown] = folders.transforms) -> Callable[[Path], Shown]:
    return lambda folder: write(folder, shoot(n))


NERFSTUDIO, COLMAP = NerfstudioDataParserConfig(), ColmapDataParserConfig(eval_mode="all")
SQUARE, TALL, SMALL = (32, 32), (HEIGHT, WIDTH), (24, 20)
LENS = {"k1": 0.08, "k2": -0.02, "p1": 0.004, "p2": -0.003}
FISHEYE = CameraType.FISHEYE
IN_ONE_PLACE = "end the command with nerfstudio-data --auto-scale-poses False"
NO_MODEL = "holds no colmap/sparse/0/cameras.bin, but what colmap reads: end the command with colmap"

KINDS: dict[str, Kind] = {
    # nerfstudio's own layout: pictures
    "plain": Kind(folders.transforms),
    "json named": Kind(folders.transforms, data="transforms.json"),
    "transparent": Kind(_saving(_left_transparent), looks=_left_shows),
    "some transparent": Kind(_some_transparent),
    "grey": Kind(_saving(lambda photo: photo.convert("L")), looks=_grey),
    "grey and opacity": Kind(_saving(lambda photo: photo.convert("LA")), looks=_grey),
    "16-bit grey": Kind(_saving(_deep), looks=_grey),
    "palette": Kind(_saving(lambda photo: photo.quantize(256))),
    "CMYK": Kind(_saving(lambda photo: photo.convert("CMYK"), "images/{:04d}.tif")),
    "turned by Exif": Kind(_on_its_side),
    "sub-folders of one name": Kind(partial(folders.transforms, name="images/{}/a.png".format)),
    "absolute paths": Kind(_absolute),
    "spaces and umlauts": Kind(partial(folders.transforms, name="Bilder äöü/ein Bild {}.png".format)),
    "mixed sizes": Kind(_of_sizes((WIDTH, HEIGHT), TALL, SQUARE, SMALL)),
    "mixed sizes with distortion": Kind(_of_sizes((WIDTH, HEIGHT), TALL, SQUARE, lens=LENS), tolerance=0.03),
    "depth files": Kind(folders.with_depths),
    "smaller copies": Kind(_with_copies, replace(NERFSTUDIO, downscale_factor=2), tolerance=0.03),
    "seed points that are not there": Kind(partial(folders.transforms, meta={"ply_file_path": "points.ply"})),
    # masks
    "masks": Kind(folders.with_masks),
    "masks, mixed sizes": Kind(_of_sizes((WIDTH, HEIGHT), TALL, write=folders.with_masks)),
    "masks, distortion": Kind(_of_sizes((WIDTH, HEIGHT), write=folders.with_masks, lens=LENS), tolerance=0.03),
    "masks, one training view": Kind(_few(2, folders.with_masks), replace(NERFSTUDIO, train_split_fraction=0.5)),
    # lenses
    "distortion": Kind(_of_camera("OPENCV", lens=LENS), tolerance=0.03),
    "distortion with k4": Kind(
        _of_camera("OPENCV", lens={"k1": 0.05, "k4": 0.01}), splat="leave k4 out, or take pds-nerf"
    ),
    "fisheye": Kind(_of_camera("OPENCV_FISHEYE", FISHEYE, {"k1": 0.05}), tolerance=0.03),
    "fisheye without distortion": Kind(_of_camera("OPENCV_FISHEYE", FISHEYE), tolerance=0.03),
    "fisheye of 120 degrees": Kind(_of_camera("OPENCV_FISHEYE", FISHEYE, {"k1": 0.02}, degrees=120), tolerance=0.04),
    "fisheye of 180 degrees": Kind(
        _of_camera("OPENCV_FISHEYE", FISHEYE, degrees=180), splat="see more than 160 degrees: take pds-nerf, or crop"
    ),
    "equirectangular": Kind(
        _of_camera("EQUIRECTANGULAR", CameraType.EQUIRECTANGULAR), splat="ns-process-data images --camera-type equirect"
    ),
    "orthographic": refused(_of_camera("ORTHOPHOTO"), "can't edit pictures of a camera of type ORTHOPHOTO"),
    "a lens of another name": refused(
        _of_camera("THIN_PRISM"), "'THIN_PRISM', which nerfstudio can't read: undistort the images, and write one of"
    ),
    # how many views, and which for evaluation
    "one view": refused(_few(1), IN_ONE_PLACE),
    "one view, not scaled": Kind(_few(1), replace(NERFSTUDIO, auto_scale_poses=False)),
    "two views": Kind(_few(2)),
    "three views": Kind(_few(3)),
    "all views for both": Kind(folders.transforms, replace(NERFSTUDIO, eval_mode="all")),
    "splits in transforms.json": Kind(_listed),
    "one split in transforms.json": refused(partial(_listed, splits=("train",)), "list of filenames for split val is"),
    "split by name, without names": refused(
        folders.transforms, "frame should contain train/eval", replace(NERFSTUDIO, eval_mode="filename")
    ),
    # damage
    "half-written": refused(_after(folders.transforms, _cut("transforms.json")), "is no JSON, or was broken off"),
    "no frames": refused(lambda folder: folders.write_json(folder / "transforms.json", {"frames": []}), "no frames"),
    "a frame without pose": refused(
        partial(folders.transforms, frame=lambda i: {"transform_matrix": None} if i == 2 else {}),
        "Frame 2 of {folder}/transforms.json has no transform_matrix",
    ),
    "a pose of NaN": refused(
        partial(folders.transforms, frame=lambda i: {"transform_matrix": [[float("nan")] * 4] * 4} if i == 2 else {}),
        "The pose of images/0002.png in {folder}/transforms.json is no matrix of numbers",
    ),
    "a camera without focal length": refused(
        partial(folders.transforms, frame=lambda i: {"fl_x": None}),
        "can't be read by nerfstudio-data (fx not specified",
    ),
    "missing frames": Kind(_after(folders.transforms, _remove("images/0001.png", "images/0003.png"))),
    "the first frame missing": Kind(_after(folders.transforms, _remove("images/0000.png"))),
    "all but one missing": Kind(_after(folders.transforms, _remove(*(f"images/{i:04d}.png" for i in range(4))))),
    "missing evaluation views": Kind(_after(_listed, _remove("images/0000.png"))),
    "missing training views": refused(
        _after(_listed, _remove(*(f"images/{i:04d}.png" for i in range(1, 5)))), "(4 of 4 images are missing)"
    ),
    "missing frames with masks": Kind(_after(folders.with_masks, _remove("images/0001.png", "masks/0001.png"))),
    "smaller copies missing": refused(
        folders.transforms,
        "make these smaller copies, or end the command with nerfstudio-data --downscale-factor 1",
        replace(NERFSTUDIO, downscale_factor=2),
    ),
    "folder of images missing": refused(
        _after(folders.transforms, lambda folder: (folder / "images").rename(folder / "gone")), "0000.png, which"
    ),
    "Windows' separators": refused(
        partial(folders.transforms, frame=lambda i: {"file_path": f"images\\{i:04d}.png"}), "write / in place of"
    ),
    "truncated picture": refused(_after(folders.transforms, _cut("images/0002.png")), "0002.png can't be read"),
    "no picture": refused(
        _after(folders.transforms, lambda folder: (folder / "images/0002.png").write_text("404")), "0002.png can't be"
    ),
    "pictures resized": refused(
        _after(folders.transforms, _halved("images/*.png")), "is 18x14 pixels and its camera 36x28"
    ),
    "masks for some": refused(partial(folders.with_masks, some=True), "a mask_path for 3 of 5 frames"),
    "depths for some": refused(partial(folders.with_depths, some=True), "a depth_file_path for 3 of 5 frames"),
    "masks of another size": refused(_after(folders.with_masks, _halved("masks/*.png")), "and its image 36x28"),
    "masks in colour": refused(_after(folders.with_masks, _in_colour), "is in colour (RGB)"),
    "masks missing": refused(_after(folders.with_masks, _remove("masks/0001.png")), "1 of 5 masks"),
    # no scene, or not yet
    "nothing there": refused(lambda folder: None, "--data {data} holds no transforms.json: make one", data="nothing"),
    "an empty folder": refused(lambda folder: None, "holds no transforms.json: make one with ns-process-data"),
    "a video": refused(
        _touch("walk.mp4"), "ns-process-data video --data {data} --output-dir {folder}/walk-scene.", data="walk.mp4"
    ),
    "a folder with a video": refused(_touch("walk.MOV"), "ns-process-data video --data {folder}/walk.MOV"),
    "a folder of photos": refused(_touch("a.jpg", "b.jpg"), "ns-process-data images --data {folder} --output-dir"),
    "a folder of photos inside": refused(_touch("images/a.HEIC"), "ns-process-data images --data {folder}/images"),
    "an archive": refused(_touch("scan.zip"), "ns-process-data polycam --data {data}", data="scan.zip"),
    "a Record3D capture": refused(_touch("EXR_RGBD/rgb/0.jpg"), "ns-process-data record3d --data {folder} "),
    "the folder above": refused(
        lambda folder: folders.transforms(folder / "man"), "{folder}/man is a scene: give that"
    ),
    # other layouts, their parser not named
    "Blender's, not named": refused(folders.blender, "end the command with blender-data"),
    "D-NeRF's, not named": refused(partial(folders.blender, times=True), "end the command with dnerf-data"),
    "COLMAP's, not named": refused(folders.colmap, "end the command with colmap."),
    "instant-ngp's, not named": refused(folders.instant_ngp, "end the command with instant-ngp-data"),
    "NeRF-OSR's, not named": refused(folders.nerfosr, "end the command with nerfosr-data --scene church"),
    "ARKitScenes', not named": refused(folders.arkit, "end the command with arkit-data"),
    # other parsers
    "instant-ngp-data": Kind(folders.instant_ngp, InstantNGPDataParserConfig()),
    "blender-data": Kind(folders.blender, BlenderDataParserConfig()),
    "blender-data without evaluation views": refused(
        partial(folders.blender, splits=("train",)),
        "transforms_val.json, which blender-data reads",
        BlenderDataParserConfig(),
    ),
    "blender-data, transparent": Kind(
        _after(folders.blender, lambda folder: _make_transparent(*folder.glob("*/*.png"))),
        BlenderDataParserConfig(),
        looks=_left_white,
    ),
    "dnerf-data": Kind(partial(folders.blender, times=True), DNeRFDataParserConfig()),
    "colmap": Kind(folders.colmap, COLMAP),
    "colmap as text": Kind(partial(folders.colmap, text=True), COLMAP),
    "colmap, SIMPLE_RADIAL": Kind(
        lambda folder: folders.colmap(folder, "SIMPLE_RADIAL", shoot(lens=(("k1", 0.08),))), COLMAP, tolerance=0.03
    ),
    "colmap, OPENCV_FISHEYE": Kind(
        lambda folder: folders.colmap(folder, "OPENCV_FISHEYE", shoot(lens=(("k1", 0.05),), camera_type=FISHEYE)),
        COLMAP,
        tolerance=0.03,
    ),
    "colmap, FULL_OPENCV": refused(
        lambda folder: folders.colmap(folder, "FULL_OPENCV", lens={"k4": 0.1}),
        "can't be read by colmap (FULL_OPENCV camera model is not supported yet!)",
        COLMAP,
    ),
    "colmap, missing images": Kind(_after(folders.colmap, _remove("images/0001.png", "images/0003.png")), COLMAP),
    "colmap, the first image missing": refused(
        _after(folders.colmap, _remove("images/0000.png")), "0000.png, which colmap reads, is not there", COLMAP
    ),
    "colmap with masks": Kind(folders.colmap_masked, replace(COLMAP, masks_path=Path("masks"))),
    "colmap in sparse/0": refused(
        partial(folders.colmap, place="sparse/0"), f"{NO_MODEL} --colmap-path sparse/0.", COLMAP
    ),
    "colmap of 3DGS": refused(
        partial(folders.colmap, place="sparse/0", images="input"),
        f"{NO_MODEL} --colmap-path sparse/0 --images-path input.",
        COLMAP,
    ),
    "colmap in sparse/0, named": Kind(
        partial(folders.colmap, place="sparse/0"), replace(COLMAP, colmap_path=Path("sparse/0"))
    ),
    "colmap without points, as told": Kind(
        partial(folders.colmap, points=False), replace(COLMAP, load_3D_points=False)
    ),
    "colmap without points": refused(
        partial(folders.colmap, points=False), "end the command with colmap --load-3D-points False", COLMAP
    ),
    "colmap, one view": refused(
        lambda folder: folders.colmap(folder, shots=shoot(1)),
        "end the command with colmap --auto-scale-poses False",
        COLMAP,
    ),
    "colmap, one view of every eighth": refused(
        lambda folder: folders.colmap(folder, shots=shoot(1)),
        "end the command with colmap --eval-mode all",
        replace(COLMAP, eval_mode="interval", auto_scale_poses=False),
    ),
    "phototourism-data": Kind(folders.phototourism, PhototourismDataParserConfig()),
    "scannet-data": Kind(folders.scannet, ScanNetDataParserConfig(load_3D_points=False)),
    "scannetpp-data": Kind(folders.scannetpp, ScanNetppDataParserConfig()),
    "arkit-data": Kind(folders.arkit, ARKitScenesDataParserConfig(), world=False),
    "sdfstudio-data": Kind(folders.sdfstudio, SDFStudioDataParserConfig(), world=False),
    "nerfosr-data": Kind(folders.nerfosr, NeRFOSRDataParserConfig(scene="church"), world=False),
    "sitcoms3d-data": Kind(folders.sitcoms3d, Sitcoms3DDataParserConfig(downscale_factor=1), world=False),
    "dycheck-data": Kind(folders.dycheck, DycheckDataParserConfig(), world=False),
    "minimal-parser": Kind(folders.minimal, MinimalDataParserConfig()),
}
