"""Growth, rates and quantiles from two scrapes of the same counters. Pure.

As in Prometheus, a counter that fell has restarted, and quantiles are interpolated within their
bucket (histogram_quantile, https://prometheus.io/docs/prometheus/latest/querying/functions/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dashboard.live.exposition import Exposition, Scrape

Buckets = list[tuple[float, float]]
"""Upper edges, each with the number of observations at or below it."""


def grown(before: Scrape, after: Scrape, name: str, **wanted: str) -> float | None:
    """Return the growth of counters over the processes in both scrapes; None without any."""
    found: float | None = None
    for process, now in after.processes.items():
        earlier = before.processes.get(process)
        if earlier is None or not (now.up and earlier.up):
            continue
        end = now.metrics.total(name, **wanted)
        if end is None:
            continue
        found = (found or 0.0) + _growth(earlier.metrics.total(name, **wanted) or 0.0, end)
    return found


def rate(before: Scrape, after: Scrape, name: str, **wanted: str) -> float | None:
    """Return the growth per second, None if unknown."""
    seconds = (after.at_ms - before.at_ms) / 1e3
    found = grown(before, after, name, **wanted)
    return None if found is None or seconds <= 0 else found / seconds


def buckets(before: Scrape, after: Scrape, name: str, **wanted: str) -> Buckets:
    """Return the observations of histograms between the scrapes, by ascending edge."""
    sums: dict[float, float] = {}
    for process, now in after.processes.items():
        earlier = before.processes.get(process)
        if earlier is None or not (now.up and earlier.up):
            continue
        old = _edges(earlier.metrics, name, **wanted)
        new = _edges(now.metrics, name, **wanted)
        restarted = new.get(math.inf, 0.0) < old.get(math.inf, 0.0)
        for edge, count in new.items():
            sums[edge] = sums.get(edge, 0.0) + count - (0.0 if restarted else old.get(edge, 0.0))
    return sorted(sums.items())


def quantile(found: Buckets, share: float) -> float | None:
    """Return a quantile of the observations, None without any.

    >>> quantile([(1.0, 0.0), (2.0, 50.0), (4.0, 100.0), (math.inf, 100.0)], 0.75)
    3.0
    """
    if not found or found[-1][1] <= 0:
        return None
    rank = share * found[-1][1]
    lower, below = 0.0, 0.0
    for edge, count in found:
        if count >= rank and count > below:
            if math.isinf(edge):
                return lower
            return lower + (edge - lower) * (rank - below) / (count - below)
        lower, below = (lower, count) if math.isinf(edge) else (edge, count)
    return lower


def stages(after: Scrape, name: str, service: str) -> Sequence[str]:
    """Return the stages that a service reports, in its order."""
    found = (labels["stage"] for labels, _ in after.select(name, service=service))
    return list(dict.fromkeys(found))


def _growth(before: float, after: float) -> float:
    return after - before if after >= before else after


def _edges(metrics: Exposition, name: str, **wanted: str) -> dict[float, float]:
    found: dict[float, float] = {}
    for labels, value in metrics.select(f"{name}_bucket", **wanted):
        edge = float(labels["le"])
        found[edge] = found.get(edge, 0.0) + value
    return found
