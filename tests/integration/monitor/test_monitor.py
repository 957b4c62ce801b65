"""The monitor on real Kafka: alerts, a retrain request, a rollback; as a process, after a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devstack.stack import Stack
from monitor.loop import MonitorLoop
from monitor.process import build
from monitor.report.evidently import from_kafka
from monitor.service import FOLLOWED
from runtime.clock import ManualClock
from runtime.kafka.reader import KafkaReader, end_offsets
from runtime.metrics import Metrics
from schemas.errors import ConfigurationError
from schemas.features import HOUR
from schemas.topics import (
    ALERTS,
    DECISIONS,
    FEATURES,
    LABELS,
    MODELS,
    RETRAIN_REQUESTS,
    TRANSACTIONS,
)
from tests.support.monitor.traffic import (
    bundle,
    decision_message,
    label_message,
    model_event,
    scores,
    vector_message,
    vectors,
)
from tests.support.pipeline import Pipeline
from tests.support.waiting import until
from tests.unit.monitor.test_service import RefusingRegistry

MINUTE = 60_000


class Traffic:
    """Sends decisions with their vectors and labels, and models."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        self.pipeline = Pipeline(stack, folder / "logs", monitor_labels="20")
        self.number = 0
        self.draw = np.random.default_rng(1)

    def model(self, name: str, stage: Any, at: int, share: float | None = None) -> None:
        directory = self.folder / name
        event = model_event(directory, bundle(directory, name), stage, at, share)
        self.pipeline.send(MODELS, name, event)
        self.pipeline.producer.flush(30.0)

    def decide(self, found: np.ndarray, model_id: str, at: int, right: float | None) -> None:
        flagged = 0
        rows = vectors(self.draw, len(found))
        for score, row in zip(found.tolist(), rows, strict=True):
            number, self.number = self.number, self.number + 1
            card = f"c{number}"
            self.pipeline.send(FEATURES, card, vector_message(number, row, at))
            self.pipeline.send(DECISIONS, card, decision_message(number, score, at, model_id))
            if right is not None and score > 0.75:
                flagged += 1
                fraud = flagged % 10 < 10 * right
                self.pipeline.send(LABELS, card, label_message(number, fraud, at))
        self.pipeline.producer.flush(30.0)


@pytest.fixture
def traffic(stack: Stack, tmp_path: Path) -> Iterator[Traffic]:
    made = Traffic(stack, tmp_path)
    with made.pipeline:
        yield made


def test_alerts_a_retrain_request_and_a_rollback(traffic: Traffic) -> None:
    pipeline = traffic.pipeline
    settings = pipeline.settings.model_copy(update={"monitor_labels": 20})
    now = time.time_ns() // 1_000_000
    clock, registry = ManualClock(now), RefusingRegistry()
    monitor = build(settings, clock=clock, metrics=Metrics("monitor"), registry=registry)
    readers = {
        spec.name: KafkaReader(settings, settings.topic(spec)) for spec in FOLLOWED
    }  # fmt: skip
    transactions = settings.topic(TRANSACTIONS)
    loop = MonitorLoop(
        monitor, readers, pipeline.producer, settings=settings,
        ends=lambda: end_offsets(settings, transactions),
    )  # fmt: skip
    try:
        traffic.model("champion", "CHAMPION", now)
        traffic.model("canary", "CANARY", now, 0.1)
        until(lambda: bool(loop.step() >= 0 and monitor.models.canaries), "the models")
        healthy = scores(traffic.draw, 600)
        healthy[:60] = 0.99
        traffic.decide(healthy, "champion", now, right=0.6)
        traffic.decide(np.full(60, 0.99), "canary", now, right=None)

        def all_came() -> bool:
            loop.step(0.05)
            cells = [row.cell.decided for row in monitor.seen.quality.rows(now)]
            return sum(cells) == 660 and monitor.seen.label_delay.count >= 60

        until(all_came, "every decision and label")
        for _ in range(4):
            clock.advance(MINUTE)
            loop.step(0.0)
    finally:
        for reader in readers.values():
            reader.close()
    pipeline.producer.flush(30.0)
    assert registry.changes == [("canary", "ROLLED_BACK", "monitor")]
    alerts = pipeline.wait_for(ALERTS, 2)
    assert {alert["rule"] for alert in alerts} == {"model_rolled_back", "low_precision"}
    (request,) = pipeline.wait_for(RETRAIN_REQUESTS, 1)
    assert request["reason"] == "precision"
    assert float(request["detail"]["alert_precision"]) < 0.7


def test_the_process_rolls_a_broken_canary_back_also_after_a_crash(traffic: Traffic) -> None:
    pipeline = traffic.pipeline
    now = time.time_ns() // 1_000_000
    traffic.model("champion", "CHAMPION", now)
    traffic.model("canary", "CANARY", now, 0.1)
    (service,) = pipeline.start("monitor")
    traffic.decide(scores(traffic.draw, 500), "champion", now, right=None)
    traffic.decide(np.full(15, 0.99), "canary", now, right=None)  # too few to judge
    service.kill()
    service.start()
    service.wait_ready()
    traffic.decide(np.full(40, 0.99), "canary", now, right=None)
    events = pipeline.wait_for(MODELS, 3)
    assert (events[-1]["model_id"], events[-1]["stage"]) == ("canary", "ROLLED_BACK")
    assert "after 55 decisions" in events[-1]["comment"]
    until(lambda: len(pipeline.messages(ALERTS)) == 1, "the alert")
    service.stop()
    assert not service.running


def test_the_report_reads_a_period_from_kafka(traffic: Traffic) -> None:
    now = time.time_ns() // 1_000_000
    found = scores(traffic.draw, 300)
    found[:40] = 0.99
    traffic.decide(found, "champion", now, 0.6)
    table = from_kafka(traffic.pipeline.settings, now - HOUR, now + HOUR)
    assert len(table) == 300
    assert table["score"].tolist() == pytest.approx(table["score"].clip(0, 1).tolist())
    alerts = table[table["decision"] != "APPROVE"]
    assert alerts["fraud"].notna().all()
    assert alerts["fraud"].mean() == pytest.approx(0.6, abs=0.02)
    assert table.loc[table["decision"] == "APPROVE", "fraud"].isna().all()
    assert table["card_tx_count_24h"].std() == pytest.approx(1.0, abs=0.1)
    with pytest.raises(ConfigurationError, match="no decisions"):
        from_kafka(traffic.pipeline.settings, now + HOUR, now + 2 * HOUR)
