"""Whether a server of models answers: those that read from it would try for minutes before they give up."""

from __future__ import annotations

import functools
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

SECONDS = 2.0
"""How long an answer is waited for."""


def status(url: str, seconds: float = SECONDS) -> int | None:
    """Return the status of HTTP with which a server answers; 0 if it does in other words, None if it does not.

    Asked in a thread of its own, since a name look-up without a network has no time limit.
    """
    answers: list[int] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds) as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
            error.close()
        except (OSError, HTTPException, ValueError) as error:
            # Libraries may know certificates that Python does not.
            if isinstance(getattr(error, "reason", error), ssl.SSLError):
                answers.append(0)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else None


@functools.cache
def _answers(endpoint: str) -> bool:
    return status(endpoint) is not None


@contextmanager
def hub_if_it_answers(model: str) -> Iterator[None]:
    """Let libraries look inside for a model on this machine alone, where the Hugging Face hub does not answer.

    Args:
        model: As its user names it. For a folder or a file nothing is asked.

    Raises:
        OSError: If something is not on this machine and the hub does not answer.
    """
    from huggingface_hub import constants

    if Path(model).expanduser().exists() or constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except (OSError, ValueError) as error:  # in which libraries advise to end a mode that nobody has asked for
        raise OSError(f"the hub at {constants.ENDPOINT} does not answer") from error
    finally:
        constants.HF_HUB_OFFLINE = False
