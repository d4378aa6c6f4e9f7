"""The page that sets the states of an edit side by side."""

from pathlib import Path

import numpy as np

from pds_nerfstudio.scenes.output.branches import Column, write_branches


def test_every_column_has_every_view_and_the_way_to_its_report(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    pictures = [draw.integers(0, 255, (32, 48, 3), dtype=np.uint8) for _ in range(2)]
    report = tmp_path / "run of <a>" / "report.html"
    columns = [Column("before", pictures), Column("1: a <dog>", pictures, report)]
    write_branches(tmp_path / "run" / "compare.html", "a cat", ["frame_1", "frame_2"], columns)
    text = (tmp_path / "run" / "compare.html").read_text()
    assert text.count("<img") == 4 and 'alt="1: a &lt;dog&gt;, view frame_2"' in text
    assert '<a href="../run%20of%20%3Ca%3E/report.html">1: a &lt;dog&gt;</a>' in text


def test_it_stays_small_however_many_states_there_are(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    noise = [draw.integers(0, 255, (300, 400, 3), dtype=np.uint8) for _ in range(3)]
    write_branches(tmp_path / "compare.html", "", ["a", "b", "c"], [Column(str(i), noise) for i in range(20)])
    assert (tmp_path / "compare.html").stat().st_size < 3_000_000
