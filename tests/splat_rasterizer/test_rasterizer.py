"""The rasteriser against gsplat's own PyTorch functions, a plain compositing loop, and finite differences."""

import math
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from gsplat.cuda import _torch_impl as gsplat_reference
from gsplat.strategy import DefaultStrategy
from torch import Tensor

from pds_nerfstudio.splat_rasterizer import blending, compositing
from pds_nerfstudio.splat_rasterizer.projection import project, spherical_harmonics
from pds_nerfstudio.splat_rasterizer.rasterizer import rasterization

WIDTH, HEIGHT = 45, 37  # multiples of neither block nor tile


class Scene(NamedTuple):
    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor

    def leaves(self) -> "Scene":
        return Scene(*(tensor.clone().requires_grad_() for tensor in self))


def make_scene(count: int = 150, channels: tuple[int, ...] = (3,), dtype: torch.dtype = torch.float64) -> Scene:
    """A cloud around the origin, some of it behind the cameras or off screen, dense enough to end pixels."""
    generator = torch.Generator().manual_seed(count)
    means = torch.randn(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.8, 0.8, 1.5])
    quats = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    scales = torch.exp(torch.randn(count, 3, generator=generator, dtype=torch.float64) * 0.7 - 2.0)
    opacities = torch.rand(count, generator=generator, dtype=torch.float64).sqrt()
    opacities[::7], opacities[3::11] = 0.9999, 0.002
    colors = torch.rand(count, *channels, generator=generator, dtype=torch.float64)
    return Scene(*(tensor.to(dtype) for tensor in (means, quats, scales, opacities, colors)))


def make_cameras(count: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Cameras 3 units from the origin, looking at it from different sides, with unequal focal lengths."""
    viewmats, intrinsics = [], []
    for index in range(count):
        angle = 0.4 + 1.1 * index
        viewmat = torch.eye(4, dtype=dtype)
        viewmat[0, 0] = viewmat[2, 2] = math.cos(angle)
        viewmat[0, 2], viewmat[2, 0] = math.sin(angle), -math.sin(angle)
        viewmat[:3, 3] = torch.tensor([0.1, -0.05, 3.0])
        viewmats.append(viewmat)
        intrinsics.append(torch.tensor([[50.0, 0, 21.3], [0, 46.0, 19.1], [0, 0, 1]], dtype=dtype))
    return torch.stack(viewmats), torch.stack(intrinsics)


def composite_one_by_one(
    means2d: Tensor,
    conics: Tensor,
    depths: Tensor,
    radii: Tensor,
    opacities: Tensor,
    colors: Tensor,
    tile: int = 16,
) -> tuple[Tensor, Tensor]:
    """Gsplat's compositing as its kernel describes it.

    One Gaussian after another, nearest first, on every pixel.

    `means2d` is [N, 2], or [H, W, N, 2] to get at each pixel's own gradient.
    """
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    transmittance = torch.ones(HEIGHT, WIDTH, dtype=conics.dtype)
    image = torch.zeros(HEIGHT, WIDTH, colors.shape[-1], dtype=conics.dtype)
    ended = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for i in torch.argsort(depths).tolist():
        if radii[i] == 0:
            continue
        mean, radius = means2d[..., i, :], radii[i]
        centre = (mean if mean.dim() == 1 else mean[0, 0]).detach()
        low, high = ((centre - radius) / tile).floor(), ((centre + radius) / tile).ceil()
        footprint = (x // tile >= low[0]) & (x // tile < high[0]) & (y // tile >= low[1]) & (y // tile < high[1])
        dx, dy = mean[..., 0] - (x.to(mean.dtype) + 0.5), mean[..., 1] - (y.to(mean.dtype) + 0.5)
        sigma = 0.5 * (conics[i, 0] * dx * dx + conics[i, 2] * dy * dy) + conics[i, 1] * dx * dy
        alpha = (opacities[i] * torch.exp(-sigma)).clamp(max=0.999)
        hit = footprint & (alpha >= 1 / 255) & ~ended
        after = transmittance * (1 - alpha)
        ended = ended | (hit & (after <= 1e-4))
        drawn = hit & ~ended
        image = image + torch.where(drawn, alpha * transmittance, 0.0)[..., None] * colors[i]
        transmittance = torch.where(drawn, after, transmittance)
    return image, 1 - transmittance[..., None]


def reference(
    scene: Scene, viewmats: Tensor, Ks: Tensor, sh_degree: int | None = None, antialiased: bool = False
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Colours with depth as the last channel, and opacity, by gsplat's torch functions and the loop above."""
    covars, _ = gsplat_reference._quat_scale_to_covar_preci(scene.quats, scene.scales, True, False, triu=False)
    radii, means2d, depths, conics, compensations = gsplat_reference._fully_fused_projection(
        scene.means, covars, viewmats, Ks, WIDTH, HEIGHT, calc_compensations=antialiased
    )
    images, alphas = [], []
    for c in range(len(viewmats)):
        colors = scene.colors
        if sh_degree is not None:
            directions = scene.means - torch.linalg.inv(viewmats[c])[:3, 3]
            colors = (gsplat_reference._spherical_harmonics(sh_degree, directions, colors) + 0.5).clamp(min=0)
        opacities = scene.opacities * compensations[c] if antialiased else scene.opacities
        features = torch.cat([colors, depths[c, :, None]], dim=-1)
        image, alpha = composite_one_by_one(means2d[c], conics[c], depths[c], radii[c], opacities, features)
        images.append(image)
        alphas.append(alpha)
    return torch.stack(images), torch.stack(alphas), {"means2d": means2d, "conics": conics, "radii": radii}


def random_weights(image: Tensor) -> Tensor:
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(image.dtype)


def assert_relative(actual: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    assert actual is not None and expected is not None
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("sh_degree", [None, 0, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_gsplats_torch_functions(dtype: torch.dtype, sh_degree: int | None, antialiased: bool) -> None:
    scene = make_scene(channels=(3,) if sh_degree is None else (16, 3), dtype=dtype)
    viewmats, Ks = make_cameras(2, dtype)
    ours, theirs = scene.leaves(), scene.leaves()
    mode: Any = "antialiased" if antialiased else "classic"
    image, alpha, _ = rasterization(
        *ours, viewmats, Ks, WIDTH, HEIGHT, sh_degree=sh_degree, render_mode="RGB+D", rasterize_mode=mode
    )
    expected, expected_alpha, _ = reference(theirs, viewmats, Ks, sh_degree, antialiased)
    exact = dtype == torch.float64
    assert image.shape == (2, HEIGHT, WIDTH, 4) and alpha.shape == (2, HEIGHT, WIDTH, 1)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-10 if exact else 1e-5)
    torch.testing.assert_close(alpha, expected_alpha, rtol=0, atol=1e-10 if exact else 1e-5)
    assert expected_alpha.max() > 0.9995  # the scene does end pixels

    for picture, opacity in ((image, alpha), (expected, expected_alpha)):
        ((picture * random_weights(picture)).sum() + (opacity * random_weights(opacity)).sum()).backward()
    for actual, wanted in zip(ours, theirs, strict=True):
        assert_relative(actual.grad, wanted.grad, 1e-8 if exact else 1e-4)


def test_projection_agrees_with_gsplat_where_seen() -> None:
    scene, (viewmats, Ks) = make_scene(), make_cameras(2)
    view = project(scene.means, scene.quats, scene.scales, viewmats, Ks, WIDTH, HEIGHT)
    _, _, expected = reference(scene, viewmats, Ks)
    assert torch.equal(view.radii, expected["radii"])
    seen = view.radii > 0
    assert seen.any() and not seen.all()
    torch.testing.assert_close(view.means[seen], expected["means2d"][seen])
    torch.testing.assert_close(view.conics[seen], expected["conics"][seen])


@pytest.mark.parametrize("degree", range(5))
def test_spherical_harmonics_agree_with_gsplat(degree: int) -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(50, 25, 3, generator=generator, dtype=torch.float64)
    expected = gsplat_reference._spherical_harmonics(degree, directions, coefficients)
    torch.testing.assert_close(spherical_harmonics(degree, directions, coefficients), expected)


def test_spherical_harmonics_refuse_what_they_cannot_evaluate() -> None:
    with pytest.raises(ValueError, match="degree 5"):
        spherical_harmonics(5, torch.ones(1, 3), torch.ones(1, 36, 3))
    with pytest.raises(ValueError, match="needs 16"):
        spherical_harmonics(3, torch.ones(1, 3), torch.ones(1, 9, 3))


@pytest.mark.parametrize("name", Scene._fields)
def test_gradients_match_finite_differences(name: str) -> None:
    # Faint, wide Gaussians: nothing crosses a threshold within the step.
    scene = make_scene(12)._replace(opacities=torch.linspace(0.3, 0.8, 12, dtype=torch.float64))
    scene = scene._replace(scales=scene.scales * 8)
    viewmats, Ks = make_cameras()

    def loss(value: Tensor) -> Tensor:
        image, alpha, _ = rasterization(
            *scene._replace(**{name: value}), viewmats, Ks, WIDTH, HEIGHT, render_mode="RGB+ED"
        )
        return (image * random_weights(image)).sum() + (alpha * random_weights(alpha)).sum()

    value = getattr(scene, name)
    leaf = value.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    for seed in range(3):
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-6
        difference = (loss(value + step * direction) - loss(value - step * direction)) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-4, atol=1e-5)


def test_camera_pose_and_background_have_gradients() -> None:
    scene, (viewmats, Ks) = make_scene(channels=(16, 3)), make_cameras(2)
    viewmats.requires_grad_()
    background = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    image, alpha, _ = rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT, sh_degree=3, backgrounds=background)
    image.sum().backward()
    assert viewmats.grad is not None and viewmats.grad[:, :3].abs().min() > 0
    torch.testing.assert_close(background.grad, (1 - alpha).sum((1, 2)).expand(2, 3).detach())


def test_render_modes_are_channels_of_one_picture() -> None:
    scene, (viewmats, Ks) = make_scene(), make_cameras(2)
    background = torch.tensor([[0.2, 0.4, 0.6]], dtype=torch.float64).expand(2, 3)

    def render(mode: Any) -> tuple[Tensor, Tensor]:
        return rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT, render_mode=mode, backgrounds=background)[:2]

    both, alpha = render("RGB+D")
    torch.testing.assert_close(render("RGB")[0], both[..., :3])
    torch.testing.assert_close(render("D")[0], both[..., 3:])
    expected_depth = both[..., 3:] / alpha.clamp(min=1e-10)
    torch.testing.assert_close(render("ED")[0], expected_depth)
    torch.testing.assert_close(render("RGB+ED")[0], torch.cat([both[..., :3], expected_depth], dim=-1))
    plain = rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT)[0]
    torch.testing.assert_close(both[..., :3], plain + (1 - alpha) * background[:, None, None])


def test_a_batch_of_cameras_is_each_camera_alone() -> None:
    scene, (viewmats, Ks) = make_scene(), make_cameras(3)
    together, alphas, _ = rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT)
    for c in range(3):
        alone, alpha, _ = rasterization(*scene, viewmats[c : c + 1], Ks[c : c + 1], WIDTH, HEIGHT)
        torch.testing.assert_close(together[c], alone[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(alphas[c], alpha[0], rtol=0, atol=1e-12)


def test_colours_may_differ_between_cameras() -> None:
    scene, (viewmats, Ks) = make_scene(), make_cameras(2)
    colors = torch.stack([scene.colors, 1 - scene.colors])
    together = rasterization(*scene._replace(colors=colors), viewmats, Ks, WIDTH, HEIGHT)[0]
    for c in range(2):
        alone = rasterization(*scene._replace(colors=colors[c]), viewmats, Ks, WIDTH, HEIGHT)[0]
        torch.testing.assert_close(together[c], alone[c], rtol=0, atol=1e-12)


def test_one_gaussian_is_a_gaussian() -> None:
    values = ([[0.0, 0, 2]], [[1.0, 0, 0, 0]], [[0.1, 0.1, 0.1]], [0.5], [[1.0, 0, 0]])
    scene = Scene(*(torch.tensor(value) for value in values))
    Ks = torch.tensor([[[20.0, 0, 10.5], [0, 20, 10.5], [0, 0, 1]]])
    image, _, info = rasterization(*scene, torch.eye(4)[None], Ks, 21, 21)
    variance = (20 * 0.1 / 2) ** 2 + 0.3
    distance = torch.arange(21.0) - 10
    expected = 0.5 * torch.exp(-0.5 * (distance[:, None] ** 2 + distance**2) / variance)
    expected[expected < 1 / 255] = 0
    torch.testing.assert_close(image[0, :, :, 0], expected, rtol=0, atol=1e-6)
    assert info["radii"].tolist() == [[math.ceil(3 * math.sqrt(variance + 0.1))]]


@pytest.mark.parametrize("count", [0, 20])
def test_nothing_in_sight_leaves_the_background_and_finite_gradients(count: int) -> None:
    scene = make_scene(max(count, 1))
    behind = scene.means.clone()
    behind[:, 2] = -5.0
    scene = Scene(*(tensor[:count] for tensor in scene._replace(means=behind))).leaves()
    background = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    _, Ks = make_cameras()
    viewmats = torch.eye(4, dtype=torch.float64)[None]
    image, alpha, info = rasterization(
        *scene, viewmats, Ks, WIDTH, HEIGHT, backgrounds=background, absgrad=True, render_mode="RGB+ED"
    )
    assert torch.equal(image[0, :, :, :3], background[0].expand(HEIGHT, WIDTH, 3))
    assert not alpha.any() and not info["radii"].any()
    image.sum().backward()
    for leaf in scene:
        assert leaf.grad is not None and not leaf.grad.any()
    assert background.grad is not None and (background.grad == WIDTH * HEIGHT).all()


def test_gaussians_at_and_behind_the_camera_change_nothing() -> None:
    scene, (viewmats, Ks) = make_scene(), make_cameras()
    eye = torch.linalg.inv(viewmats[0])[:3, 3]
    axis = viewmats[0, 2, :3]
    extra = make_scene(3)._replace(means=torch.stack([eye, eye - axis, eye + 0.005 * axis]))
    joined = Scene(*(torch.cat(pair) for pair in zip(scene, extra, strict=True))).leaves()
    image, _, info = rasterization(*joined, viewmats, Ks, WIDTH, HEIGHT)
    torch.testing.assert_close(image, rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT)[0], rtol=0, atol=1e-12)
    assert not info["radii"][0, -3:].any()
    image.square().sum().backward()
    for leaf in joined:
        assert leaf.grad is not None and leaf.grad.isfinite().all() and not leaf.grad[-3:].any()


def test_needles_that_overwhelm_the_number_format_stay_finite() -> None:
    scene, (viewmats, Ks) = make_scene(dtype=torch.float32), make_cameras(1, torch.float32)
    thin = torch.tensor([1e3, 1e-6, 1e-6]).expand(len(scene.scales), 3)
    leaves = scene._replace(scales=thin, opacities=scene.opacities.clamp(max=0.99)).leaves()
    image, alpha, _ = rasterization(*leaves, viewmats, Ks, WIDTH, HEIGHT)
    assert image.isfinite().all() and alpha.min() >= 0 and alpha.max() <= 1
    image.square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_absgrad_is_the_sum_over_pixels_of_absolute_gradients() -> None:
    scene, (viewmats, Ks) = make_scene(60), make_cameras(2)
    image, _, info = rasterization(*scene.leaves(), viewmats, Ks, WIDTH, HEIGHT, absgrad=True)
    info["means2d"].retain_grad()
    weights = random_weights(image)
    (image * weights).sum().backward()
    for c in range(2):
        view = {name: info[name][c].detach() for name in ("means2d", "conics", "depths", "radii", "opacities")}
        per_pixel = view["means2d"].expand(HEIGHT, WIDTH, -1, -1).clone().requires_grad_()
        picture, _ = composite_one_by_one(
            per_pixel, view["conics"], view["depths"], view["radii"], view["opacities"], scene.colors
        )
        (gradient,) = torch.autograd.grad((picture * weights[c]).sum(), per_pixel)
        assert_relative(info["means2d"].absgrad[c], gradient.abs().sum((0, 1)), 1e-9)
        assert_relative(info["means2d"].grad[c], gradient.sum((0, 1)), 1e-9)


def test_same_inputs_give_the_same_bits() -> None:
    viewmats, Ks = make_cameras(2, torch.float32)

    def run() -> list[Tensor]:
        scene = make_scene(300, (16, 3), torch.float32).leaves()
        image, alpha, info = rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT, sh_degree=3, absgrad=True)
        image.square().sum().backward()
        return [
            image,
            alpha,
            info["means2d"].absgrad,
            *(leaf.grad for leaf in scene if leaf.grad is not None),
        ]

    first, second = run(), run()
    assert len(first) == 8
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        [(compositing, "_SAVED_ELEMENTS", 0)],
        [(blending, "_CHUNK_ELEMENTS", (1, 1))],
        [(blending, "SEGMENT", 8), (compositing, "SEGMENT", 8)],
    ],
)
def test_how_the_work_is_cut_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, settings: list[tuple[ModuleType, str, Any]]
) -> None:
    viewmats, Ks = make_cameras()

    def run() -> list[Tensor]:
        scene = make_scene().leaves()
        image = rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT)[0]
        (image * random_weights(image)).sum().backward()
        return [image.detach(), *(leaf.grad for leaf in scene if leaf.grad is not None)]

    expected = run()
    for setting in settings:
        monkeypatch.setattr(*setting)
    for actual, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-10)


def test_backward_can_run_twice() -> None:
    scene, (viewmats, Ks) = make_scene().leaves(), make_cameras()
    image, _, info = rasterization(*scene, viewmats, Ks, WIDTH, HEIGHT, absgrad=True)
    results = []
    for _ in range(2):
        gradients = torch.autograd.grad(image.square().sum(), scene, retain_graph=True)
        results.append([*gradients, info["means2d"].absgrad.clone()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gsplats_default_strategy_can_grow_what_it_renders() -> None:
    scene, (viewmats, Ks) = make_scene(dtype=torch.float32), make_cameras(1, torch.float32)
    params = torch.nn.ParameterDict(
        {
            "means": scene.means,
            "quats": scene.quats,
            "scales": scene.scales.log(),
            "opacities": scene.opacities.clamp(max=0.99).logit(),
            "colors": scene.colors,
        }
    )
    optimizers = {name: torch.optim.Adam([value]) for name, value in params.items()}
    strategy = DefaultStrategy(
        absgrad=True,
        grow_grad2d=1e-9,
        refine_start_iter=0,
        refine_every=1,
        refine_scale2d_stop_iter=10,
        prune_opa=0.0,
    )
    state = strategy.initialize_state()
    values = params["scales"].exp(), params["opacities"].sigmoid(), params["colors"]
    image, _, info = rasterization(params["means"], params["quats"], *values, viewmats, Ks, WIDTH, HEIGHT, absgrad=True)
    strategy.step_pre_backward(params, optimizers, state, 1, info)
    image.square().sum().backward()
    for optimizer in optimizers.values():
        optimizer.step()
    strategy.step_post_backward(params, optimizers, state, 1, info)
    assert len(params["means"]) > len(scene.means)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_refused() -> None:
    scene, (viewmats, Ks) = make_scene(2), make_cameras()
    with pytest.raises(NotImplementedError, match="packed"):
        rasterization(*scene, viewmats, Ks, 8, 8, packed=True)
    with pytest.raises(ValueError, match="multiple of 8"):
        rasterization(*scene, viewmats, Ks, 8, 8, tile_size=12)
    with pytest.raises(ValueError, match="render_mode"):
        rasterization(*scene, viewmats, Ks, 8, 8, render_mode="RGBD")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rasterize_mode"):
        rasterization(*scene, viewmats, Ks, 8, 8, rasterize_mode="sharp")  # type: ignore[arg-type]
