"""Fast functions that are compared with plain ones before they are relied on."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pds_nerfstudio.scenes.kernels.checked import CheckedFunction


def plain(x: Tensor) -> Tensor:
    return x.exp()


def checked(fast: Callable[[Tensor], Tensor], calls: list[int]) -> CheckedFunction[Tensor, Tensor]:
    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return fast(x)

    return CheckedFunction(counted, plain, "numbers", lambda x: x[:4], lambda out: [out])


def test_one_that_agrees_is_used_and_checked_once() -> None:
    calls: list[int] = []
    function = checked(lambda x: x.exp() * 1.01, calls)
    assert not function.is_fast
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            torch.testing.assert_close(function(torch.ones(9)), 1.01 * torch.ones(9).exp())
    assert calls == [4, 9, 9] and function.is_fast


def test_the_plain_one_itself_is_not_fast() -> None:
    function = CheckedFunction(plain, plain, "numbers", lambda x: x, lambda out: [out])
    function(torch.ones(9))
    assert not function.is_fast


def fails(x: Tensor) -> Tensor:
    raise RuntimeError("no such instruction.\nat line 3")


@pytest.mark.parametrize(
    ("fast", "reason"),
    [(fails, r"\(no such instruction\)"), (lambda x: 1.1 * x.exp(), "10% off"), (lambda x: x.exp() * torch.nan, "off")],
)
def test_one_that_does_not_is_left_with_one_warning(fast: Callable[[Tensor], Tensor], reason: str) -> None:
    calls: list[int] = []
    function = checked(fast, calls)
    with pytest.warns(UserWarning, match=reason):
        assert torch.equal(function(torch.ones(9)), plain(torch.ones(9)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(function(torch.ones(5)), plain(torch.ones(5)))
    assert calls == [4] and not function.is_fast
