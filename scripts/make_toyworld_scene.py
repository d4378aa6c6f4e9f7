"""Write a scene of the embedded world as a nerfstudio data set, with the true result of an edit on record.

For instance, a man in a blue shirt who is to raise his arms:

    python scripts/make_toyworld_scene.py --out scenes/man --edit arms=raised
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.progress import track

from pds_nerfstudio.toyworld.dataset import write_scene
from pds_nerfstudio.toyworld.grammar import VALUES, Attributes, caption, edit


@dataclass
class Scene:
    """What to write."""

    out: Path
    """Folder to write; it must not hold a scene yet."""
    edit: str
    """The edit, as attribute=value: arms=raised, hat=party, color=red, subject=robot, balloon=held, sky=sunset ..."""
    thing: Attributes = field(default_factory=Attributes)
    """What the scene shows before the edit."""
    views: int = 32
    """Cameras around the subject."""
    width: int = 128
    """Of the images, in pixels."""
    height: int = 128
    """Of the images, in pixels."""
    seed: int = 0
    """Of the cameras."""


def main(scene: Scene) -> None:
    """Write the scene and say how to edit it."""
    name, _, value = scene.edit.partition("=")
    if name not in VALUES:
        raise SystemExit(f"Error: --edit {scene.edit}: give attribute=value with one of {', '.join(VALUES)}.")
    try:
        target = edit(scene.thing, name, value)
        steps = write_scene(scene.out, scene.thing, target, scene.views, scene.width, scene.height, scene.seed)
        for _ in track(steps, total=scene.views, description="Photographing"):
            pass
    except (ValueError, FileExistsError) as error:
        raise SystemExit(f"Error: {error}") from None
    print(
        f"Wrote {scene.out}. To edit it:\n\n    ns-train pds-splat-toyworld --data {scene.out} \\\n"
        f'        --pipeline.src-prompt "{caption(scene.thing)}" \\\n        --pipeline.tgt-prompt "{caption(target)}"'
    )


if __name__ == "__main__":
    main(tyro.cli(Scene, description=__doc__))
