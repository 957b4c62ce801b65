"""The batch cycle alone, timed by stage: engine and Redis in one process, without Kafka.

Called by the command line. History goes through first, so that the state has its usual size.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

from runtime.feature_store.protocol import NO_CURSOR, Commit, FeatureStore, PartitionAdvance
from schemas.columns import TransactionColumns
from schemas.errors import ConfigurationError, Fenced
from stream_features.engine.live import LiveEngine
from stream_features.engine.state.blob import NEW_SHARED

STAGES: Final = ("keys", "load", "unpack", "kernel", "pack", "commit")
CYCLES: Final = {1: 1_000, 8: 500, 32: 250, 128: 120, 512: 40}
"""Cycles that are measured, by batch size."""
HISTORY_BATCH: Final = 2_048
TOPIC: Final = "cycle"
TTL_MS: Final = 3_600_000
"""What is written goes by itself after an hour."""


class Cycle:
    """Runs batches one after the other, under a key prefix that nothing else uses."""

    def __init__(self, connect: Callable[[bytes], FeatureStore]) -> None:
        prefix = b"cycle-%b:" % uuid.uuid4().hex.encode()
        self.store = connect(prefix)
        self._engine = LiveEngine(prefix=prefix)
        self._epoch = self.store.acquire(0).epoch
        self._cursor = NO_CURSOR

    def run(self, batch: TransactionColumns) -> list[float]:
        """Take a batch from arrays to committed state; return the seconds of each stage."""
        engine = self._engine
        marks = [time.perf_counter()]

        def mark() -> None:
            marks.append(time.perf_counter())

        opened = engine.open(batch)
        mark()
        values = self.store.load(opened.keys)
        mark()
        unpacked = engine.unpack(opened, values)
        mark()
        result, effects = engine.run(batch, unpacked)
        mark()
        engine.pack(batch, unpacked, effects, result)
        mark()
        following = max(self._cursor, 0) + batch.rows
        answer = self.store.commit(
            Commit(
                epochs={0: self._epoch},
                advances=[PartitionAdvance(TOPIC, 0, self._cursor, following)],
                cards=result.cards,
                appends=result.appends,
                folds=result.folds,
                outbox={0: result.vectors.tobytes()},
                header=NEW_SHARED,
                ttl_ms=TTL_MS,
            )
        )
        mark()
        if not answer.accepted:
            raise Fenced(answer.reason)
        self._cursor = following
        return [end - start for start, end in pairwise(marks)]


def measure_cycle(
    columns: TransactionColumns,
    connect: Callable[[bytes], FeatureStore],
    progress: Callable[[int], None] = lambda rows: None,
    cycles: Mapping[int, int] = CYCLES,
) -> list[dict[str, Any]]:
    """Return for each batch size the median cycle: ms, transactions/s, µs an event by stage.

    Medians, because what else the machine does must not show. Blocks for about the time of
    `columns.rows` / 20,000 s. `connect` gets the key prefix.

    Raises:
        ConfigurationError: fewer rows than are measured.
        StoreUnavailable: the store does not answer.
    """
    measured = sum(size * count for size, count in cycles.items())
    at = columns.rows - measured
    if at < 1:
        raise ConfigurationError(
            f"{columns.rows:,} transactions are too few: more than {measured:,} are measured, and "
            "what comes before them is the history"
        )
    cycle = Cycle(connect)
    try:
        for first in range(0, at, HISTORY_BATCH):
            last = min(first + HISTORY_BATCH, at)
            cycle.run(columns.cut(first, last))
            progress(last - first)
        report = []
        for size, count in cycles.items():
            times: list[list[float]] = []
            for _ in range(count):
                times.append(cycle.run(columns.cut(at, at + size)))
                at += size
            progress(size * count)
            whole = statistics.median(map(sum, times))
            stages = {
                name: round(statistics.median(column) / size * 1e6, 2)
                for name, column in zip(STAGES, zip(*times, strict=True), strict=True)
            }
            report.append(
                {
                    "batch": size,
                    "cycle_ms": round(whole * 1e3, 3),
                    "throughput_per_s": round(size / whole),
                    "stages_us": stages,
                }
            )
        return report
    finally:
        cycle.store.close()
