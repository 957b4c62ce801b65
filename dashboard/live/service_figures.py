"""Figures of operation from two scrapes: processes, throughput, latency and lag. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dashboard.live.exposition import Reading, Scrape
from dashboard.live.history import rounded
from dashboard.live.rates import buckets, quantile, rate, stages

STREAM, SCORER, MONITOR = "stream_features", "scorer", "monitor"
FIELDS: Final = (
    "arrived", "approve", "review", "block", "p50", "p99", "vector_p50", "vector_p99",
    "lag_stream", "lag_scorer",
)  # fmt: skip
"""A point of the fast history: transactions per second, latencies in ms, waiting records."""
LATENCY: Final = "fraud_latency_seconds"
STAGE: Final = "fraud_stage_seconds"
WHOLE_BATCH: Final = "batch"
"""A stage that contains the others."""


def point(before: Scrape, after: Scrape, transactions: str) -> dict[str, float | None]:
    """Return the present values of `FIELDS`; `transactions` is the topic's name on the broker."""
    decided = {
        name.lower(): rate(before, after, "fraud_decisions_total", service=SCORER, decision=name)
        for name in ("APPROVE", "REVIEW", "BLOCK")
    }
    if any(value is not None for value in decided.values()):
        decided = {name: value or 0.0 for name, value in decided.items()}
    return {
        "arrived": rate(before, after, "fraud_records_total", service=STREAM, topic=transactions),
        **decided,
        **_latency(before, after, "", SCORER),
        **_latency(before, after, "vector_", STREAM),
        "lag_stream": after.total("fraud_lag", service=STREAM),
        "lag_scorer": after.total("fraud_lag", service=SCORER),
    }


def processes(before: Scrape, after: Scrape, known: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for each watched process; `known` gives services seen earlier, by process."""
    return [
        _process(name, reading, before, after, reading.metrics.service or known.get(name, ""))
        for name, reading in after.processes.items()
    ]


def stage_times(before: Scrape, after: Scrape) -> list[dict[str, Any]]:
    """Return the time of each stage of a batch in ms, in the order of processing."""
    found = []
    for service in (STREAM, SCORER):
        for stage in stages(after, f"{STAGE}_count", service):
            if stage == WHOLE_BATCH:
                continue
            seen = buckets(before, after, STAGE, service=service, stage=stage)
            p50, p99 = (_ms(quantile(seen, share)) for share in (0.5, 0.99))
            if p99 is not None:
                found.append({"service": service, "stage": stage, "p50": p50, "p99": p99})
    return found


def totals(after: Scrape) -> dict[str, float]:
    """Return the counts since the processes started."""
    names = {
        "decided": "fraud_decisions_total",
        "dead_letters": "fraud_dead_letters_total",
        "degraded": "fraud_degraded_total",
        "labels": "fraud_labels_applied_total",
    }
    found = {name: after.total(metric) or 0.0 for name, metric in names.items()}
    for decision in ("APPROVE", "REVIEW", "BLOCK"):
        found[decision.lower()] = after.total("fraud_decisions_total", decision=decision) or 0.0
    return found


def _process(
    name: str, reading: Reading, before: Scrape, after: Scrape, service: str
) -> dict[str, Any]:
    mine = [
        Scrape(each.at_ms, {name: each.processes[name]} if name in each.processes else {})
        for each in (before, after)
    ]
    p99 = quantile(buckets(mine[0], mine[1], LATENCY), 0.99)
    counted = "fraud_decisions_total" if service == SCORER else "fraud_records_total"
    return {
        "name": name,
        "service": service,
        "up": reading.up,
        "ready": reading.ready,
        "reason": reading.reason,
        "lag": reading.metrics.total("fraud_lag") if reading.up else None,
        "p99": _ms(p99),
        "rate": rounded(rate(mine[0], mine[1], counted)),
    }


def _latency(before: Scrape, after: Scrape, prefix: str, service: str) -> dict[str, float | None]:
    seen = buckets(before, after, LATENCY, service=service)
    return {
        f"{prefix}{name}": _ms(quantile(seen, share))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else rounded(seconds * 1e3)
