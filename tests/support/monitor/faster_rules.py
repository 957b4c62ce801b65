"""The rules that ship, with every duration divided: a test cannot wait for five minutes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from monitor.observability import RULES

TIMES: Final = 20
MIN_MS: Final = 1_000
MAX_WAIT_MS: Final = 3_600_000
_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def faster(text: str, most_wait_ms: int) -> str:
    """Return rules whose windows, waits and intervals are TIMES shorter, none below MIN_MS.

    `for` and offset are `most_wait_ms` at most.
    """

    def shorter(found: re.Match[str]) -> str:
        ms = max(int(found[2]) * _MS[found[3]] // TIMES, MIN_MS)
        if found[1] in ("for: ", "offset "):
            ms = min(ms, most_wait_ms)
        return f"{found[1]}{ms}ms"

    return re.sub(r"(\[|for: |interval: |offset )(\d+)([smhd])\b", shorter, text)


def faster_rules(folder: Path, most_wait_ms: int = MAX_WAIT_MS) -> list[Path]:
    """Write a copy of each file of rules into `folder` and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for path in RULES:
        copy = folder / path.name
        copy.write_text(faster(path.read_text(), most_wait_ms))
        written.append(copy)
    return written
