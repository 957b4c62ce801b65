"""Times the stages of the batch cycle: engine and Redis in one process, without Kafka.

The history is processed first, so that the state has its usual size.
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
from stream_features.operate.value_costs import value_costs

STAGES: Final = ("keys", "load", "unpack", "kernel", "pack", "commit")
CYCLES: Final = {1: 1_000, 8: 500, 32: 250, 128: 120, 512: 40}
"""The number of measured cycles by batch size."""
HISTORY_BATCH: Final = 2_048
TOPIC: Final = "cycle"
TTL_MS: Final = 3_600_000
"""The entities written expire after an hour."""


class Cycle:
    """Runs one batch after the other, under a key prefix of its own."""

    def __init__(self, connect: Callable[[bytes], FeatureStore]) -> None:
        prefix = b"cycle-%b:" % uuid.uuid4().hex.encode()
        self.store = connect(prefix)
        self._engine = LiveEngine(prefix=prefix)
        self._epoch = self.store.acquire(0).epoch
        self._cursor = NO_CURSOR

    def run(self, batch: TransactionColumns) -> list[float]:
        """Compute and commit a batch; return the seconds of each stage."""
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
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Return the median cycle of each batch size, and what values cost, see `value_costs`.

    Cycles are in ms, transactions/s, and µs per event by stage. Medians hide the other load of the machine. Blocks for about `columns.rows` / 20,000 seconds.
    `connect` is called with the key prefix.

    Raises:
        ConfigurationError: there are too few rows.
        StoreUnavailable: the store does not answer.
    """
    measured = sum(size * count for size, count in cycles.items())
    at = columns.rows - measured
    if at < 1:
        raise ConfigurationError(
            f"{columns.rows:,} transactions are too few: {measured:,} are measured, and at least "
            "one before them is needed as history"
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
        return report, value_costs(cycle.store)
    finally:
        cycle.store.close()
