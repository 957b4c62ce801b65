"""Computes the figures that rules watch and Prometheus shows, from the observations. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitor.observe.cells import Cell
from monitor.observe.drift import Window
from monitor.observe.quality import SEGMENTS
from runtime.metric_series import ALL_SEGMENTS
from schemas.features import HOUR, NO_DRIFT
from schemas.topics import DECISIONS, FEATURES, LABELS

if TYPE_CHECKING:  # the dashboard takes names from here, and river is slow to import
    from monitor.observe.observations import Observations

RECENT_HOURS = 24
MIN_LABELS_JOINED = 20
MISSED_HOURS = 3
DAY_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureMinimums:
    """The data that figures need; with less they are NaN.

    Args:
        labels: labelled REVIEW and BLOCK decisions for the precision. They are counted from the
            newest hour back, over a day at most.
        rows: rows of a drift window.
        covered: share of a drift window's hours that have rows. Part of a day always differs from
            a whole one.
    """

    labels: int = 50
    rows: int = 5_000
    covered: float = 0.8


class Figures:
    """Computes the figures of each evaluation; remembers an hour of label counts."""

    def __init__(self, seen: Observations, minimums: FigureMinimums) -> None:
        self._seen, self._minimums = seen, minimums
        self._labels: deque[tuple[int, int, int]] = deque()

    def make(
        self, now_ms: int, models: list[str], transactions: Mapping[int, int] | None = None
    ) -> dict[str, dict[str, float]]:
        """Return figure → subject → value for the serving `models`.

        Args:
            transactions: end offsets of the partitions of `transactions`, if known.
        """
        seen = self._seen
        return {
            "alert_precision": {name: self._precision(name, now_ms) for name in models},
            "feature_psi": self._feature_psi(),
            "missed_frauds": self._missed_frauds(now_ms),
            "score_psi": dict(self._score_psi(models)),
            "score_shifts": {
                name: float(shift.shifts > 0 and now_ms - shift.last_ms < HOUR)
                for name, shift in seen.shifts.items()
            },
            "missing_growth": self._missing_growth(),
            "undecided_seconds": {"scorer": self._undecided_s()},
            "positions_behind": self.behind(transactions),
            "label_silence_hours": self._label_silence(now_ms),
            "unmatched_share": {"labels": self._unmatched(now_ms)},
        }

    def precision_hours(self, model_id: str, now_ms: int) -> range:
        """Return the newest hours with enough labelled alerts, or an empty range."""
        kept = self._seen.quality.hours()
        judged = self._seen.quality.by_hour(model_id)[:, 1:, 1:3].sum(axis=(1, 2))
        last = now_ms // HOUR - kept.start + 1
        total = 0
        for place in range(last - 1, max(last - RECENT_HOURS, 0) - 1, -1):
            total += int(judged[place])
            if total >= self._minimums.labels:
                return range(kept.start + place, kept.start + last)
        return range(0)

    def recent(self, model_id: str, now_ms: int) -> Iterator[tuple[str, Cell]]:
        """Yield the cell of a model's last day for all segments and for each with decisions."""
        hours = range(now_ms // HOUR - RECENT_HOURS + 1, now_ms // HOUR + 1)
        for segment in (None, *SEGMENTS):
            cell = self._seen.quality.total(model_id, hours, now_ms, segment)
            if cell.decided:
                yield segment or ALL_SEGMENTS, cell

    def behind(self, transactions: Mapping[int, int] | None) -> dict[str, float]:
        """Return how many transactions each stage is behind, where known."""
        freshness = self._seen.freshness
        found = {"scorer": float(freshness.behind(DECISIONS.name, FEATURES.name))}
        if transactions is not None:
            numbers = np.array(list(transactions), np.int64)
            freshness.reached("transactions", numbers, np.array(list(transactions.values())) - 1)
            found["stream_features"] = float(freshness.behind(FEATURES.name, "transactions"))
        return found

    def _precision(self, model_id: str, now_ms: int) -> float:
        hours = self.precision_hours(model_id, now_ms)
        if not hours:
            return math.nan
        return self._seen.quality.total(model_id, hours, now_ms).precision(1, 2)

    def _missed_frauds(self, now_ms: int) -> dict[str, float]:
        """Return by how many standard deviations approved frauds exceed their usual number.

        Frauds are counted in the hour in which their label became known. The last MISSED_HOURS are
        compared with the mean of the days before, as a Poisson count; NaN until two days are known.
        """
        kept = self._seen.quality.hours()
        missed = self._seen.quality.missed()
        end = min(now_ms // HOUR - kept.start + 1, len(missed))
        recent, before = missed[max(end - MISSED_HOURS, 0) : end], missed[: max(end - DAY_HOURS, 0)]
        first = np.flatnonzero(before)
        usual_hours = len(before) - int(first[0]) if len(first) else 0
        if usual_hours < DAY_HOURS:
            return {"labels": math.nan}
        usual = float(before.sum()) / usual_hours * MISSED_HOURS
        return {"labels": (float(recent.sum()) - usual) / math.sqrt(max(usual, 1.0))}

    def _judges(self, window: Window | None) -> bool:
        return (
            window is not None
            and window.rows >= self._minimums.rows
            and window.covered() >= self._minimums.covered
        )

    def _feature_psi(self) -> dict[str, float]:
        window = self._seen.features
        if window is None:
            return {}
        known = self._judges(window)
        return {
            name: value if known else math.nan
            for name, value in window.psi().items()
            if name not in NO_DRIFT
        }

    def _score_psi(self, models: list[str]) -> Iterator[tuple[str, float]]:
        for model_id in models:
            window = self._seen.scores.get(model_id)
            if window is not None:
                known = self._judges(window)
                for name, value in window.psi().items():
                    yield f"{model_id} {name}", value if known else math.nan

    def _missing_growth(self) -> dict[str, float]:
        window = self._seen.features
        if window is None:
            return {}
        known = window.rows >= self._minimums.rows
        return {
            name: now - before if known else math.nan
            for name, (now, before) in window.missing().items()
        }

    def _undecided_s(self) -> float:
        freshness = self._seen.freshness
        if not freshness.behind(DECISIONS.name, FEATURES.name):
            return 0.0
        newest = freshness.newest_ms
        first = newest.get(DECISIONS.name, newest[FEATURES.name])
        return max(newest[FEATURES.name] - first, 0) / 1e3

    def _label_silence(self, now_ms: int) -> dict[str, float]:
        newest = self._seen.freshness.newest_ms.get(LABELS.name)
        return {} if newest is None else {"labels": max(now_ms - newest, 0) / HOUR}

    def _unmatched(self, now_ms: int) -> float:
        counted = self._seen.quality.counters()
        self._labels.append((now_ms, counted["labels"], counted["unmatched"]))
        while now_ms - self._labels[0][0] > HOUR:
            self._labels.popleft()
        _, labels, unmatched = self._labels[0]
        came = counted["labels"] - labels
        return (counted["unmatched"] - unmatched) / came if came >= MIN_LABELS_JOINED else 0.0
