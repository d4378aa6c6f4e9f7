"""Mends for what nerfstudio 1.1.5 trips over: a newer torch, no network, no GPU.

Each is small and named for what it mends, leaves nerfstudio's files alone, and can go when nerfstudio no
longer needs it:

- `allow_checkpoint_types`, once, at import: torch 2.6 and later refuse nerfstudio's checkpoints.
- `read_points_without_open3d`, once, at import: open3d needs a system library.
- `offline_lpips`, around `populate_modules`: building a model downloads a network for one of its
  metrics.
- `uninterrupted`, around what must not be broken off: the viewer breaks off renders anywhere.
- `cpu_splatfacto`, around `populate_modules` and `get_outputs`: splatfacto takes a GPU for granted.
"""

import functools
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.blender_dataparser import Blender
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio
from nerfstudio.data.dataparsers.scannet_dataparser import ScanNet
from torch import Tensor, nn
from torchmetrics.image import lpip
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.hub import status
from pds_nerfstudio.one_line import one_line
from pds_nerfstudio.splat_rasterizer.rasterizer import rasterization

_DOWNLOAD_PROBE_SECONDS = 3.0
"""How long to wait for a server that has the LPIPS weights; after that, LPIPS is left out."""

_MISSING: Any = object()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set `owner.name` to `value` for a while; afterwards `owner` has what it had, or inherits it again."""
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def allow_checkpoint_types() -> None:
    """Let `torch.load` read nerfstudio's checkpoints without giving up its check of what they contain.

    Since torch 2.6 `torch.load` unpickles nothing but tensors and plain containers unless told to
    (`weights_only=True`). nerfstudio's learning-rate schedules multiply with numpy, so its checkpoints hold
    the current rate as a numpy float64: a scalar, its dtype, and that dtype's class. These three are put on
    torch's list of safe types, the scalar's constructor under both the names that numpy 1 and numpy 2 write.
    Everything else is refused as before. Calling this again changes nothing.
    """
    scalar: Any = np.float64(0).__reduce__()[0]  # not importable under one name from numpy 1 and 2
    torch.serialization.add_safe_globals(
        [
            (scalar, "numpy.core.multiarray.scalar"),
            (scalar, "numpy._core.multiarray.scalar"),
            np.dtype,
            type(np.dtype(np.float64)),
        ]
    )


@functools.cache
def _lpips_backbone_available() -> bool:
    """Return whether the AlexNet weights that LPIPS needs are on this machine, or a server answers that has them."""
    from torch.hub import get_dir
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.DEFAULT.url
    if (Path(get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).exists():
        return True
    return status(url, _DOWNLOAD_PROBE_SECONDS) == HTTPStatus.OK


class OptionalLpips(nn.Module):
    """LPIPS where its weights can be had, else NaN; takes the place of torchmetrics' class of the metric.

    The metric is built when it is first asked for, so building a model neither waits for a network nor draws
    random numbers for layers that are about to be overwritten. It is no submodule: its fixed weights stay out
    of checkpoints, and checkpoints with and without them load, strictly.
    """

    def __init__(self, **settings: Any) -> None:
        """Remember the settings of torchmetrics' `LearnedPerceptualImagePatchSimilarity`."""
        super().__init__()
        self._settings = settings
        self._built: list[nn.Module | None] = []  # a list, which nn.Module does not look into for submodules

    def forward(self, first: Float[Tensor, "B 3 H W"], second: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
        """Return LPIPS of two batches of images, NaN if it cannot be computed here."""
        if not self._built:
            self._built.append(_build_lpips(self._settings))
        metric = self._built[0]
        if metric is None:
            return torch.full((), torch.nan, device=first.device)
        return metric.to(first.device)(first, second)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Accept the weights of a real LPIPS in a checkpoint, and ignore them."""


def _build_lpips(settings: dict[str, Any]) -> nn.Module | None:
    """Return torchmetrics' LPIPS, or None after a warning, which is given once in a process."""
    if _lpips_backbone_available():
        try:
            with torch.random.fork_rng(devices=[]):
                return LearnedPerceptualImagePatchSimilarity(**settings)
        except (OSError, RuntimeError):  # the download broke off, or brought something else
            pass
    _warn_of_missing_lpips()
    return None


@functools.cache
def _warn_of_missing_lpips() -> None:
    warnings.warn("LPIPS reads NaN: the weights of its AlexNet are not here and cannot be downloaded.", stacklevel=2)


class _PointCloud(NamedTuple):
    """As much of open3d's point cloud as nerfstudio's data parsers look at."""

    points: Float[np.ndarray, "points 3"]
    colors: Float[np.ndarray, "points 3"]
    """In 0..1."""


def _read_point_cloud(path: str) -> _PointCloud:
    """Read the positions and colours of a .ply file's vertices; grey where it has no colours, none if it is not there.

    Raises:
        UserError: If the file is no .ply with positions.
    """
    from plyfile import PlyData, PlyParseError

    if not Path(path).exists():
        warnings.warn(one_line(f"The seed points {path} are not there: starting from random ones."), stacklevel=2)
        return _PointCloud(np.zeros((0, 3)), np.zeros((0, 3)))
    try:
        vertices = PlyData.read(path)["vertex"].data
        points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    except (PlyParseError, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"The seed points {path} can't be read ({error}): mend the file, or take its line out of transforms.json."
        ) from None
    channels = ("red", "green", "blue")
    if not set(channels) <= set(vertices.dtype.names):
        return _PointCloud(points, np.full_like(points, 0.5))
    colors = np.stack([vertices[channel] for channel in channels], axis=1)
    whole = 255.0 if np.issubdtype(colors.dtype, np.integer) else 1.0
    return _PointCloud(points, colors / whole)


def _with_plyfile(load: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that imports open3d to read points find `_read_point_cloud` there."""
    stand_in: Any = ModuleType("open3d")
    stand_in.io = SimpleNamespace(read_point_cloud=_read_point_cloud)

    @functools.wraps(load)
    def with_plyfile(*args: Any, **kwargs: Any) -> Any:
        before = sys.modules.get("open3d")
        sys.modules["open3d"] = stand_in
        try:
            return load(*args, **kwargs)
        finally:
            if before is None:
                del sys.modules["open3d"]
            else:
                sys.modules["open3d"] = before

    return with_plyfile


def read_points_without_open3d() -> None:
    """Let nerfstudio's data parsers read seed points with plyfile. Calling this again changes nothing.

    They import open3d for it, whose import takes seconds and fails where the system library libusb is not installed.
    While one of them reads, `open3d` is a stand-in that can read points and nothing else.
    """
    for parser in (Nerfstudio, Blender, ScanNet):
        load = parser._load_3D_points
        if not hasattr(load, "__wrapped__"):
            parser._load_3D_points = _with_plyfile(load)  # type: ignore[method-assign]


@contextmanager
def offline_lpips() -> Iterator[None]:
    """Keep models built inside from downloading AlexNet for their LPIPS metric.

    nerfstudio's models import the metric's class from torchmetrics inside `populate_modules`; within this
    context they find `OptionalLpips` there.
    """
    with replaced(lpip, "LearnedPerceptualImagePatchSimilarity", OptionalLpips):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep nerfstudio's viewer from breaking off what is done inside.

    When the camera moves, its render thread raises an exception from a trace function, in whatever line comes next:
    also in the middle of giving back a lock, or of putting back what was replaced for a while.
    """
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


_cpu_splatfacto_lock = threading.RLock()
"""The viewer renders in its own thread: of two that overlap, the second would restore what the first put in."""


def _stay(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    return tensor


@contextmanager
def cpu_splatfacto(active: bool) -> Iterator[None]:
    """Let splatfacto's `populate_modules` and `get_outputs` run on a CPU.

    Inside, `Tensor.cuda()` returns the tensor itself, splatfacto rasterises with `rasterization` of
    this package, and it computes its view matrix without compiling that first, which takes 20 s for 4 µs of
    arithmetic. Other threads that enter wait their turn.

    Args:
        active: Whether to do any of this; False where the model is on a GPU.
    """
    if not active:
        yield
        return
    from nerfstudio.models import splatfacto

    with uninterrupted(), _cpu_splatfacto_lock, ExitStack() as stack:
        stack.enter_context(replaced(torch.Tensor, "cuda", _stay))
        stack.enter_context(replaced(splatfacto, "rasterization", rasterization))
        stack.enter_context(replaced(splatfacto, "get_viewmat", inspect.unwrap(splatfacto.get_viewmat)))
        yield
