"""What `run` does when its process must start anew."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from stream_features import __main__ as command_line
from stream_features import process


class Replaced(Exception):
    """In place of the process that execv would start."""


def test_a_process_that_stands_still_replaces_itself_as_the_same_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    seen: list[int] = []

    def serve(settings: Any, **options: Any) -> int:
        seen.append(options["restarts"])
        return 75

    def replace(program: str, arguments: list[str]) -> None:
        started.append(arguments)
        raise Replaced

    monkeypatch.setattr(process, "run", serve)
    monkeypatch.setattr(os, "execv", replace)
    monkeypatch.setenv(command_line.RESTARTS, "2")
    arguments = ["run", "--worker-id", "one", "--from-start"]
    monkeypatch.setattr(sys, "argv", ["stream_features", *arguments])
    with pytest.raises(Replaced):
        command_line.app(arguments, standalone_mode=False)
    assert started == [[sys.executable, "-m", "stream_features", "run", "--worker-id", "one"]]
    assert seen == [2]
    assert os.environ[command_line.RESTARTS] == "3"
