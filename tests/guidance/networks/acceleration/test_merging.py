"""One product for all projections of the time, and one for all of the text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from pds_nerfstudio.guidance.networks.acceleration.merging import Part, merge_projections
from tests.guidance.miniature import load_pipeline


@pytest.fixture
def unet(model_folder: Path) -> Any:
    return load_pipeline(model_folder).unet.double().eval()


def predict(unet: Any, **more: Any) -> torch.Tensor:
    rng = torch.Generator().manual_seed(3)
    x, text = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((3, 4, 16, 16), (3, 5, 16)))
    with torch.no_grad():
        return unet(x, torch.tensor([10, 500, 990]), encoder_hidden_states=text, **more).sample


class Products:
    """Counts the products that a call makes of time embeddings and of text."""

    def __init__(self, unet: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        for module in unet.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda layer, inputs, output: self.shapes.append(tuple(inputs[0].shape)))

    def of(self, *shape: int) -> int:
        return self.shapes.count(shape)


def test_predictions_stay_and_products_become_few(unet: Any) -> None:
    blocks = sum(getattr(module, "time_emb_proj", None) is not None for module in unet.modules())
    before = Products(unet)
    expected = predict(unet)
    # Keys and values of the text in each of four layers. Of the time, one more: the last that makes its embedding.
    assert before.of(3, 5, 16) == 2 * 4 and before.of(3, 32) == blocks + 1
    merge_projections(unet)
    after = Products(unet)
    torch.testing.assert_close(predict(unet), expected)
    assert after.of(3, 5, 16) == 1 and after.of(3, 32) == 2


def test_no_random_number_is_drawn(unet: Any) -> None:
    state = torch.get_rng_state()
    merge_projections(unet)
    assert torch.equal(state, torch.get_rng_state())


def test_keys_and_values_are_at_hand_under_every_name(unet: Any) -> None:
    text = torch.randn(2, 5, 16, dtype=torch.float64)
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    expected = [(layer.to_k(text), layer.to_v(text)) for layer in layers]
    merge_projections(unet)
    merged = unet.encoder_hid_proj(text)
    for layer, (keys, values) in zip(layers, expected, strict=True):
        torch.testing.assert_close(layer.to_k(merged), keys)
        torch.testing.assert_close(layer.to_v(merged), values)
        torch.testing.assert_close(layer.to_kv(merged), torch.cat([keys, values], dim=-1))


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"class_embed_type": "timestep"}, {"class_labels": torch.tensor([1, 2, 3])}),
        ({"time_embedding_act_fn": "silu"}, {}),
        ({"encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj"}, {}),
        ({"resnet_skip_time_act": True}, {}),
        ({"addition_embed_type": "text", "addition_embed_type_num_heads": 2}, {}),
    ],
    ids=lambda value: next(iter(value), ""),
)
def test_other_networks_predict_what_they_did(unet: Any, options: dict[str, Any], more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    other: Any = UNet2DConditionModel.from_config({**unet.config, **options}).double().eval()
    expected = predict(other, **more)
    merge_projections(other)
    torch.testing.assert_close(predict(other, **more), expected)


def test_half_of_it_is_merged_where_only_half_is_usual(unet: Any) -> None:
    other: Any = UNet2DConditionModel.from_config({**unet.config, "class_embed_type": "timestep"})
    merge_projections(other)
    assert other.encoder_hid_proj is not None
    assert not any(isinstance(getattr(m, "time_emb_proj", None), Part) for m in other.modules())


def test_merging_again_changes_nothing(unet: Any) -> None:
    """Of one pipeline there may be several denoisers."""
    merge_projections(unet)
    expected, names = predict(unet), list(unet.state_dict())
    merge_projections(unet)
    assert torch.equal(predict(unet), expected) and list(unet.state_dict()) == names
