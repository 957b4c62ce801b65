"""Online learning over replayed history: what it would have learned and published, day by day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from schemas.features import DAY, HOUR
from scorer.model.adjustment import Adjustment
from scorer.model.bundle import Model
from trainer.dataset.dataset import Dataset
from trainer.online.learning import Online, OnlineOptions

STEP: Final = HOUR


def replay(
    data: Dataset,
    model: Model,
    options: OnlineOptions,
    *,
    since_ms: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Feed transactions by event time and labels by label time; return the report.

    Time goes by the hour: transactions of the hour, the labels that became known in it, then what
    matured; each day the two are compared, and published if the rule and the change say so. It ends
    with the last transaction. `since_ms` leaves out the rows that the model was trained on;
    `progress` gets the number of transactions taken in.
    """
    online = Online(options)
    online.follow(model)
    first = int(np.searchsorted(data.time, data.time[0] if since_ms is None else since_ms))
    keys = (np.arange(len(data)) + 1).astype(np.uint64) * np.uint64(0xD1342543DE82EF95)
    frauds = first + np.flatnonzero(data.fraud[first:])
    frauds = frauds[np.argsort(data.label_time[frauds], kind="stable")]
    label_time = data.label_time[frauds]
    days: list[dict[str, Any]] = []
    published: Adjustment | None = None
    count = used = row = handed_out = 0
    end = int(data.time[-1]) if first < len(data) else 0
    start = int(data.time[first]) // STEP * STEP if first < len(data) else 1
    row = first
    for now in range(start + STEP, end + STEP + 1, STEP):
        until = int(np.searchsorted(data.time, now))
        online.transactions(keys[row:until], data.vectors[row:until], data.time[row:until])
        if progress is not None:
            progress(until - row)
        known = int(np.searchsorted(label_time, now))
        online.labels(keys[frauds[handed_out:known]].tolist(), [True] * (known - handed_out))
        row, handed_out = until, known
        if now % DAY and now <= end:
            continue
        comparison = online.compare()
        candidate = online.learner.adjustment(online.base, count + 1, now)
        new = online.counts.frauds > 0 and online.differs(candidate, published)
        if new:
            published, count = candidate, count + 1
        used += online.rule.better
        days.append(
            {
                "time": now,
                **(comparison.document() if comparison else {}),
                "better": online.rule.better,
                "published": new,
            }
        )
    counts = online.counts
    return {
        "base": online.base,
        "transactions": counts.transactions,
        "learned_frauds": counts.frauds,
        "learned_genuine": counts.genuine,
        "published": count,
        "days": days,
        "days_used": used,
        "adjustment": None if published is None else published.document(),
    }
