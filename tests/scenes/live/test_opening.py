"""What happens where nerfstudio's viewer opens a run: by ns-train, by ns-viewer, and of other methods."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.viewer import Viewer

from pds_nerfstudio.scenes.live import opening
from pds_nerfstudio.scenes.live.panel import EditPanel


class Ours:
    """As much of a pipeline of this package as is asked for."""

    settings: ClassVar = {"src_prompt": "a cat", "tgt_prompt": "a dog"}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Viewer]:
    """The viewers in which a panel was opened."""
    viewers: list[Viewer] = []
    monkeypatch.setattr(EditPanel, "open_in", lambda self, viewer: viewers.append(viewer))
    return viewers


@pytest.mark.parametrize(
    ("pipeline", "trainer", "arguments", "host"),
    [
        (Ours(), None, [], "127.0.0.1"),  # ns-viewer
        (Ours(), None, ["--viewer.websocket-host", "0.0.0.0"], "0.0.0.0"),
        (Ours(), None, ["--viewer.websocket_host=0.0.0.0"], "0.0.0.0"),
        (Ours(), None, ["--viewer.websocket-port", "7008"], "127.0.0.1"),
        (Ours(), object(), [], "0.0.0.0"),  # ns-train, by its configuration
        (object(), None, [], "0.0.0.0"),  # a method of nerfstudio's
    ],
)
def test_where_it_listens_and_whose_panel_it_shows(
    pipeline: Any,
    trainer: object,
    arguments: list[str],
    host: str,
    opened: list[Viewer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    began: list[ViewerConfig] = []

    def begin(viewer: Any, config: ViewerConfig, *_: Any, **__: Any) -> None:
        began.append(config)
        viewer.viser_server = SimpleNamespace(get_port=lambda: 7012)

    monkeypatch.setattr(sys, "argv", ["ns-viewer", *arguments])
    ours: Any = Ours
    initialise, viewer = opening._prepared(begin, ours), Viewer.__new__(Viewer)
    given = ViewerConfig(websocket_host="0.0.0.0", num_rays_per_chunk=7)
    initialise(viewer, given, log_filename=Path(), datapath=Path(), pipeline=pipeline, trainer=trainer)
    (config,) = began
    assert config.websocket_host == host and config.num_rays_per_chunk == 7
    assert ("Viewer: http://localhost:7012" in capsys.readouterr().out) == isinstance(pipeline, Ours)
    assert opened == ([viewer] if isinstance(pipeline, Ours) and trainer is None else [])
