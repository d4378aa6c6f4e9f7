"""What a benchmark of edits leaves to read: a table, a plot of success versus fidelity, a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from pds_nerfstudio.evaluation.cases import PAIR
from pds_nerfstudio.whole_files import as_json, whole_file, write_text

Row = dict[str, Any]
"""A finished edit, as a line of cases.jsonl has it: key, variant, kind, index, prompts, scores, pictures."""

COLUMNS = (
    "success",
    "kept",
    "psnr_true",
    "psnr_true_unedited",
    "psnr_inside",
    "psnr_outside",
    "psnr_source",
    "ssim_true",
    "ssim_outside",
    "perceptual_true",
    "perceptual_source",
    "sharpness_inside",
    "sharpness_outside",
    "consistency",
    "view_difference_ratio",
    "seconds",
)
"""Columns of the printed table, as far as there is a number for them; table.json has all scores."""
FIDELITY = {
    "psnr_true": "dB to the true edit",
    "psnr_outside": "dB to the source where nothing should change",
}
"""Scores that success is plotted against."""
SINGLES = "all single"
"""Name of the mean over all edits of one attribute."""


def report(rows: Sequence[Row], out: Path, size: int, sheet_cases: int) -> None:
    """Write table, plot and contact sheet of all cases, and print the table.

    Args:
        rows: The finished edits; those of one variant in the order of the cases.
        out: The folder of the benchmark, with its pictures.
        size: Side of a picture, in pixels.
        sheet_cases: How many cases the contact sheet shows.
    """
    table = means_by_kind(rows)
    lines = markdown(table)
    print("\n".join(lines))
    write_text(out / "table.json", as_json(table, indent=1) + "\n")
    write_text(out / "table.md", "\n".join(lines) + "\n")
    plot(table, out / "success-fidelity.png")
    with whole_file(out / "sheet.png") as unfinished:
        sheet(rows, out / "pictures", size, sheet_cases).save(unfinished)
    print(f"Wrote table.json, table.md, success-fidelity.png and sheet.png in {out}")


def means_by_kind(rows: Sequence[Row]) -> list[Row]:
    """Return a line for each kind of edit and variant: how many cases there are, and the mean of each score."""
    variants = tuple(dict.fromkeys(row["variant"] for row in rows))
    drawn = tuple(dict.fromkeys(row["kind"] for row in rows if row["kind"] != PAIR))
    return [
        {"variant": variant, "kind": kind, "cases": len(some), **means(some)}
        for kind, kinds in {SINGLES: drawn, **{kind: (kind,) for kind in (*drawn, PAIR)}}.items()
        for variant in variants
        if (some := [row for row in rows if row["variant"] == variant and row["kind"] in kinds])
    ]


def means(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the mean of each score over the cases that have it."""
    result: dict[str, float | None] = {}
    for name in dict.fromkeys(name for row in rows for name in row["scores"]):
        # Lines that an older version wrote lack the scores that have come since.
        values = [value for row in rows if (value := row["scores"].get(name)) is not None]
        result[name] = float(np.mean(values)) if values else None
    return result


def markdown(table: Sequence[Row]) -> list[str]:
    """Return the lines of a table in Markdown."""
    known = [column for column in COLUMNS if any(line.get(column) is not None for line in table)]
    head = ("kind", "variant", "cases", *known)
    lines = ["| " + " | ".join(column.replace("_", " ") for column in head) + " |", "|" + "---|" * len(head)]
    for line in table:
        cells = (
            f"{v:.3g}" if isinstance(v := line.get(column), float) else "–" if v is None else str(v) for column in head
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(table: Sequence[Row], path: Path) -> None:
    """Plot success against fidelity: to the true edit, and to the source where nothing should change."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for panel, (score_name, label) in zip(panels, FIDELITY.items(), strict=True):
        for kind, marker in ((SINGLES, "o"), (PAIR, "^")):
            for line in (line for line in table if line["kind"] == kind and line[score_name] is not None):
                panel.scatter(line[score_name], line["success"], marker=marker)
                text = line["variant"] + (f" ({kind})" if kind == PAIR else "")
                panel.annotate(text, (line[score_name], line["success"]), xytext=(6, 4), textcoords="offset points")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
        panel.margins(x=0.2)
    panels[0].set_ylabel("success")
    figure.tight_layout()
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
    pyplot.close(figure)


def sheet(rows: Sequence[Row], pictures: Path, size: int, cases: int) -> PIL.Image.Image:
    """Return the first view of some cases, evenly picked: a column a case, below its source and true edit each variant.

    Args:
        rows: As in `report`.
        pictures: The folder of their pictures.
        size: Side of a picture, in pixels.
        cases: How many columns there are at most.
    """
    from pds_nerfstudio.scenes.output.results import contact_sheet  # imports nerfstudio, which takes its time

    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    first, *_ = by_variant.values()
    n = min(cases, len(first))
    picked = [round(i * (len(first) - 1) / max(1, n - 1)) for i in range(n)]

    def strip(row: Row, what: str) -> UInt8[np.ndarray, "size size 3"]:
        return np.asarray(PIL.Image.open(pictures / row["pictures"][what]))[:, :size]

    strips = {"source": [strip(first[i], "before") for i in picked]}
    strips["true edit"] = [strip(first[i], "truth") for i in picked]
    strips |= {variant: [strip(some[i], "edited") for i in picked] for variant, some in by_variant.items()}
    return contact_sheet(strips, side=128)
