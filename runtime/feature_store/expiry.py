"""Remembers which shared entities had their expiry extended recently, to save a PEXPIRE for each.

A PEXPIRE costs as much as the append itself, and with a time to live of 45 days it does no harm if
the last extension is a 64th of that (17 hours) old. This is only a shortcut: forgetting an entry
costs time, never state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

SHARE: Final = 64
"""An extension counts as recent for 1/SHARE of the time to live."""
MAX_KEYS: Final = 200_000
"""Keys remembered at most (about 20 MB); beyond that it starts over."""


class RecentExpiry:
    """The keys extended recently. Not synchronised between threads: a missed key is harmless."""

    def __init__(
        self, max_keys: int = MAX_KEYS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_keys = max_keys
        self._monotonic = monotonic
        self._keys: set[bytes] = set()
        self._since = monotonic()
        self._ttl_ms = 0

    def split(
        self, appends: Sequence[tuple[bytes, bytes]], ttl_ms: int
    ) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
        """Return the appends whose keys need an extension, and those whose keys do not."""
        outlived = (self._monotonic() - self._since) * 1000 * SHARE > ttl_ms
        if outlived or ttl_ms != self._ttl_ms or len(self._keys) > self._max_keys:
            self.forget()
            self._ttl_ms = ttl_ms
        known = self._keys
        due = [append for append in appends if append[0] not in known]
        if len(due) == len(appends):
            return due, []
        return due, [append for append in appends if append[0] in known]

    def extended(self, keys: Iterable[bytes]) -> None:
        """Remember keys whose expiry was just extended."""
        self._keys.update(keys)

    def forget(self) -> None:
        """Forget all keys, because the server may have lost its latest writes."""
        self._keys = set()
        self._since = self._monotonic()
