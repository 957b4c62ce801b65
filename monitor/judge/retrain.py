"""Decides when to request a new model. Pure; `service` writes the records to `retrain-requests`.

One cause can show in several ways (inputs drift, then precision falls). A request, whatever its
reason, is therefore followed by a quiet period, which leaves time for training and labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict

from monitor.judge.alerts import Alerts
from monitor.judge.rules import (
    FEATURE_DRIFT,
    LABELS_STOPPED,
    LOW_PRECISION,
    MISSED_FRAUDS,
    SCORE_DRIFT,
)
from schemas.features import HOUR

PRECISION: Final = "precision"
DRIFT: Final = "drift"
MISSED: Final = "missed_frauds"


class RetrainRequest(TypedDict):
    """A record of the topic `retrain-requests`."""

    reason: str
    detail: dict[str, str]
    occurred_at: int


class Retrain:
    """Requests a new model while a rule that calls for one is raised.

    It requests none while labels have stopped: a model would learn that fraud has ended.

    Args:
        quiet_ms: time after a request during which no other is made.
        min_drifted: number of drifted features that calls for a model; one drifted score suffices.
    """

    def __init__(self, *, quiet_ms: int = 6 * HOUR, min_drifted: int = 3) -> None:
        self._quiet_ms = quiet_ms
        self._min_drifted = min_drifted
        self._last: int | None = None

    def restore(self, written: Sequence[RetrainRequest]) -> None:
        """Restore the quiet period from the requests of an earlier process."""
        own = [
            each["occurred_at"] for each in written if each["reason"] in (PRECISION, MISSED, DRIFT)
        ]
        self._last = max(own, default=None)

    def evaluate(self, alerts: Alerts, now_ms: int, champion: str | None) -> RetrainRequest | None:
        """Return the request to write now, or None."""
        if champion is None or (self._last is not None and now_ms - self._last < self._quiet_ms):
            return None
        if alerts.raised(LABELS_STOPPED):
            return None
        low = alerts.raised(LOW_PRECISION).get(champion)
        missed = alerts.raised(MISSED_FRAUDS)
        features = alerts.raised(FEATURE_DRIFT)
        scores = {
            name: value
            for name, value in alerts.raised(SCORE_DRIFT).items()
            if name.startswith(f"{champion} ")
        }
        if low is not None:
            reason, figures = PRECISION, {"alert_precision": low}
        elif missed:
            reason, figures = MISSED, missed
        elif len(features) >= self._min_drifted or scores:
            reason, figures = DRIFT, {**features, **scores}
        else:
            return None
        self._last = now_ms
        detail = {name: f"{value:.6g}" for name, value in figures.items()}
        return {
            "reason": reason,
            "detail": {"champion": champion, **detail},
            "occurred_at": now_ms,
        }
