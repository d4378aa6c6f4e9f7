"""The folder of a run: of its own, whatever name it was given."""

from __future__ import annotations

from pathlib import Path

from nerfstudio.engine.trainer import TrainerConfig

from pds_nerfstudio.runs import new_folder
from pds_nerfstudio.scenes.terminal import say


def claim_folder(config: TrainerConfig) -> None:
    """Make a run's folder, under another name if there is one already; two runs begun at once get two.

    A run that goes on from its own last checkpoint goes on in its own folder.

    Args:
        config: Of the run, whose timestamp may change.

    Raises:
        UserError: If no folder can be made there.
    """
    folder = config.get_base_dir()
    if goes_on_in(folder, config):
        return
    made = new_folder(folder.parent, folder.name)
    if made.name != folder.name:
        say(f"{folder} holds a run already: this one goes to {made}.", "yellow")
        config.timestamp = made.name


def goes_on_in(folder: Path, config: TrainerConfig) -> bool:
    """Return whether a run starts from a checkpoint in its own folder."""
    start = config.load_dir or (config.load_checkpoint and config.load_checkpoint.parent)
    own = {folder.resolve(), (folder / config.relative_model_dir).resolve()}
    return start is not None and start.resolve() in own
