"""nerfacto's field in one kernel beside nerfstudio's in PyTorch. Without a GPU, Triton's interpreter runs it."""

import math
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import nn

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HEADS = FieldHeadNames.DENSITY, FieldHeadNames.RGB


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the tests below run here")
def test_all_below_in_the_interpreter(passes_in_the_interpreter: Callable[[str], None]) -> None:
    passes_in_the_interpreter(__file__)


@pytest.fixture
def fused_field() -> ModuleType:
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("runs in the interpreter, in a process of its own")
    from pds_nerfstudio.scenes.kernels import fused_field

    return fused_field


class _Derived(NerfactoField):
    """May compute anything."""


def make_field(kind: type[NerfactoField] = NerfactoField, **options: Any) -> NerfactoField:
    from pds_nerfstudio.scenes.kernels.hash_encoding import speed_up

    usual = {
        "num_images": 3,
        "hidden_dim": 16,
        "num_levels": 5,
        "base_res": 4,
        "max_res": 64,
        "log2_hashmap_size": 8,
        "hidden_dim_color": 32,
        "appearance_embedding_dim": 6,
        "spatial_distortion": SceneContraction(order=math.inf),
        "average_init_density": 0.5,
        "implementation": "torch",
    }
    torch.manual_seed(0)
    field = kind(torch.tensor([[-1.0] * 3, [1.0] * 3]), **{**usual, **options}).to(DEVICE)
    for part in field.modules():
        if isinstance(part, HashEncoding):
            nn.init.normal_(part.hash_table)
        elif isinstance(part, nn.Linear):
            part.weight.data *= 2  # new networks hardly tell points apart
    speed_up(field, triton=True)
    return field


def make_samples(rays: int = 13, per_ray: int = 11) -> RaySamples:
    """Of three photographs, from the inside of the unit cube to very far away."""
    rng = torch.Generator().manual_seed(1)
    origins = torch.randn(rays, 3, generator=rng) / 2
    origins[0] = 0.0
    directions = nn.functional.normalize(torch.randn(rays, 3, generator=rng), dim=-1)
    directions[1] = torch.tensor([0.0, 0.0, 1.0])
    bundle = RayBundle(origins, directions, torch.ones(rays, 1), torch.arange(rays)[:, None] % 3)
    edges = torch.rand(rays, per_ray + 1, generator=rng).cumsum(-1) / 3
    edges[0, 0] = 0.0
    edges[2, -1], edges[3, -3:] = 1e9, torch.tensor([10.0, 1e4, 1e6])
    samples = bundle.get_ray_samples(edges[:, :-1, None], edges[:, 1:, None])
    return samples.to(DEVICE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_average_appearance_embedding": True},
        {"appearance_embedding_dim": 0, "hidden_dim": 64, "num_levels": 1, "hidden_dim_color": 16},
        {"num_levels": 17, "hidden_dim": 128, "hidden_dim_color": 128},
    ],
    ids=["usual", "average", "bare", "wide"],
)
def test_it_is_nerfstudios_field(fused_field: ModuleType, options: dict[str, Any], training: bool) -> None:
    field, samples = make_field(**options).train(training), make_samples()
    function = fused_field.field_without_gradients(field)
    ours, theirs = function(samples), field.forward(samples)
    assert function != field.forward and set(ours) == set(theirs)
    for head in HEADS:
        assert ours[head].shape == theirs[head].shape and not ours[head].requires_grad
        assert ours[head].std() > 0.05
        torch.testing.assert_close(ours[head], theirs[head].detach(), rtol=1e-4, atol=1e-4)


def test_in_half_precision_where_the_region_wants_it(fused_field: ModuleType) -> None:
    field, samples = make_field(), make_samples()
    function = fused_field.field_without_gradients(field)
    exact = function(samples)
    with torch.autocast(DEVICE, dtype=torch.float16):
        half = function(samples)
    for head in HEADS:
        assert half[head].dtype == torch.float32 and not torch.equal(half[head], exact[head])
        torch.testing.assert_close(half[head], exact[head], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": _Derived},
        {"use_transient_embedding": True},
        {"use_semantics": True},
        {"use_pred_normals": True},
        {"spatial_distortion": None},
        {"spatial_distortion": SceneContraction()},
        {"features_per_level": 4},
        {"hidden_dim": 24},
        {"hidden_dim_color": 48},
        {"geo_feat_dim": 7},
        {"num_layers": 3},
        {"num_layers_color": 2},
    ],
    ids=str,
)
def test_any_other_field_goes_on_as_it_was(fused_field: ModuleType, options: dict[str, Any]) -> None:
    field = make_field(**options)
    assert fused_field.field_without_gradients(field) == field.forward


@pytest.mark.skipif(DEVICE == "cuda", reason="says what happens on a CPU")
def test_on_a_cpu_pytorch_goes_on(fused_field: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    field, samples = make_field(), make_samples()
    ours, theirs = fused_field.field_without_gradients(field)(samples), field.forward(samples)
    assert all(torch.equal(ours[head], theirs[head]) for head in HEADS)


@pytest.mark.parametrize("training", [True, False])
def test_a_nerf_has_the_same_colors(
    fused_field: ModuleType, config_in: Any, prepare: Any, tmp_path: Any, training: bool
) -> None:
    fast, plain = (
        prepare(config_in(tmp_path / triton, "nerf", reconstruct=0, pipeline__model__triton=triton)).pipeline
        for triton in ("on", "off")
    )
    camera = plain.views[2].camera
    camera.rescale_output_resolution(1 / 4)
    colors = []
    for pipeline in (fast, plain):
        model = pipeline.model.to(DEVICE).train(training)
        for encoding in model.modules():
            if isinstance(encoding, HashEncoding):
                rng = torch.Generator().manual_seed(3)
                encoding.hash_table.data = torch.randn(encoding.hash_table.shape, generator=rng).to(DEVICE)
        rays = camera.generate_rays(camera_indices=0, keep_shape=True).flatten().to(DEVICE)
        rays.camera_indices = torch.full((len(rays), 1), 2, device=DEVICE)
        torch.manual_seed(4)
        colors.append(model._render_colors(rays))
    assert fast.model._for_colors.field != fast.model.field.forward
    assert colors[0].std() > 0.01
    torch.testing.assert_close(*colors, rtol=1e-3, atol=1e-3)  # samples move with the last bits of densities


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_it_compiles_for_an_nvidia_gpu(compiled_kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, of nerfacto's usual widths, in both precisions."""
    from pds_nerfstudio.scenes.kernels.fused_field import field_without_gradients

    function = field_without_gradients(make_field(num_levels=16, hidden_dim=64, hidden_dim_color=64))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    function(make_samples())
    with torch.autocast(DEVICE, dtype=torch.float16):
        function(make_samples())
    assert [name for name, *_ in compiled_kernels] == ["_field"] * 2
    assert all("cubin" in kernel.asm for kernel in compiled_kernels.values())
