"""Who may do what through the viewer: asked of servers that run."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import viser
from nerfstudio.viewer.render_panel import populate_render_tab
from nerfstudio.viewer_legacy.server.viewer_state import ViewerLegacyState
from nerfstudio.viewer_legacy.viser.messages import CameraPathPayloadMessage
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from pds_nerfstudio.methods import pds_nerf, pds_splat
from pds_nerfstudio.scenes.live import viewer_access
from pds_nerfstudio.scenes.live.viewer_access import guard_viewers, viewer_line

guard_viewers()

Serve = Callable[..., viser.ViserServer]
CLIENT = Path(viser.__file__).parent / "client/build"


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Starts viser's servers, at ports that are free."""
    servers: list[viser.ViserServer] = []

    def start(host: str = "127.0.0.1") -> viser.ViserServer:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        servers.append(viser.ViserServer(host, port, verbose=False))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(serve: Serve) -> viser.ViserServer:
    """One that several tests ask; it listens to this machine alone."""
    return serve()


def get(server: viser.ViserServer, path: str, *headers: str) -> tuple[int, bytes]:
    """Ask for a path as it stands; returns the status and the rest of the answer."""
    port = server.get_port()
    named = headers if any(header.startswith("Host:") for header in headers) else (f"Host: localhost:{port}", *headers)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join([f"GET {path} HTTP/1.1", *named, "", ""]).encode("latin1"))
        with connection.makefile("rb") as answer:
            status, rest = answer.readline(), answer.read()
    return int(status.split()[1]), rest


class TestFiles:
    def test_the_page_and_its_parts_are_served(self, server: viser.ViserServer) -> None:
        part = next(path for path in (CLIENT / "assets").iterdir() if path.suffix == ".js")
        for path in ("/", "/index.html", "/?websocket=x", f"/{part.relative_to(CLIENT)}"):
            assert get(server, path)[0] == 200, path
        assert b"<html" in get(server, "/")[1]

    @pytest.mark.parametrize(
        "path",
        [
            "/../../../../../../../../../../../etc/passwd",
            "/assets/../../../../../../../../../../../../etc/passwd",
            "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
            "/..\\..\\..\\..\\..\\..\\..\\..\\..\\etc\\passwd",
            "//etc/passwd",
            "///etc/passwd",
            "/C:/Windows/win.ini",
            "/../../__init__.py",
            "/../index.html",
            "file:///etc/passwd",
            "/assets",
            "/nothing\x00",
            "/" + "x" * 5000,
        ],
    )
    def test_nothing_else_is(self, path: str, server: viser.ViserServer) -> None:
        status, answer = get(server, path)
        assert status == 404 and answer.endswith(b"\r\n\r\n404")

    def test_links_do_not_lead_out(self, tmp_path: Path) -> None:
        root, secret = tmp_path / "build", tmp_path / "secret"
        root.mkdir()
        secret.write_text("hidden")
        (root / "page.html").write_text("shown")
        (root / "out").symlink_to(secret)
        (root / "parent").symlink_to(tmp_path)
        (root / "within").symlink_to(root / "page.html")
        names = ("page.html", "within", "out", "parent/secret")
        assert [viewer_access._is_inside(root, f"/{name}") for name in names] == [True, True, False, False]


class TestForeignPages:
    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "abc.share.viser.studio"])
    def test_this_machines_own_names_are_answered(self, name: str, server: viser.ViserServer) -> None:
        # A tunnel may have another port at its other end.
        for host in (name, f"{name}:{server.get_port()}", f"{name}:8123"):
            assert get(server, "/", f"Host: {host}")[0] == 200
            assert get(server, "/", f"Host: {host}", f"Origin: http://{host}")[0] == 200

    @pytest.mark.parametrize(
        "headers",
        [
            ["Host: evil.example"],
            ["Host: localhost.evil.example:7007"],
            ["Host: 192.168.0.7:7007"],
            ["Host: [::1"],
            ["Host:"],
            ["Host: localhost", "Host: evil.example"],
            ["Host: localhost:7007", "Origin: http://evil.example"],
            ["Host: localhost:7007", "Origin: http://localhost:3000"],
            ["Host: localhost:7007", "Origin: null"],
            ["Host: localhost:7007", "Origin: http://localhost:7007", "Origin: http://evil.example"],
            ["Host: evil.example", "Origin: http://evil.example"],
        ],
    )
    def test_others_are_refused(self, headers: list[str], server: viser.ViserServer) -> None:
        assert get(server, "/", *headers)[0] == 403
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        assert get(server, "/", *headers, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")[0] == 403

    def test_no_host_is_refused(self, server: viser.ViserServer) -> None:
        with socket.create_connection(("127.0.0.1", server.get_port()), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.makefile("rb").readline().split()[1] == b"403"

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    def test_the_websocket(self, host: str, serve: Serve) -> None:
        server = serve(host)
        address = f"localhost:{server.get_port()}"
        for origin in (None, Origin(f"http://{address}")):  # programs name none
            with connect(f"ws://{address}", origin=origin) as connection:
                assert connection.recv(timeout=20)
        for origin in map(Origin, ("http://evil.example", "http://localhost", "null")):
            with pytest.raises(InvalidStatus, match="403"), connect(f"ws://{address}", origin=origin):
                pass

    def test_at_all_addresses_any_name_is_answered(self, serve: Serve) -> None:
        server = serve("0.0.0.0")
        assert get(server, "/", "Host: workstation.example:7007")[0] == 200
        assert get(server, "/../../../../../../../../../etc/passwd")[0] == 404


class Browser:
    """What a browser's page sends; the page itself is not needed for it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def send(self, kind: str, **content: Any) -> None:
        self._connection.send(msgspec.msgpack.encode({"type": kind, **content}))

    def change(self, handle: Any, **updates: Any) -> None:
        self.send("GuiUpdateMessage", id=handle._impl.id, updates=updates)

    def is_told(self, handle: Any) -> Any:
        """The next value that an element is said to have."""
        while True:
            received = self._connection.recv(timeout=20)
            assert isinstance(received, bytes)
            for message in msgspec.msgpack.decode(received):
                if message["type"] == "GuiUpdateMessage" and message["id"] == handle._impl.id:
                    return message["updates"]["value"]


@pytest.fixture
def looked_at(serve: Serve) -> Iterator[tuple[viser.ViserServer, Browser]]:
    """A server, and a browser that looks at it."""
    server = serve()
    with connect(f"ws://127.0.0.1:{server.get_port()}") as connection:
        browser = Browser(connection)
        here = {"wxyz": (1, 0, 0, 0), "position": (0, 0, 0), "look_at": (0, 0, 1), "up_direction": (0, 1, 0)}
        browser.send("ViewerCameraMessage", fov=1.0, aspect=1.0, **here)
        yield server, browser


def element(server: viser.ViserServer, label: str) -> Any:
    return next(one for one in server.gui._gui_input_handle_from_id.values() if one._impl.label == label)


class TestNames:
    def test_a_camera_path_stays_in_its_folder(
        self, looked_at: tuple[viser.ViserServer, Browser], tmp_path: Path
    ) -> None:
        server, browser = looked_at
        data = tmp_path / "data"
        populate_render_tab(server, tmp_path / "config.yml", data)
        name, button = element(server, "Render name"), element(server, "Generate Command")
        element(server, "Duration (sec)").value = 0  # else a path needs cameras
        name.value = "mine"
        assert browser.is_told(name) == "mine"
        for wrong in ("../../x", "/x", "a/b", "..\\x", "x`\n\nimport 'x'", "$(x)"):
            browser.change(name, value=wrong)
            assert browser.is_told(name) == "mine" and name.value == "mine"
        saved = data / "camera_paths"
        browser.change(button, value=True)
        _wait_for(lambda: (saved / "mine.json").exists())
        browser.change(name, value="Flight 2.1_ä")
        _wait_for(lambda: name.value == "Flight 2.1_ä")
        browser.change(button, value=True)
        _wait_for(lambda: len(list(saved.iterdir())) == 2)
        files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")}
        assert files == {"data/camera_paths/mine.json", "data/camera_paths/Flight 2.1_ä.json"}

    def test_only_what_is_offered_can_be_chosen(self, looked_at: tuple[viser.ViserServer, Browser]) -> None:
        """Nerfstudio reads the camera path that is chosen, without a look at the list that it made."""
        server, browser = looked_at
        chosen = server.gui.add_dropdown("Camera Path", ("one.json", "two.json"))
        browser.change(chosen, value="../../secret.json")
        assert browser.is_told(chosen) == "one.json" and chosen.value == "one.json"
        browser.change(chosen, value="two.json")
        _wait_for(lambda: chosen.value == "two.json")

    def test_a_browser_changes_nothing_but_values(self, looked_at: tuple[viser.ViserServer, Browser]) -> None:
        server, browser = looked_at
        number = server.gui.add_number("Number", 3)
        browser.change(number, update_cb=[])
        assert browser.is_told(number) == 3
        browser.change(number, value=4)
        _wait_for(lambda: number.value == 4)

    def test_a_folder_for_exports_is_no_command(self, looked_at: tuple[viser.ViserServer, Browser]) -> None:
        server, browser = looked_at
        folder, text = server.gui.add_text("Output Directory", "exports"), server.gui.add_text("Target", "")
        for wrong in ("x; rm -rf ~", "x`", "x\ny", "![x](/home/x.png)", "$HOME", "<x>"):
            browser.change(folder, value=wrong)
            assert browser.is_told(folder) == "exports" and folder.value == "exports"
        browser.change(folder, value="~/my exports/2.1")
        _wait_for(lambda: folder.value == "~/my exports/2.1")
        browser.change(text, value="a <fox>; or {not}")
        _wait_for(lambda: text.value == "a <fox>; or {not}")

    @pytest.mark.parametrize("name", ["../x", "/x", "a/b", "a\\b", "x\n"])
    def test_the_older_viewer(self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        viewer: Any = SimpleNamespace(datapath=tmp_path / "data")
        write = ViewerLegacyState._handle_camera_path_payload
        write(viewer, CameraPathPayloadMessage(name, {"fps": 24}))
        assert list(tmp_path.rglob("*")) == [] and "not saved" in capsys.readouterr().out
        write(viewer, CameraPathPayloadMessage("x", {"fps": 24}))
        assert json.loads((tmp_path / "data/camera_paths/x.json").read_text()) == {"fps": 24}


def _wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestWhereItListens:
    def test_the_methods_listen_to_this_machine_alone(self) -> None:
        for method in (pds_splat, pds_nerf):
            assert method.config.viewer.websocket_host == "127.0.0.1"

    def test_the_line_says_who_can_reach_it_and_how(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("SSH_CONNECTION", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(socket, "gethostname", lambda: "box")
        monkeypatch.setenv("DISPLAY", ":0")
        here = "Viewer: http://localhost:7007, from this machine only."
        assert viewer_line("127.0.0.1", 7007) == here
        monkeypatch.setenv("SSH_CONNECTION", "10.0.0.2 5000 10.0.0.1 22")
        assert viewer_line("localhost", 7007) == f"{here} From another: ssh -L 7007:localhost:7007 box"
        monkeypatch.delenv("SSH_CONNECTION")
        monkeypatch.delenv("DISPLAY")
        assert viewer_line("127.0.0.1", 7007) == f"{here} From another: ssh -L 7007:localhost:7007 box"
        assert viewer_line("0.0.0.0", 7007).startswith("Viewer: http://localhost:7007, listening at 0.0.0.0: ")
        assert viewer_line("fd00::1", 7007).startswith("Viewer: http://[fd00::1]:7007, listening at fd00::1: ")
