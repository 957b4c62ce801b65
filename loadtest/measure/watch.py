"""Figures of a run while it goes on."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from loadtest.traffic.ledger import ACTIONS
from loadtest.traffic.receiver import ReceiverReport
from loadtest.traffic.traffic import Traffic
from schemas.codec import avro
from schemas.errors import BadMessage

NEWEST: Final = 8


@dataclass(frozen=True, slots=True)
class Glance:
    """Totals so far, and the rates and latencies since the last look.

    Latencies are NaN if nothing was answered; `waiting` counts due transactions without an answer.
    """

    sent: int
    decided: int
    sent_per_s: float
    decided_per_s: float
    p50_ms: float
    p99_ms: float
    waiting: int
    mix: dict[str, float]
    """Share of each kind of decision so far."""


@dataclass(slots=True)
class RunWatch:
    """Follows a `Traffic`, which must have `note` as its `on_report`."""

    newest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=NEWEST))
    models: list[tuple[int, int]] = field(default_factory=list)
    """When (ns, monotonic) decisions of a model appeared, and the hash of its id.

    A model that is missing from one report and comes back is listed again.
    """
    blocks: int = 0
    """Number of blocks put into `newest` so far."""
    _present: set[int] = field(default_factory=set)
    _recent: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _sent: int = 0
    _decided: int = 0
    _looked: int = 0

    def note(self, report: ReceiverReport, latency: npt.NDArray[np.int64]) -> None:
        """Add a report of the receiver and its latencies (ns)."""
        self._recent.append(latency)
        found, rows = np.unique(report.answers.model, return_index=True)
        present = {
            model: int(report.answers.seen[row])
            for model, row in zip(found.tolist(), rows.tolist(), strict=True)
            if model
        }
        fresh = [(seen, model) for model, seen in present.items() if model not in self._present]
        self.models += sorted(fresh)
        self._present = set(present)
        for message in report.newest:
            try:
                _, record = avro.decode(message)
            except BadMessage:
                continue  # the ledger counts it as unknown
            if record["decision"] == "BLOCK":
                self.newest.appendleft(record)
                self.blocks += 1

    def restart(self) -> None:
        """Follow another `Traffic` from now on."""
        self._recent.clear()
        self._sent = self._decided = self._looked = 0

    def look(self, traffic: Traffic, now: int | None = None) -> Glance:
        """Return the figures since the last look; `now` is in ns, monotonic."""
        now = time.monotonic_ns() if now is None else now
        ledger = traffic.ledger
        waiting = ledger.waiting(now)
        decided = ledger.answered
        sent = decided + waiting
        seconds = max((now - self._looked) / 1e9, 1e-9) if self._looked else float("inf")
        latency = np.concatenate(self._recent) if self._recent else np.zeros(0, np.int64)
        p50, p99 = np.percentile(latency, (50, 99)) / 1e6 if len(latency) else (np.nan, np.nan)
        actions = max(int(ledger.actions.sum()), 1)
        glance = Glance(
            sent,
            decided,
            (sent - self._sent) / seconds,
            (decided - self._decided) / seconds,
            float(p50),
            float(p99),
            waiting,
            {name: float(n) / actions for name, n in zip(ACTIONS, ledger.actions, strict=True)},
        )
        self._recent.clear()
        self._sent, self._decided, self._looked = sent, decided, now
        return glance
