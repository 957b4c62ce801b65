"""Which shared entities were given their expiry lately; `feature_store` then saves a PEXPIRE each.

A PEXPIRE costs as much as the append itself. Of a life of 45 days, the last extension may be a
64th (17 hours) old without harm. Only a shortcut: losing it costs time, never state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

SHARE: Final = 64
MAX_KEYS: Final = 200_000
"""About 20 MB; then it starts anew."""


class RecentExpiry:
    """Keys extended within a 64th of their life. Not thread-safe: misses are harmless."""

    def __init__(
        self, most_keys: int = MAX_KEYS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most_keys
        self._monotonic = monotonic
        self._keys: set[bytes] = set()
        self._since = monotonic()
        self._ttl_ms = 0

    def split(
        self, appends: Sequence[tuple[bytes, bytes]], ttl_ms: int
    ) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
        """Return the appends that are due for an extension, and those extended lately."""
        outlived = (self._monotonic() - self._since) * 1000 * SHARE > ttl_ms
        if outlived or ttl_ms != self._ttl_ms or len(self._keys) > self._most:
            self.forget()
            self._ttl_ms = ttl_ms
        known = self._keys
        due = [append for append in appends if append[0] not in known]
        if len(due) == len(appends):
            return due, []
        return due, [append for append in appends if append[0] in known]

    def extended(self, keys: Iterable[bytes]) -> None:
        """Remember keys whose life was extended just now."""
        self._keys.update(keys)

    def forget(self) -> None:
        """Start anew, as when the server may have lost what it was told."""
        self._keys = set()
        self._since = self._monotonic()
