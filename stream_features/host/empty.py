"""The Faust host around a handler that only counts, to measure the throughput of the host alone.

`python -m stream_features.host.empty RECORDS` reads that many records from `transactions`, which
must hold them, and prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.settings import Settings, load_settings
from schemas.topics import TRANSACTIONS
from stream_features.host.app import build_app


class CountingHandler:
    """See `transport.BatchHandler`; sets `done` after `wanted_records` records."""

    def __init__(self, topic: str, partitions: int, wanted_records: int) -> None:
        self.topics = frozenset({topic})
        self.generation = 0
        self.partitions = partitions
        self.done = asyncio.Event()
        self.records = self.batches = 0
        self.began = self.ended = 0.0
        self._wanted = wanted_records

    def wanted(self, partitions: set[Any]) -> set[Any]:
        """Return all partitions."""
        return partitions

    def poll_timeout(self) -> float:
        """Return half a second."""
        return 0.5

    async def handle(self, records: Mapping[Any, Sequence[Any]], ends: Mapping[Any, int]) -> bool:
        """Count the records."""
        arrived = sum(map(len, records.values()))
        if arrived:
            self.began = self.began or time.perf_counter()
            self.ended = time.perf_counter()
            self.batches += 1
            self.records += arrived
        if self.records >= self._wanted:
            self.done.set()
        return True

    async def start_at(self, partitions: set[Any]) -> Mapping[Any, int | None]:
        """Start all partitions at their beginning."""
        return dict.fromkeys(partitions)

    async def revoked(self) -> None:
        """Do nothing: no state is held."""


async def measure(settings: Settings, records: int) -> dict[str, float]:
    """Read `records` records; return the counts, seconds and records per second."""
    counter = CountingHandler(settings.topic(TRANSACTIONS), settings.partitions, records)
    with tempfile.TemporaryDirectory() as folder:
        app = build_app(settings, counter, Path(folder))
        await app.start()
        await counter.done.wait()
        await app.stop()
    seconds = counter.ended - counter.began
    return {
        "records": counter.records,
        "batches": counter.batches,
        "seconds": seconds,
        "throughput_per_s": counter.records / seconds,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(load_settings(), int(sys.argv[1])))))
