"""The hub that tests stand in for."""

import pytest


@pytest.fixture(autouse=True)
def _hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests stand in for the hub by its functions; nobody asks whether there is one."""
    monkeypatch.setattr("pds_nerfstudio.hub._answers", lambda endpoint: True)
