"""Prepare nerfstudio's viewer when it opens a run of this package: in ns-train, or in ns-viewer for a finished run.

Viewers of this package's runs can be reached from this machine only, unless an option says otherwise; ns-viewer's own
default is all addresses. Viewers of nerfstudio's own methods are left as they are.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.viewer.viewer import Viewer

from pds_nerfstudio.scenes.live.panel import EditPanel
from pds_nerfstudio.scenes.live.session import EditSession
from pds_nerfstudio.scenes.live.viewer_access import THIS_MACHINE, viewer_line
from pds_nerfstudio.scenes.terminal import say

_HOST_OPTION = re.compile(r"--viewer\.websocket[-_]host\b")


@functools.cache
def prepare_viewers(ours: type[Pipeline]) -> None:
    """Prepare all viewers that open one of this package's pipelines. Calling this again changes nothing.

    Args:
        ours: The class of those pipelines, each a `Scene`.
    """
    Viewer.__init__ = _prepared(Viewer.__init__, ours)  # type: ignore[method-assign]


def _prepared(initialise: Callable[..., None], ours: type[Pipeline]) -> Callable[..., None]:
    """Let a viewer listen to this machine only, print its address, and show a finished edit's panel.

    The panel of a running edit is opened by its trainer.
    """

    @functools.wraps(initialise)
    def initialise_prepared(
        viewer: Viewer, config: ViewerConfig, log_filename: Path, datapath: Path, pipeline: Pipeline, **options: Any
    ) -> None:
        if not isinstance(pipeline, ours):
            initialise(viewer, config, log_filename, datapath, pipeline, **options)
            return
        scene: Any = pipeline
        is_finished = options.get("trainer") is None
        # ns-viewer goes by its own command line, not by the run's configuration.
        if is_finished and not any(map(_HOST_OPTION.match, sys.argv)):
            config = replace(config, websocket_host=THIS_MACHINE)
        initialise(viewer, config, log_filename, datapath, pipeline, **options)
        if is_finished:
            EditPanel(scene, EditSession(scene.settings)).open_in(viewer)
        say(viewer_line(config.websocket_host, viewer.viser_server.get_port()), "bold")

    return initialise_prepared
