"""Mends for who may do what through nerfstudio's viewer: with viser 0.2.7, whoever reaches it can read any file.

Each is small and named for what it mends, leaves the files of nerfstudio and viser alone, and can go when they no
longer need it. `guard_viewers` puts them in, once, at import:

- *Files and foreign pages*, in every viewer of the process: viser answers `GET /../../etc/passwd` with that file, and
  lets the page of any site that is open in a browser on this machine talk to it. viser 1.0.21 does so, too, but starts
  its server in another way: the tests fail when nerfstudio takes it.
- *Names*, in every viewer of the process: the name that is typed for a camera path becomes a part of a file's path, and
  of a command to copy.

At which addresses a viewer listens is the business of `opening`.
"""

from __future__ import annotations

import functools
import http
import ipaddress
import os
import re
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import websockets.server
from nerfstudio.viewer_legacy.server.viewer_state import ViewerLegacyState
from nerfstudio.viewer_legacy.viser.messages import CameraPathPayloadMessage
from viser import GuiApi, GuiDropdownHandle
from viser._messages import GuiUpdateMessage
from viser.infra import WebsockServer
from websockets.datastructures import Headers

from pds_nerfstudio.scenes.terminal import say

THIS_MACHINE = "127.0.0.1"
"""The address that only this machine can reach."""

_SHARED_AS = ".share.viser.studio"
"""The end of the host names under which viser publishes a viewer that is shared."""
_FILE_NAME = re.compile(r"[\w .+=,@-]*")
_TYPED_NAMES = {"Render name": _FILE_NAME, "Output Directory": re.compile(r"[\w .+=,@~:/\\-]*")}
"""What may be typed into those text fields of nerfstudio's viewer that become names of files, by their labels."""

_Response = tuple[http.HTTPStatus, dict[str, str], bytes]
_Answer = Callable[[str, Headers], Awaitable[_Response | None]]


@functools.cache
def guard_viewers() -> None:
    """Apply all of these fixes. Calling this again changes nothing."""
    for owner, method, mend in (
        (WebsockServer, "start", _with_guarded_requests),
        (GuiApi, "_handle_gui_updates", _with_checked_values),
        (ViewerLegacyState, "_handle_camera_path_payload", _with_checked_name),
    ):
        setattr(owner, method, mend(getattr(owner, method)))


def viewer_line(host: str, port: int) -> str:
    """Return where a viewer is, who can reach it, and how, in one line.

    Args:
        host: The address that it listens at.
        port: The port there.
    """
    if not _is_this_machine(host):
        name = "localhost" if host in ("", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return f"Viewer: http://{name}:{port}, listening at {host}: whoever can reach that can use it."
    line = f"Viewer: http://localhost:{port}, from this machine only."
    if _is_far_from_its_user():
        line += f" From another: ssh -L {port}:localhost:{port} {socket.gethostname()}"
    return line


def _is_far_from_its_user() -> bool:
    """Return whether there is no screen here on which a browser could open."""
    has_screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return not has_screen or "SSH_CONNECTION" in os.environ


def _is_this_machine(name: str | None) -> bool:
    """Return whether a name or an address is the machine's own for itself."""
    try:
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


_starting = threading.Lock()
_serving: Any = websockets.server  # whose `serve` no type checker sees


def _with_guarded_requests(start: Callable[[WebsockServer], None]) -> Callable[[WebsockServer], None]:
    """Let a server of viser refuse foreign requests, and requests for files outside its folder.

    viser imports `serve` from websockets when it starts; during that time, this is a `serve` that adds the guard.
    """

    @functools.wraps(start)
    def guarded_start(server: WebsockServer) -> None:
        with _starting:
            serve = _serving.serve

            def guarded_serve(*args: Any, process_request: _Answer | None, **options: Any) -> Any:
                guarded = process_request
                if process_request is not None and server._http_server_root is not None:
                    guarded = _guarded(process_request, server._http_server_root, server._host)
                return serve(*args, process_request=guarded, **options)

            _serving.serve = guarded_serve
            try:
                start(server)
            finally:
                _serving.serve = serve

    return guarded_start


def _guarded(answer: _Answer, root: Path, host: str) -> _Answer:
    async def answer_or_refuse(path: str, headers: Headers) -> _Response | None:
        if _is_foreign(headers, host):
            return http.HTTPStatus.FORBIDDEN, {}, b"403"
        if not _is_inside(root, path):
            return http.HTTPStatus.NOT_FOUND, {}, b"404"
        return await answer(path, headers)

    return answer_or_refuse


def _is_foreign(headers: Headers, host: str) -> bool:
    """Return whether a request is, or may be, made by a page that does not come from this server.

    Browsers name the site that a page is from. But that site's name may lead to this machine for a while (DNS
    rebinding), so a server that listens to this machine alone accepts only the machine's own names.
    """
    names, origins = headers.get_all("Host"), headers.get_all("Origin")
    try:
        (name,) = names
        foreign = any(urlsplit(origin).netloc.lower() != name.lower() for origin in origins)
        called = urlsplit(f"//{name}").hostname or ""
    except ValueError:  # not exactly one name, or an invalid one
        return True
    return foreign or (_is_this_machine(host) and not (_is_this_machine(called) or called.endswith(_SHARED_AS)))


def _is_inside(root: Path, path: str) -> bool:
    """Return whether a request's path is that of a file inside a folder, with links followed."""
    try:
        asked = Path(path.partition("?")[0]).relative_to("/")
        file = root / (asked if asked.parts else "index.html")
        return file.is_file() and file.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):  # not a path, or an impossible one
        return False


def _with_checked_values(update: Callable[[GuiApi, Any, GuiUpdateMessage], None]) -> Callable[..., None]:
    """Make a viewer's panel refuse values that its page does not offer, and texts that are no names of files."""

    @functools.wraps(update)
    def checked_update(gui: GuiApi, client_id: Any, message: GuiUpdateMessage) -> None:
        handle = gui._gui_input_handle_from_id.get(message.id)
        if handle is None or _may_become(handle, message.updates):
            update(gui, client_id, message)
        else:  # and all pages show again what holds
            gui._websock_interface.queue_message(GuiUpdateMessage(message.id, {"value": handle.value}))

    return checked_update


def _may_become(handle: Any, updates: dict[str, Any]) -> bool:
    if set(updates) != {"value"}:
        return False
    if isinstance(handle, GuiDropdownHandle):
        return updates["value"] in handle.options
    allowed = _TYPED_NAMES.get(handle._impl.label)
    return allowed is None or allowed.fullmatch(str(updates["value"])) is not None


def _with_checked_name(write: Callable[[ViewerLegacyState, Any], None]) -> Callable[[ViewerLegacyState, Any], None]:
    """Let nerfstudio's older viewer write a camera path only under a plain file name, not into another folder."""

    @functools.wraps(write)
    def checked_write(viewer: ViewerLegacyState, message: CameraPathPayloadMessage) -> None:
        if _FILE_NAME.fullmatch(message.camera_path_filename):
            write(viewer, message)
        else:
            say(
                f"A camera path was not saved, because its name can't be a file's: {message.camera_path_filename}",
                "yellow",
            )

    return checked_write
