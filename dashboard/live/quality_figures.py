"""Figures of quality from the monitor's gauges: precision, recall, drift and labels. Pure."""

from __future__ import annotations

from typing import Any, Final

from dashboard.live.exposition import Scrape
from dashboard.live.history import rounded
from dashboard.live.service_figures import SCORER
from runtime.metric_series import ALL_SEGMENTS
from schemas.features import NO_DRIFT
from schemas.words import feature_words

FIELDS: Final = ("precision", "recall", "alert_rate", "coverage")
"""A point of the slow history: shares of the champion's last day."""
SMALL_SHIFT, MAJOR_SHIFT = 0.1, 0.25
"""Limits of the PSI; see `monitor.observe.drift`."""
SHOWN_DRIFT: Final = 8
DESCRIPTIONS: Final = {**feature_words.DESCRIPTIONS, "score": "the model's score itself"}


def champion(scrape: Scrape) -> str | None:
    """Return the champion that scorers report; None without one."""
    for labels, value in scrape.select("fraud_model_info", service=SCORER, role="CHAMPION"):
        if value:
            return labels["model_id"]
    return None


def serving(scrape: Scrape) -> list[dict[str, str]]:
    """Return the models that scorers have loaded, with their roles; several during a swap."""
    found = {
        (labels["role"], labels["model_id"])
        for labels, value in scrape.select("fraud_model_info", service=SCORER)
        if value
    }
    return [{"role": role, "model_id": model_id} for role, model_id in sorted(found)]


def quality(scrape: Scrape) -> dict[str, Any]:
    """Return the champion's figures of the last day; unknown ones are None."""
    model_id = champion(scrape)
    of = {"model_id": model_id or "", "segment": ALL_SEGMENTS}

    def gauge(name: str, **labels: str) -> float | None:
        return rounded(scrape.total(f"fraud_{name}", **labels)) if model_id else None

    return {
        "model_id": model_id,
        "precision": gauge("quality_precision", action="ALERT", **of),
        "block_precision": gauge("quality_precision", action="BLOCK", **of),
        "recall": gauge("quality_recall", action="ALERT", **of),
        "auc": gauge("quality_auc", **of),
        "alert_rate": gauge("quality_alert_rate", **of),
        "coverage": gauge("quality_coverage", **of),
        "blocked_value": gauge("quality_blocked_value", **of),
        "label_delay_s": rounded(scrape.total("fraud_label_delay_seconds", percentile="50")),
        "label_delay_p99_s": rounded(scrape.total("fraud_label_delay_seconds", percentile="99")),
        "labels_joined": scrape.total("fraud_join_records", outcome="labels"),
    }


def drift(scrape: Scrape) -> list[dict[str, Any]]:
    """Return the columns with the most drift, strongest first, without calendar and ages."""
    model_id = champion(scrape)
    found = [
        (value, labels["column"])
        for labels, value in scrape.select("fraud_drift_psi")
        if labels["model_id"] in ("", model_id or "") and labels["column"] not in NO_DRIFT
    ]
    return [
        {"column": column, "text": DESCRIPTIONS.get(column, ""), "psi": rounded(value)}
        for value, column in sorted(found, reverse=True)[:SHOWN_DRIFT]
    ]
