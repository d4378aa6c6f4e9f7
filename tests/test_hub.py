"""A hub that does not answer: everything that reads from it says so in one line, and does not try on."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from pds_nerfstudio import hub
from pds_nerfstudio.errors import UserError
from pds_nerfstudio.evaluation.clip import load_clip
from pds_nerfstudio.guidance.networks.adapters import replace_autoencoder
from pds_nerfstudio.guidance.networks.loading import find_model
from pds_nerfstudio.hub import hub_if_it_answers, status
from pds_nerfstudio.scenes.selection.words import load_segmenter

NAME = "someone/some-model"
READERS: dict[str, Callable[[], Any]] = {
    "a model": lambda: find_model(NAME),
    "a CLIP model": lambda: load_clip(NAME),
    "a segmenter": lambda: load_segmenter(NAME, "cpu"),
    "an autoencoder": lambda: replace_autoencoder(SimpleNamespace(), NAME, torch.float32),
}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a hub at a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub._answers.cache_clear()
    yield address
    hub._answers.cache_clear()


# Of diffusers, which asks the hub in old words
@pytest.mark.filterwarnings("ignore:.*local_dir_use_symlinks:UserWarning")
@pytest.mark.parametrize("what", READERS)
def test_it_is_named_in_one_line_and_asked_once(what: str, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "status", lambda url: asked.append(url))
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            READERS[what]()
        text = str(refused.value)
        assert NAME in text and f"the hub at {closed} does not answer" in text and "\n" not in text
    assert asked == [closed] and not constants.HF_HUB_OFFLINE


def test_what_is_on_this_machine_is_asked_of_no_hub(closed: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(hub, "status", lambda url: pytest.fail("asked"))
    with hub_if_it_answers(str(tmp_path)):
        assert not constants.HF_HUB_OFFLINE


def test_an_error_of_ours_goes_through(closed: str) -> None:
    with pytest.raises(UserError, match="mine"), hub_if_it_answers(NAME):
        raise UserError("mine")


def test_a_closed_port_does_not_answer(closed: str) -> None:
    assert status(closed) is None


def test_one_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert status(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.05) is None


@pytest.mark.parametrize("code", [200, 404, 503])
def test_whatever_a_server_says_is_an_answer(code: int) -> None:
    class Says(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Says) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        assert status(f"http://127.0.0.1:{server.server_port}") == code
        serving.join()


def test_words_that_are_no_address_are_no_answer() -> None:
    assert status("http://\n") is None
