"""Shows the observations as Prometheus gauges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from monitor.judge.alerts import Alerts
from monitor.judge.figures import Figures
from monitor.observe.observations import Observations
from runtime.metrics import Metrics

PERCENTILES: Final = (50, 99)
ACTIONS: Final = {"BLOCK": (2,), "ALERT": (1, 2)}
"""Action codes: BLOCK alone, and every decision other than APPROVE."""


def show(
    metrics: Metrics,
    seen: Observations,
    figures: Figures,
    made: Mapping[str, Mapping[str, float]],
    alerts: Alerts,
    now_ms: int,
) -> None:
    """Set every gauge whose figure is known."""
    for name in ("precision", "recall", "auc", "alert_rate", "coverage", "blocked_value"):
        metrics.forget(f"quality_{name}")

    def put(name: str, value: float, **labels: str) -> None:
        if not math.isnan(value):
            metrics.set(name, value, **labels)

    for model_id in seen.quality.models:
        for segment, cell in figures.recent(model_id, now_ms):
            place = {"model_id": model_id, "segment": segment}
            for action, codes in ACTIONS.items():
                put("quality_precision", cell.precision(*codes), action=action, **place)
                put("quality_recall", cell.recall(*codes), action=action, **place)
            found = cell.figures()
            for name in ("auc", "alert_rate", "coverage", "blocked_value"):
                put(f"quality_{name}", found[name], **place)
    if seen.features is not None:
        for column, value in seen.features.psi().items():
            put("drift_psi", value, column=column, model_id="")
        for column, (now, _) in seen.features.missing().items():
            put("drift_missing", now, column=column)
    for model_id, window in seen.scores.items():
        for column, value in window.psi().items():
            put("drift_psi", value, column=column, model_id=model_id)
    for model_id, shift in seen.shifts.items():
        put("score_shifts", shift.shifts, model_id=model_id)
    for percent in PERCENTILES:
        known = {"percentile": str(percent)}
        put("label_delay_seconds", seen.label_delay.quantile(percent / 100) / 1e3, **known)
        for stage, delays in seen.stage_delay.items():
            delay = delays.quantile(percent / 100) / 1e6
            put("stage_delay_seconds", delay, stage=stage, **known)
    for delays in seen.stage_delay.values():
        delays.clear()
    for topic, newest in seen.freshness.newest_ms.items():
        put("topic_age_seconds", max(now_ms - newest, 0) / 1e3, topic=topic)
    for stage, behind in made["positions_behind"].items():
        put("stage_behind", behind, stage=stage)
    for outcome, count in seen.quality.counters().items():
        put("join_records", count, outcome=outcome)
    for rule in alerts.rules:
        put("alerts_raised", len(alerts.raised(rule.name)), rule=rule.name)
