"""compare.html: the kept states of an edit side by side, on one page that needs nothing but a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pds_nerfstudio.page import Fineness, Picture, as_text, image_url, page
from pds_nerfstudio.scenes.states import State
from pds_nerfstudio.whole_files import write_text

_PAGE_BYTES = 3_000_000
_SIDE = 640
_SHARE = 0.9
"""Of the page, for its pictures; as text they grow by a third."""


@dataclass(frozen=True)
class Column:
    """A scene in the comparison."""

    title: str
    """What it is called."""
    pictures: Sequence[Picture]
    """Of the same views in all columns."""
    report: Path | None = None
    """Of a finished edit, if it is there."""


def column_of(state: State, pictures: Sequence[Picture]) -> Column:
    """Return the column of a kept state."""
    report = None if state.finished is None else state.finished / "report.html"
    return Column(state.name, pictures, report if report is not None and report.exists() else None)


def write_branches(path: Path, source_prompt: str, views: Sequence[str], columns: Sequence[Column]) -> None:
    """Write the page.

    Args:
        path: Of the page. Reports are linked as seen from there.
        source_prompt: What the scene showed before it was edited.
        views: Names of the views.
        columns: The source, then the states.
    """
    pictures = [picture for column in columns for picture in column.pictures]
    fineness = Fineness.that_fits(pictures, _SIDE, int(_PAGE_BYTES * _SHARE * 3 / 4))
    head = "".join(f'<th scope="col">{_title(column, path.parent)}</th>' for column in columns)
    rows = [
        f'<tr><th scope="row">{as_text(view)}</th>'
        + "".join(
            f'<td><img src="{image_url(column.pictures[i], fineness)}" alt="{as_text(f"{column.title}, view {view}")}">'
            "</td>"
            for column in columns
        )
        + "</tr>"
        for i, view in enumerate(views)
    ]
    body = [
        f"<header><p>Edits of one scene</p><h1>{as_text(source_prompt or 'Side by side')}</h1></header>",
        f'<div class="columns" tabindex="0" role="region" aria-label="Edits side by side"><table><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
    ]
    write_text(path, page(f"Edits of {source_prompt}", body))


def _title(column: Column, folder: Path) -> str:
    if column.report is None:
        return as_text(column.title)
    return f'<a href="{quote(os.path.relpath(column.report, folder))}">{as_text(column.title)}</a>'
