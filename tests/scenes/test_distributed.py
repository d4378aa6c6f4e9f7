"""Several processes on one edit. Two real ones on the CPU, joined by gloo, take the place of two GPUs."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pds_nerfstudio.guidance.flow_edit import FlowEditConfig
from pds_nerfstudio.scenes.together import TogetherConfig
from pds_nerfstudio.scenes.views import view_at, views_of

pytestmark = pytest.mark.slow

RANK = Path(__file__).with_name("rank.py")


STEPS, RECONSTRUCT = 5, 1


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, config_in: Any) -> Callable[[str], list[dict[str, Any]]]:
    """What each of two ranks saw of an edit of "splat", "nerf", or a splat that is drafted first, "draft".

    All are run by one pair of processes.
    """
    folder = tmp_path_factory.mktemp("two")
    grow = {"pipeline__model__edit_refine_every": 2, "pipeline__model__edit_densify_grad_thresh": 0.0}
    local = {"pipeline__guidance__localize": 1.0, "pipeline__hold_below": 0.5}
    flow_edit = FlowEditConfig("flowedit", steps=2)
    drafted = {"pipeline__strategy": "both", "pipeline__together": TogetherConfig(flow_edit, share=0.8)}
    runs: dict[str, dict[str, Any]] = {
        "splat": {**grow, **local, "show_edit": True},
        "nerf": {},
        "draft": {**grow, **drafted},
    }
    configs = {
        name: config_in(folder, "nerf" if name == "nerf" else "splat", name, STEPS, RECONSTRUCT, **options)
        for name, options in runs.items()
    }
    for config in configs.values():
        config.save_config()
    (folder / "configs").write_bytes(pickle.dumps(configs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outs = [folder / f"rank{rank}" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(RANK), str(rank), "2", str(port), str(folder / "configs"), str(out)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank, out in enumerate(outs)
    ]
    said = [process.communicate()[0].decode() for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(said)[-4000:]
    results = [torch.load(out, weights_only=True) for out in outs]
    for kind, config in configs.items():
        results[0][kind]["folder"] = config.get_base_dir()
    return lambda kind: [result[kind] for result in results]


@pytest.mark.parametrize("kind", ["splat", "nerf"])
class TestTwoRanks:
    def test_every_step_takes_the_mean_of_their_gradients(self, kind: str, together: Any) -> None:
        first, second = (rank["steps"] for rank in together(kind))
        assert len(first) == len(second) == RECONSTRUCT + STEPS
        for one, other in zip(first, second, strict=True):
            assert any(not torch.equal(a, b) for a, b in zip(one["own"], other["own"], strict=True))
            for a, b, mean, same in zip(one["own"], other["own"], one["mean"], other["mean"], strict=True):
                torch.testing.assert_close(mean, (a + b) / 2)
                assert torch.equal(mean, same)

    def test_each_sees_its_own_views_with_noise_of_its_own(self, kind: str, together: Any) -> None:
        first, second = together(kind)
        assert len(first["views"]) == STEPS and not set(first["views"]) & set(second["views"])
        for one, other in zip(first["noise"], second["noise"], strict=True):
            assert not torch.equal(one, other)

    def test_they_end_with_the_same_scene(self, kind: str, together: Any) -> None:
        first, second = together(kind)
        for name, values in first["parameters"].items():
            assert torch.equal(values, second["parameters"][name]), name
        for name, moments in first["moments"].items():
            for one, other in zip(moments, second["moments"][name], strict=True):
                assert torch.equal(one, other), name

    def test_the_first_leaves_an_ordinary_checkpoint(self, kind: str, together: Any) -> None:
        folder = together(kind)[0]["folder"]
        assert len((folder / "history/steps.jsonl").read_text().splitlines()) == STEPS
        (path,) = (folder / "nerfstudio_models").iterdir()
        names = [name for name in torch.load(path, weights_only=True)["pipeline"] if name != "_extra_state"]
        assert names and not any(name.startswith("_model.module.") for name in names)


def test_scenes_that_are_drafted_together_are_the_same(together: Any) -> None:
    """Each rank redraws views of its own."""
    first, second = together("draft")
    drafting, other = first["steps"][-2]["own"], second["steps"][-2]["own"]
    assert any(not torch.equal(one, two) for one, two in zip(drafting, other, strict=True))
    for name, values in first["parameters"].items():
        assert torch.equal(values, second["parameters"][name]), name


def test_the_results_are_written(together: Any) -> None:
    assert (together("splat")[0]["folder"] / "report.html").exists()


def test_what_is_held_is_what_all_ranks_views_say(together: Any) -> None:
    """Some is and some isn't; that no rank holds others, their parameters tell, which are the same."""
    (path,) = (together("splat")[0]["folder"] / "nerfstudio_models").iterdir()
    free = torch.load(path, weights_only=True)["pipeline"]["_extra_state"]["free"]
    assert free.any() and not free.all()


def test_gaussians_grew_on_both_ranks(together: Any) -> None:
    """Or the test of their being equal would say little."""
    first = together("splat")[0]
    counts = [len(step["own"][0]) for step in first["steps"]]
    assert len(set(counts)) > 2


@pytest.mark.parametrize(("n_views", "world_size"), [(10, 2), (7, 3), (2, 4)])
def test_ranks_share_the_views(n_views: int, world_size: int) -> None:
    shares = [views_of(n_views, rank, world_size) for rank in range(world_size)]
    assert set().union(*shares) == set(range(n_views))
    if world_size <= n_views:
        assert sum(map(len, shares)) == n_views
    for rank, share in enumerate(shares):
        seen = [view_at(k, n_views, 0, rank, world_size) for k in range(2 * len(share))]
        assert sorted(seen) == sorted([*share, *share])
