"""Write a drawing of the embedded world as a layered SVG, beside it the true result of an edit, and their captions.

For instance, a man in a blue shirt who is to raise his arms:

    python scripts/make_toyworld_drawings.py --out drawings/man --edit arms=raised
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from pds_nerfstudio.toyworld.drawing import PAPER, drawing
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, caption, edit


@dataclass
class Drawings:
    """What to write."""

    out: Path
    """Folder to write; it must not hold drawings yet."""
    edit: str
    """The edit, as attribute=value: arms=raised, hat=party, color=red, subject=robot, balloon=held ..."""
    thing: Attributes = field(default_factory=lambda: Attributes(style="drawing"))
    """What is drawn before the edit."""


def main(drawings: Drawings) -> None:
    """Write source.svg, true_edit.svg and captions.txt, and say how to edit the source."""
    name, _, value = drawings.edit.partition("=")
    if name not in VALUES:
        raise SystemExit(f"Error: --edit {drawings.edit}: give attribute=value with one of {', '.join(VALUES)}.")
    source = replace(drawings.thing, style="drawing")
    try:
        target = edit(source, name, value)
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
    if (drawings.out / "source.svg").exists():
        raise SystemExit(f"Error: {drawings.out} holds drawings already: give a new folder.")
    drawings.out.mkdir(parents=True, exist_ok=True)
    (drawings.out / "source.svg").write_text(drawing(source))
    (drawings.out / "true_edit.svg").write_text(drawing(target))
    (drawings.out / "captions.txt").write_text(f"{caption(source)}\n{caption(target)}\n")
    print(
        f"Wrote {drawings.out}. To edit it:\n\n    pds-svg --svg {drawings.out / 'source.svg'} "
        f'--edit.background "{PAPER}" \\\n        --src-prompt "{caption(source)}" \\\n'
        f'        --tgt-prompt "{caption(target)}"'
    )


if __name__ == "__main__":
    main(tyro.cli(Drawings, description=__doc__))
