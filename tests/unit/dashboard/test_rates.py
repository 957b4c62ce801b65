"""Rates and quantiles from two scrapes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dashboard.live import quality_figures, service_figures
from dashboard.live.exposition import Exposition, Reading, Scrape
from dashboard.live.history import History
from dashboard.live.rates import buckets, grown, quantile, rate
from runtime.metrics import LATENCY_S, Metrics


def scrape(at_ms: int, **processes: Metrics | None) -> Scrape:
    """Return what the processes say; None is down."""
    return Scrape(
        at_ms,
        {
            name: Reading(False, reason="gone")
            if metrics is None
            else Reading(True, True, "", Exposition.parse(metrics.exposition().decode()))
            for name, metrics in processes.items()
        },
    )


def test_a_rate_adds_the_processes_and_outlives_a_restart() -> None:
    one, two = Metrics("scorer"), Metrics("scorer")
    one.count("decisions", 100, decision="BLOCK", model_role="CHAMPION")
    two.count("decisions", 7, decision="BLOCK", model_role="CHAMPION")
    before = scrape(1_000, one=one, two=two)
    one.count("decisions", 10, decision="BLOCK", model_role="CHAMPION")
    two = Metrics("scorer")
    two.count("decisions", 4, decision="BLOCK", model_role="CANARY")
    after = scrape(3_000, one=one, two=two)
    assert grown(before, after, "fraud_decisions_total", decision="BLOCK") == 14
    assert rate(before, after, "fraud_decisions_total", decision="BLOCK") == 7
    assert rate(before, after, "fraud_archived_total") is None


def test_what_was_down_counts_nothing() -> None:
    metrics = Metrics("scorer")
    metrics.count("decisions", 5, decision="APPROVE", model_role="NONE")
    assert grown(scrape(0, one=None), scrape(1, one=metrics), "fraud_decisions_total") is None
    assert grown(scrape(0, one=metrics), scrape(1, one=None), "fraud_decisions_total") is None


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_quantiles_lie_in_the_bucket_of_the_exact_ones(share: float) -> None:
    seen = np.random.default_rng(3).lognormal(-5, 0.8, 2_000)
    metrics = Metrics("scorer")
    metrics.observe("latency_seconds", 20.0)  # before what is measured
    before = scrape(0, one=metrics)
    for value in seen:
        metrics.observe("latency_seconds", value)
    found = quantile(buckets(before, scrape(1, one=metrics), "fraud_latency_seconds"), share)
    exact = float(np.quantile(seen, share))
    edges = [0.0, *LATENCY_S]
    place = int(np.searchsorted(edges, exact))
    assert found is not None
    assert edges[place - 1] <= found <= edges[place]


def test_no_observation_has_no_quantile_and_one_beyond_the_buckets_their_last_edge() -> None:
    metrics = Metrics("scorer")
    metrics.histogram("latency_seconds")
    before = scrape(0, one=metrics)
    assert quantile(buckets(before, before, "fraud_latency_seconds"), 0.5) is None
    metrics.observe("latency_seconds", 1e6)
    assert quantile(buckets(before, scrape(1, one=metrics), "fraud_latency_seconds"), 0.5) == 30.0


def test_a_point_has_each_figure_of_its_service() -> None:
    stream, scorer = Metrics("stream_features"), Metrics("scorer")
    stream.count("records", 1, topic="p.transactions")
    scorer.count("decisions", 0, decision="APPROVE", model_role="NONE")
    before = scrape(0, stream=stream, scorer=scorer)
    stream.count("records", 50, topic="p.transactions")
    stream.count("records", 99, topic="p.labels")
    stream.set("lag", 3, topic="p.transactions", partition="0")
    stream.set("lag", 4, topic="p.transactions", partition="1")
    scorer.count("decisions", 40, decision="APPROVE", model_role="CHAMPION")
    scorer.count("decisions", 10, decision="BLOCK", model_role="CHAMPION")
    scorer.observe("latency_seconds", 0.004)
    scorer.observe("stage_seconds", 0.002, stage="decide")
    scorer.observe("stage_seconds", 0.003, stage="batch")
    after = scrape(5_000, stream=stream, scorer=scorer)
    point = service_figures.point(before, after, "p.transactions")
    assert (point["arrived"], point["approve"], point["block"]) == (10, 8, 2)
    assert point["review"] == 0
    assert point["lag_stream"] == 7
    assert 3 <= (point["p50"] or 0) <= 5
    assert point["vector_p50"] is None
    assert set(point) == set(service_figures.FIELDS)
    rows = service_figures.processes(before, after, {})
    assert [(row["name"], row["service"], row["lag"]) for row in rows] == [
        ("stream", "stream_features", 7), ("scorer", "scorer", None),
    ]  # fmt: skip
    assert [each["stage"] for each in service_figures.stage_times(before, after)] == ["decide"]
    assert service_figures.totals(after)["decided"] == 50


def test_a_process_that_is_down_keeps_its_name_and_service() -> None:
    down = scrape(1, one=None)
    (row,) = service_figures.processes(down, down, {"one": "scorer"})
    assert (row["up"], row["service"], row["reason"], row["rate"]) == (
        False,
        "scorer",
        "gone",
        None,
    )


def test_quality_is_the_champions() -> None:
    scorer, monitor = Metrics("scorer"), Metrics("monitor")
    scorer.set("model_info", 1, model_id="new", role="CHAMPION")
    scorer.set("model_info", 1, model_id="tried", role="CANARY")
    for model_id, precision in (("new", 0.9), ("old", 0.1)):
        place = {"model_id": model_id, "segment": "ALL"}
        monitor.set("quality_precision", precision, action="ALERT", **place)
        monitor.set("quality_precision", 0.5, action="ALERT", model_id=model_id, segment="ECOM")
    monitor.set("drift_psi", 0.4, column="amount", model_id="")
    monitor.set("drift_psi", 0.9, column="hour_of_day", model_id="")
    monitor.set("drift_psi", 0.3, column="score", model_id="new")
    monitor.set("drift_psi", 0.8, column="score", model_id="old")
    found = scrape(0, scorer=scorer, monitor=monitor)
    assert quality_figures.champion(found) == "new"
    quality = quality_figures.quality(found)
    assert (quality["precision"], quality["recall"]) == (0.9, None)
    drift = [(each["column"], each["psi"]) for each in quality_figures.drift(found)]
    assert drift == [("amount", 0.4), ("score", 0.3)]
    assert quality_figures.quality(scrape(0, monitor=monitor))["precision"] is None


def test_history_keeps_the_newest_points_in_order() -> None:
    history = History(["a", "b"], 4)
    for at in range(1, 8):
        history.add(at, {"a": at / 3})
    found = history.since(5)
    assert found["at"] == [6, 7]
    assert found["a"] == [2.0, pytest.approx(7 / 3, abs=1e-4)]
    assert found["b"] == [None, None]
    assert history.since()["at"] == [4, 5, 6, 7]
    assert not any(math.isnan(value) for value in found["a"])


def test_a_histogram_outlives_a_restart() -> None:
    metrics = Metrics("scorer")
    for _ in range(100):
        metrics.observe("latency_seconds", 0.004)
    before = scrape(0, one=metrics)
    metrics = Metrics("scorer")
    for _ in range(10):
        metrics.observe("latency_seconds", 2.0)
    found = buckets(before, scrape(1, one=metrics), "fraud_latency_seconds")
    assert found[-1][1] == 10
    assert (quantile(found, 0.5) or 0.0) > 1.0


def test_a_process_is_as_quick_as_what_it_is_for() -> None:
    stream, scorer = Metrics("stream_features"), Metrics("scorer")
    stream.count("records", 1, topic="transactions")
    for metrics in (stream, scorer):
        metrics.count("decisions", 0, decision="APPROVE", model_role="NONE")
    scorer.count("records", 1, topic="features")
    before = scrape(0, stream=stream, scorer=scorer)
    stream.count("records", 30, topic="transactions")
    scorer.count("records", 20, topic="features")
    scorer.count("decisions", 10, decision="APPROVE", model_role="CHAMPION")
    scorer.set("lag", 5, topic="features", partition="0")
    stream.set("lag", 8, topic="transactions", partition="0")
    after = scrape(1_000, stream=stream, scorer=scorer)
    rows = service_figures.processes(before, after, {})
    assert {row["name"]: row["rate"] for row in rows} == {"stream": 30.0, "scorer": 10.0}
    point = service_figures.point(before, after, "transactions")
    assert (point["lag_stream"], point["lag_scorer"]) == (8, 5)


def test_each_figure_of_quality_is_its_own() -> None:
    scorer, monitor = Metrics("scorer"), Metrics("monitor")
    scorer.set("model_info", 1, model_id="m", role="CHAMPION")
    of = {"model_id": "m", "segment": "ALL"}
    monitor.set("quality_precision", 0.9, action="ALERT", **of)
    monitor.set("quality_precision", 0.8, action="BLOCK", **of)
    monitor.set("quality_recall", 0.7, action="ALERT", **of)
    monitor.set("quality_auc", 0.6, **of)
    monitor.set("quality_alert_rate", 0.5, **of)
    monitor.set("quality_coverage", 0.4, **of)
    monitor.set("quality_blocked_value", 3_000.0, **of)
    monitor.set("label_delay_seconds", 20.0, percentile="50")
    monitor.set("label_delay_seconds", 100.0, percentile="99")
    assert quality_figures.quality(scrape(0, scorer=scorer, monitor=monitor)) == {
        "model_id": "m", "precision": 0.9, "block_precision": 0.8, "recall": 0.7, "auc": 0.6,
        "alert_rate": 0.5, "coverage": 0.4, "blocked_value": 3_000.0, "label_delay_s": 20.0,
        "label_delay_p99_s": 100.0, "labels_joined": None,
    }  # fmt: skip


def test_the_eight_columns_that_drifted_most_are_shown() -> None:
    monitor = Metrics("monitor")
    for place in range(1, 12):
        monitor.set("drift_psi", place / 10, column=f"column-{place:02}", model_id="")
    found = [each["psi"] for each in quality_figures.drift(scrape(0, monitor=monitor))]
    assert found == [1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
