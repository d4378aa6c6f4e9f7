import torch
from torch import Tensor

from pds_nerfstudio.vector.raster.compositor import Item, LayerItem, SolidItem, TextureItem, over
from pds_nerfstudio.vector.raster.coverage import make_windows
from tests.vector.conftest import Check


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WINDOWS = make_windows(torch.tensor([[1, 2], [3, 0], [0, 1]]), torch.tensor([[4, 3], [2, 5], [6, 4]]))
ITEMS: list[Item] = [SolidItem(0, 0), TextureItem(1, 0), LayerItem((2, 1, 3, 3), 1), SolidItem(2, 1)]


def _inputs(channels: int) -> dict[str, Tensor]:
    picture = _random(4, 3, 3, seed=5)
    picture[:3] *= picture[3]
    return {
        "background": _random(channels, 6, 7),
        "cover": _random(WINDOWS.cells, seed=1),
        "colors": _random(2, channels, seed=2),
        "alphas": torch.tensor([1.0, 0.6], dtype=torch.float64),
        "texture": _random(channels + 1, 5, 2, seed=4),
        "picture": picture,
    }


def _over(x: dict[str, Tensor]) -> Tensor:
    textures = [x["texture"], x["picture"]]
    return over(x["background"], x["cover"], x["colors"], x["alphas"], (0, 0), WINDOWS, ITEMS, textures)


def test_it_agrees_with_the_formula_pixel_by_pixel() -> None:
    x = _inputs(3)
    expected = x["background"].clone()
    for item in ITEMS:
        if isinstance(item, LayerItem):
            left, top, w, h = item.box
            view = expected[:, top : top + h, left : left + w]
            view[:] = x["picture"][:3] + (1 - x["picture"][3]) * view
            continue
        left, top, w, h, _ = WINDOWS.boxes[item.region]
        view = expected[:, top : top + h, left : left + w]
        alpha = WINDOWS.view(x["cover"], item.region)
        if isinstance(item, SolidItem):
            alpha, color = alpha * x["alphas"][item.row], x["colors"][item.row, :, None, None]
        else:
            alpha, color = alpha * x["texture"][3], x["texture"][:3]
        view[:] = alpha * color + (1 - alpha) * view
    torch.testing.assert_close(_over(x), expected)


def test_gradients(gradient_error: Check) -> None:
    for channels in (3, 4):
        x = _inputs(channels)
        weight = torch.randn(channels, 6, 7, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        for name in x:

            def loss(value: Tensor, name: str = name, x: dict[str, Tensor] = x, weight: Tensor = weight) -> Tensor:
                return (_over({**x, name: value}) * weight).sum()

            assert gradient_error(loss, x[name]) < 1e-7, name


def test_items_of_a_layer_are_placed_by_its_origin() -> None:
    cover = torch.ones(WINDOWS.cells)
    image = over(torch.zeros(1, 3, 4), cover, torch.ones(1, 1), torch.ones(1), (1, 2), WINDOWS, [SolidItem(0, 0)], [])
    assert image.min() == 1
