"""Watch a run's viewer as a browser does that only looks, and say when its pictures come: one line of JSON for each.

It draws nothing, so that it costs the machine next to nothing, as a browser elsewhere would. It looks from where the
viewer puts it.

    python scripts/watching.py ws://127.0.0.1:7007
"""

from __future__ import annotations

import io
import json
import sys
import time
from typing import Any

import msgspec
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ASPECT = 1.6
_MOVES = {
    "SetCameraPositionMessage": "position",
    "SetCameraLookAtMessage": "look_at",
    "SetCameraUpDirectionMessage": "up_direction",
    "SetCameraFovMessage": "fov",
}
"""By which the viewer moves a browser's camera, and what each of them sets."""
_FIELD = {"SetCameraFovMessage": "fov", "SetCameraLookAtMessage": "look_at"}
"""Where they hold that, of those that call it something else than position."""


def watch(url: str) -> None:
    """Watch until the viewer ends."""
    began = time.monotonic()
    camera: dict[str, Any] = {"type": "ViewerCameraMessage", "wxyz": (0.0, 1.0, 0.0, 0.0), "position": (3.0, 3.0, 3.0)}
    camera |= {"fov": 1.0, "aspect": ASPECT, "look_at": (0.0, 0.0, 0.0), "up_direction": (0.0, 0.0, 1.0)}
    with connect(url, max_size=None, compression=None) as viewer:
        viewer.send(msgspec.msgpack.encode(camera))
        while True:
            messages = msgspec.msgpack.decode(viewer.recv(decode=False))
            moves = {_MOVES[m["type"]]: m[_FIELD.get(m["type"], "position")] for m in messages if m["type"] in _MOVES}
            if moves:  # a browser says where it has been put
                camera |= moves
                viewer.send(msgspec.msgpack.encode(camera))
            for message in messages:
                if message["type"] == "BackgroundImageMessage":
                    width, height = Image.open(io.BytesIO(message["rgb_bytes"])).size
                    print(json.dumps({"after": time.monotonic() - began, "side": max(width, height)}), flush=True)


if __name__ == "__main__":
    try:
        watch(sys.argv[1])
    except (ConnectionClosed, KeyboardInterrupt):
        pass
