"""What computes hash encodings: the choice between kernels, and what is said where there is none."""

import sys

import pytest
from nerfstudio.field_components.encodings import HashEncoding
from torch import nn

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.scenes import kernels
from pds_nerfstudio.scenes.kernels.hash_encoding import has_triton, speed_up


def test_without_triton_kernels_are_refused_only_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "hash_grid_triton", raising=False)
    monkeypatch.setitem(sys.modules, f"{kernels.__name__}.hash_grid_triton", None)
    assert not has_triton("auto") and not has_triton("off")
    with pytest.raises(UserError, match="Triton is not installed"):
        has_triton("on")


def test_with_triton_they_can_be_left_out() -> None:
    pytest.importorskip("triton")
    assert has_triton("auto") and has_triton("on") and not has_triton("off")


@pytest.mark.parametrize("triton", [False, True])
def test_checkpoints_do_not_show_what_computed_them(triton: bool) -> None:
    encoding = HashEncoding(num_levels=2, log2_hashmap_size=4, implementation="torch")
    names = set(encoding.state_dict())
    assert speed_up(nn.ModuleList([encoding]), triton) == 1
    assert set(encoding.state_dict()) == names
