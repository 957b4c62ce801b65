"""How far an archiver with `--once` has come, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from runtime.kafka.protocols import TopicPartition

IDLE_S: Final = 5.0
"""Nothing came for so long: other archivers have the rest, or it holds no rows."""


class Progress:
    """Knows when everything up to `ends` was read, and the time since the first assignment.

    Args:
        read: returns how far each assigned partition was read.
        ends: offsets to reach; without any, the end is never reached.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[TopicPartition, int]],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        self._read, self._ends = read, ends
        self._seen: Mapping[TopicPartition, int] = {}
        self._restart()

    @property
    def seconds(self) -> float:
        """Time since the first partitions were assigned."""
        return max(time.monotonic() - self._began, 1e-9)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads in that time."""
        return time.process_time() - self._cpu

    def finished(self) -> bool:
        """Return whether everything up to the ends was read."""
        read = self._read()
        if not self._seen and read:
            self._restart()
        if read != self._seen:
            self._seen, self._moved = read, time.monotonic()
        if not self._ends or not read:
            return False
        behind = [at for at, end in self._ends.items() if read.get(at, 0) < end]
        return not behind or time.monotonic() - self._moved > IDLE_S

    def _restart(self) -> None:
        self._began = self._moved = time.monotonic()
        self._cpu = time.process_time()
