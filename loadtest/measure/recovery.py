"""Finds how long a backlog delays the live traffic behind it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from loadtest.traffic.ledger import Ledger
from loadtest.traffic.traffic import Phase

WINDOW_NS: Final = 500_000_000
TOLERANCE: Final = 2.0


def back_to_normal(ledger: Ledger, phase: Phase, since: int) -> dict[str, Any]:
    """Return when latency was normal again, in seconds after `since` (ns, monotonic).

    The p99 of every half-second is compared with the median of those in the last third of `phase`.
    Latency is normal from the first half-second on that is at most twice that median, provided that
    the same holds for nine in ten of the later ones. Both figures are None if that never happens.
    """
    rows = slice(phase.first, phase.last)
    window = (ledger.due[rows] - phase.started) // WINDOW_NS
    latency = ledger.latency[rows]
    count = int(window.max()) + 1 if len(window) else 0
    worst = np.full(count, np.inf)
    for number in range(count):
        inside = latency[window == number]
        if len(inside) and bool((inside >= 0).all()):
            worst[number] = np.percentile(inside, 99)
    if count < 3:
        return {"back_to_normal_s": None, "normal_p99_ms": None}
    normal = float(np.median(worst[-(count // 3) :]))
    high = worst > TOLERANCE * normal
    share_after = np.cumsum(high[::-1])[::-1] / np.arange(count, 0, -1)
    back = np.flatnonzero(~high & (share_after <= 0.1))
    if len(back) == 0 or not np.isfinite(normal):
        return {"back_to_normal_s": None, "normal_p99_ms": None}
    at = phase.started + int(back[0]) * WINDOW_NS
    return {
        "back_to_normal_s": round(max(at - since, 0) / 1e9, 2),
        "normal_p99_ms": round(normal / 1e6, 3),
    }
