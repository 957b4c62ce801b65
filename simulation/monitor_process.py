"""The monitor as a child process over its pipe: messages in, what it says out.

The frames are described in monitor/pipe.py; the monitor's package is not imported.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Self

from runtime.kafka.protocols import Message
from schemas.errors import FatalError

_LENGTH: Final = struct.Struct("<I")


class Said(NamedTuple):
    """A message that the monitor would have produced."""

    topic: str
    key: bytes
    value: bytes


class Watch:
    """`python -m monitor pipe` with the settings given as environment. Use it as a context."""

    def __init__(self, log: Path, settings: Mapping[str, str]) -> None:
        self._log_path = log
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "pipe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **settings},
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the monitor."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def sees(self, messages: Iterable[Message], now_ms: int) -> None:
        """Hand over messages."""
        frames = [
            _frame(
                {
                    "topic": each.topic,
                    "timestamp": each.timestamp,
                    "now": now_ms,
                    **({} if each.key is None else {"key": each.key.decode()}),
                },
                each.value or b"",
            )
            for each in messages
        ]
        self._write(b"".join(frames))

    def says(self, now_ms: int) -> list[Said]:
        """Let the monitor do all that is due by `now_ms`; return what it says. Blocks."""
        self._write(_frame({"now": now_ms, "flush": True}))
        if self._process.stdin is not None:
            self._process.stdin.flush()
        said: list[Said] = []
        while True:
            header, value = self._read()
            if "done" in header:
                return said
            said.append(Said(header["topic"], str(header.get("key", "")).encode(), value))

    def _write(self, data: bytes) -> None:
        try:
            if self._process.stdin is not None and data:
                self._process.stdin.write(data)
        except OSError as error:
            raise self._ended() from error

    def _read(self) -> tuple[dict[str, Any], bytes]:
        stream: BinaryIO | None = self._process.stdout  # type: ignore[assignment]
        head = stream.read(_LENGTH.size) if stream is not None else b""
        if stream is None or len(head) < _LENGTH.size:
            raise self._ended()
        line, _, value = stream.read(_LENGTH.unpack(head)[0]).partition(b"\n")
        return json.loads(line), value

    def _ended(self) -> FatalError:
        self._log.flush()
        return FatalError(f"the monitor ended:\n{self._log_path.read_text()[-2000:]}")


def _frame(header: Mapping[str, Any], value: bytes = b"") -> bytes:
    body = json.dumps(header).encode() + b"\n" + value
    return _LENGTH.pack(len(body)) + body
