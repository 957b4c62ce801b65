"""A port is handed out once, whichever process asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devstack import ports
from schemas.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]
ASK = "from devstack import ports; ports._FIRST = ports._LAST = {}; ports.free_port()"


def test_a_port_is_held_for_its_process_though_no_server_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = ports.free_port()
    assert ports.is_free(port)
    asked = subprocess.run(
        [sys.executable, "-c", ASK.format(port)], cwd=ROOT, capture_output=True, text=True
    )
    assert "no free port" in asked.stderr
    monkeypatch.setattr(ports, "_FIRST", port)
    monkeypatch.setattr(ports, "_LAST", port)
    with pytest.raises(ConfigurationError, match="stop a server"):
        ports.free_port()


def test_a_port_is_free_again_once_its_process_has_ended() -> None:
    show = "from devstack.ports import free_port; print(free_port())"
    ended = subprocess.run(
        [sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True
    )
    again = subprocess.run(
        [sys.executable, "-c", ASK.format(int(ended.stdout))], cwd=ROOT, capture_output=True
    )
    assert again.returncode == 0
