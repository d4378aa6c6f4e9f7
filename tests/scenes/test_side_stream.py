"""Work on a stream of its own."""

import pytest
import torch

from pds_nerfstudio.scenes.side_stream import SideStream


def test_elsewhere_than_on_a_gpu_it_is_done_as_it_comes() -> None:
    given = torch.ones(3)
    assert SideStream("cpu")(lambda: given, lambda _: pytest.fail("nothing is to be kept")) is given


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_waits_for_nothing_that_is_queued_and_what_comes_after_waits_for_it() -> None:
    torch.cuda.synchronize()
    beside, source = SideStream("cuda"), torch.arange(1 << 20, device="cuda")
    beside(lambda: source, lambda t: [t])  # the first time it waits for all that was made before
    queued = torch.cuda.Event()
    torch.cuda._sleep(2_000_000_000)  # a second
    queued.record()
    last = beside(lambda: int(source[-1:].cpu()), lambda _: [])
    assert last == len(source) - 1 and not queued.query()
    doubled = beside(lambda: 2 * source, lambda t: [t])
    assert int((doubled - source).sum()) == int(source.sum())
    assert queued.query()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_numbers_are_those_that_would_have_come_anyway() -> None:
    torch.manual_seed(0)
    usual = [torch.rand(4, device="cuda") for _ in range(3)]
    torch.manual_seed(0)
    beside = SideStream("cuda")
    found = [torch.rand(4, device="cuda"), beside(lambda: torch.rand(4, device="cuda"), lambda t: [t])]
    found.append(torch.rand(4, device="cuda"))
    torch.testing.assert_close(torch.stack(found), torch.stack(usual), rtol=0, atol=0)
