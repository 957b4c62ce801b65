"""Times what one stored value costs: the check before it is unpacked, and unpacking with the check."""

from __future__ import annotations

import statistics
import time
from itertools import islice
from typing import Any, Final

import numpy as np

from runtime.feature_store.protocol import FeatureStore
from schemas.compiled import compiled
from schemas.features import DAY
from schemas.hash_table import new_table
from schemas.keys import KEY_LETTER
from stream_features.engine.state.batch import open_slots, unpack_entities
from stream_features.engine.state.blob_check import SOUND, find_fault
from stream_features.engine.state.entities import grown, larger_pool, new_tables
from stream_features.engine.state.packing import SLACK

VALUES: Final = 256
"""Values that are measured of each kind: a usual batch, which stays in the processor's caches."""
ROUNDS: Final = 200
LABEL_DELAY: Final = 7 * DAY


def value_costs(store: FeatureStore) -> dict[str, dict[str, float]]:
    """Return for each kind the number and mean size of the values measured, and ns per value.

    `check_ns` is the check alone; `unpack_ns` is unpacking, of which the check is a part. They are
    medians over all rounds, taken in turn. Blocks.
    """
    report: dict[str, dict[str, float]] = {}
    for kind in KEY_LETTER:
        keys = [key for piece in islice(store.entities(kind), 50) for key, _ in piece][:VALUES]
        values = [value for value in store.load(keys) if value is not None]
        if values:
            report[kind] = _costs(kind, values)
    return report


def _costs(kind: str, values: list[bytes]) -> dict[str, float]:
    count = len(values)
    table = getattr(new_tables(), kind)
    bounds = np.concatenate([[0], np.cumsum([len(value) for value in values])])
    data = np.frombuffer(b"".join(values) + bytes(SLACK), np.uint8)
    ids, slots = np.arange(1, count + 1, dtype=np.uint64), np.zeros(count, np.int64)
    own: Any = (np.zeros(count, np.int64), np.zeros(count, np.uint8))
    table = grown(table, slots=count)
    checks: list[float] = []
    unpackings: list[float] = []
    while len(unpackings) < ROUNDS:
        open_slots(table, new_table(count), ids, slots, ids.copy())
        begun = time.perf_counter_ns()
        _faults(table, data, bounds)
        checked = time.perf_counter_ns()
        done = unpack_entities(table, data, bounds, *own, 0, LABEL_DELAY)
        unpacked = time.perf_counter_ns()
        if done < count:
            table = larger_pool(grown(table))
            continue
        checks.append((checked - begun) / count)
        unpackings.append((unpacked - checked) / count)
    return {
        "values": count,
        "mean_bytes": round(len(data) / count),
        "check_ns": round(statistics.median(checks)),
        "unpack_ns": round(statistics.median(unpackings)),
    }


@compiled
def _faults(table, data, bounds):  # type: ignore[no-untyped-def]
    """Return how many of the values cannot be unpacked."""
    found = 0
    for index in range(len(bounds) - 1):
        found += 1 if find_fault(table, data, bounds[index], bounds[index + 1]) != SOUND else 0
    return found
