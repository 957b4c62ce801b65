"""Latency percentiles from an HdrHistogram."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

MAX_US: Final = 3_600_000_000
DIGITS: Final = 3
PERCENTILES: Final = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}


def histogram(latency_ns: npt.NDArray[np.int64]) -> Any:
    """Return a histogram (µs) of latencies (ns), leaving out the negative ones of open answers."""
    found = HdrHistogram(1, MAX_US, DIGITS)
    answered = latency_ns[latency_ns >= 0] // 1000
    values, counts = np.unique(np.clip(answered, 1, MAX_US), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found.record_value(value, count)
    return found


def percentiles_ms(latency_ns: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """Return p50_ms, p90_ms, p99_ms, p999_ms and max_ms; all None if nothing was answered."""
    found = histogram(latency_ns)
    if found.get_total_count() == 0:
        return dict.fromkeys((*PERCENTILES, "max_ms"))
    at = found.get_percentile_to_value_dict(list(PERCENTILES.values()))
    out: dict[str, float | None] = {name: at[share] / 1000 for name, share in PERCENTILES.items()}
    out["max_ms"] = float(latency_ns.max()) / 1e6
    return out
