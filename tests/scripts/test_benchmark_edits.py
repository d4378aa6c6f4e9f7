"""The benchmark of edits, with an edit that takes no time in place of the real ones."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.cases import PAIR

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, which can edit only by a mixture of source and true edit."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script, representations = (importlib.import_module(name) for name in ("benchmark_edits", "representations"))

    class Mixture(representations.Image):
        edited: list[tuple[str, int]] = []

        def edit(self, cases):
            share = {"pds": 0.9, "dds": 0.5}[self.guidance.objective]
            results = []
            for case in cases:
                self.edited.append((self.guidance.objective, case.index))
                rng = torch.Generator().manual_seed(case.index)
                before, truth = (torch.rand(1, 3, 32, 32, generator=rng) for _ in range(2))
                truth[..., 16:] = before[..., 16:]
                results.append(representations.Edited(before, truth, torch.lerp(before, truth, share), 1.0))
            return results

    monkeypatch.setitem(representations.REPRESENTATIONS, "image", Mixture)
    script.edited = Mixture.edited
    yield script
    for name in ("benchmark_edits", "representations"):
        del sys.modules[name]


def settings(benchmark: ModuleType, out: Path, **changes):
    return benchmark.Benchmark(
        **{"variants": ("pds", "dds"), "cases": 5, "pairs": 2, "size": 32, "batch": 2, "out": out, **changes}
    )


def test_what_it_leaves(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.main(settings(benchmark, tmp_path))
    assert len(benchmark.edited) == 14
    table = {(line["variant"], line["kind"]): line for line in json.loads((tmp_path / "table.json").read_text())}
    assert table["pds", "all single"]["cases"] == 5 and table["pds", PAIR]["cases"] == 2
    assert table["pds", "all single"]["psnr_true"] > table["dds", "all single"]["psnr_true"] + 10
    assert table["pds", "all single"]["psnr_true_unedited"] == table["dds", "all single"]["psnr_true_unedited"]
    assert "| all single | pds | 5 |" in (tmp_path / "table.md").read_text()
    assert Image.open(tmp_path / "sheet.png").size[0] == 7 * 128
    assert (tmp_path / "success-fidelity.png").exists()


def test_what_is_done_is_not_done_again(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.main(settings(benchmark, tmp_path, variants=("pds",)))
    assert len(benchmark.edited) == 7
    benchmark.main(settings(benchmark, tmp_path, variants=("pds", "dds")))
    assert benchmark.edited[7:] == [("dds", i) for i in (0, 1, 2, 3, 4, 0, 1)]
    record = tmp_path / "cases.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:-1]) + lines[-1][:50])  # cut in the middle of a line
    benchmark.main(settings(benchmark, tmp_path, variants=("pds", "dds")))
    assert benchmark.edited[14:] == [("dds", 0), ("dds", 1)]


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": 16}, {"variants": ("pds,steps=7", "dds,t_max=0.5")}])
def test_other_settings_are_other_results(benchmark: ModuleType, tmp_path: Path, change: dict) -> None:
    first, second = settings(benchmark, tmp_path), settings(benchmark, tmp_path, **change)
    keys = [{key for block in benchmark.plan(config) for key in block.keys()} for config in (first, second)]
    assert len(keys[0]) == len(keys[1]) == 14 and not keys[0] & keys[1]


def test_two_names_for_one_variant_share_the_work(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.main(settings(benchmark, tmp_path, variants=("pds", "pds,identity_weight=1e0", "pds,identity_weight=1")))
    assert len(benchmark.edited) == 14
    assert {line["variant"] for line in json.loads((tmp_path / "table.json").read_text())} == {
        "pds",
        "pds,identity_weight=1e0",
        "pds,identity_weight=1",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": ("ppp",)}, "no objective"),
        ({"variants": ("pds,steps",)}, "name=value"),
        ({"variants": ("pds,colour=3",)}, "no option colour"),
        ({"variants": ("pds,steps=many",)}, "steps is 'many'"),
        ({"variants": ("pds,steps=0",)}, "steps is 0"),
        ({"representation": "statue"}, "no representation 'statue'"),
        ({"kinds": ("wings",)}, "wings"),
        ({"cases": 0, "pairs": 0}, "nothing to do"),
        ({"jobs": 0}, "jobs is 0"),
    ],
)
def test_nonsense_is_refused(benchmark: ModuleType, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        benchmark.plan(settings(benchmark, tmp_path, **change))
