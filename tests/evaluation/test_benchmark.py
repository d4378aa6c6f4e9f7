"""The benchmark of edits, with an edit that takes no time in place of the real ones."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.benchmark import Benchmark, plan, run
from pds_nerfstudio.evaluation.cases import PAIR, EditCase
from pds_nerfstudio.evaluation.representations import REPRESENTATIONS, Edited, PictureEdits, Setup, Variant

Done = list[tuple[str, int]]
"""Edits that were made: objective, and number of the case."""


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Done:
    """Return a list of what is edited; from here on, edits are mixtures of source and true edit."""
    done: Done = []

    class Mixture(PictureEdits):
        def edit(self, cases: Sequence[EditCase]) -> list[Edited]:
            share = {"pds": 0.9, "dds": 0.5}[self.guidance.objective]
            results = []
            for case in cases:
                done.append((self.guidance.objective, case.index))
                rng = torch.Generator().manual_seed(case.index)
                before, truth = (torch.rand(1, 3, 32, 32, generator=rng) for _ in range(2))
                truth[..., 16:] = before[..., 16:]
                results.append(Edited(before, truth, torch.lerp(before, truth, share), 1.0))
            return results

    monkeypatch.setitem(REPRESENTATIONS, "image", Mixture)
    return done


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    return Benchmark(variants=("pds", "dds"), cases=5, pairs=2, size=32, batch=2, out=tmp_path)


def table_of(benchmark: Benchmark) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the lines that it left, by variant and kind."""
    lines = json.loads((benchmark.out / "table.json").read_text())
    return {(line["variant"], line["kind"]): line for line in lines}


def keys_of(benchmark: Benchmark) -> set[str]:
    return {key for block in plan(benchmark) for key in block.keys()}


def test_what_it_leaves(benchmark: Benchmark, edited: Done) -> None:
    run(benchmark)
    assert len(edited) == 14
    table = table_of(benchmark)
    assert table["pds", "all single"]["cases"] == 5
    assert table["pds", PAIR]["cases"] == 2
    assert table["pds", "all single"]["psnr_true"] > table["dds", "all single"]["psnr_true"] + 10
    assert table["pds", "all single"]["psnr_true_unedited"] == table["dds", "all single"]["psnr_true_unedited"]
    assert "| all single | pds | 5 |" in (benchmark.out / "table.md").read_text()
    with Image.open(benchmark.out / "sheet.png") as sheet:
        assert sheet.size[0] == 7 * 128
    assert (benchmark.out / "success-fidelity.png").exists()


def test_what_is_done_is_not_done_again(benchmark: Benchmark, edited: Done) -> None:
    run(dataclasses.replace(benchmark, variants=("pds",)))
    assert len(edited) == 7
    run(benchmark)
    assert edited[7:] == [("dds", i) for i in (0, 1, 2, 3, 4, 0, 1)]
    record = benchmark.out / "cases.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:-1]) + lines[-1][:50])  # cut in the middle of a line
    run(benchmark)
    assert edited[14:] == [("dds", 0), ("dds", 1)]


def test_named_edits_take_the_place_of_drawn_ones(benchmark: Benchmark, edited: Done) -> None:
    run(dataclasses.replace(benchmark, edits=("arms=raised", "color=red", "hat=top")))
    assert edited == [(objective, i) for objective in ("pds", "dds") for i in range(3)]
    kinds = {kind: line["cases"] for (variant, kind), line in table_of(benchmark).items() if variant == "pds"}
    assert kinds == {"all single": 3, "arms=raised": 1, "color=red": 1, "hat=top": 1}


def test_the_table_has_the_columns_that_have_numbers(benchmark: Benchmark, edited: Done) -> None:
    run(benchmark)
    head = (benchmark.out / "table.md").read_text().splitlines()[0]
    assert "| sharpness outside | seconds |" in head  # a single picture has no other view to agree with
    assert table_of(benchmark)["pds", PAIR]["view_difference_ratio"] is None


def test_results_without_a_score_that_has_come_since_are_read(benchmark: Benchmark, edited: Done) -> None:
    run(benchmark)
    record = benchmark.out / "cases.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    for row in rows:
        del row["scores"]["view_difference_ratio"]
    rows[-1]["scores"]["view_difference_ratio"] = 1.5  # of the second of two pairs
    record.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(benchmark)
    assert len(edited) == 14
    table = table_of(benchmark)
    assert table["dds", PAIR]["view_difference_ratio"] == 1.5
    lines = (benchmark.out / "table.md").read_text().splitlines()
    column = lines[0].split(" | ").index("view difference ratio")
    assert [line.split(" | ")[column] for line in lines[2:]].count("–") == len(lines) - 3


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": 16}, {"variants": ("pds,steps=7", "dds,t_max=0.5")}])
def test_other_settings_are_other_results(benchmark: Benchmark, change: dict[str, Any]) -> None:
    keys, others = keys_of(benchmark), keys_of(dataclasses.replace(benchmark, **change))
    assert len(keys) == len(others) == 14
    assert not keys & others


def test_two_names_for_one_variant_share_the_work(benchmark: Benchmark, edited: Done) -> None:
    names = ("pds", "pds,identity_weight=1e0", "pds,identity_weight=1")
    run(dataclasses.replace(benchmark, variants=names))
    assert len(edited) == 14
    assert {variant for variant, _ in table_of(benchmark)} == set(names)


def test_a_variants_options_change_nothing_but_its_own(tmp_path: Path) -> None:
    setup = Setup(seed=0, size=32, views=1, device="auto", out=tmp_path)
    changed = REPRESENTATIONS["image"](Variant("dds,guidance_scale=15,steps=7"), setup).settings()
    default = REPRESENTATIONS["image"](Variant("pds"), setup).settings()
    assert changed["guidance"] == default["guidance"] | {"objective": "dds", "guidance_scale": 15.0}
    assert changed["edit"] == default["edit"] | {"steps": 7}


def test_a_variant_reaches_into_configurations_within(tmp_path: Path) -> None:
    setup = Setup(seed=0, size=32, views=1, device="auto", out=tmp_path)
    settings = REPRESENTATIONS["svg"](Variant("pds,draft.flow_edit.steps=7,steps=3"), setup).settings()["edit"]
    default = REPRESENTATIONS["svg"](Variant("pds"), setup).settings()["edit"]
    flow_edit = default["draft"]["flow_edit"] | {"steps": 7}
    assert settings == default | {"steps": 3, "draft": default["draft"] | {"flow_edit": flow_edit}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": ("ppp",)}, "no objective"),
        ({"variants": ("pds,steps",)}, "name=value"),
        ({"variants": ("pds,colour=3",)}, "no option colour"),
        ({"variants": ("pds,flow_edit.colour=3",)}, "no option flow_edit.colour"),
        ({"variants": ("pds,flow_edit=3",)}, "no option flow_edit"),
        ({"variants": ("pds,steps=many",)}, "steps is 'many'"),
        ({"variants": ("pds,steps=0",)}, "steps is 0"),
        ({"representation": "statue"}, "no representation 'statue'"),
        ({"kinds": ("wings",)}, "wings"),
        ({"edits": ("wings=two",)}, "wings=two"),
        ({"edits": ("color=blue",)}, "blue' already"),
        ({"cases": 0, "pairs": 0}, "nothing to do"),
        ({"jobs": 0}, "jobs is 0"),
    ],
)
def test_nonsense_is_refused(benchmark: Benchmark, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(dataclasses.replace(benchmark, **change))
