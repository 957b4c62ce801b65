"""Scorer, Redis and Kafka are away in turn: every request is answered, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from loadtest.measure.report import failures
from loadtest.proof.gateway_faults import FaultPlan, run

RATE, AWAY_S = 50.0, 4.0
SLACK_MS = 10_000
"""How late an answer is decided by the machine here; `make proof` asks for 50 ms."""


def test_every_request_is_answered_and_every_accepted_one_is_decided(tmp_path: Path) -> None:
    plan = FaultPlan(
        directory=tmp_path,
        rate=RATE,
        away_s=AWAY_S,
        between_s=1.0,
        customers=300,
        slack_ms=SLACK_MS,
    )
    report = run(plan, lambda text: None)
    assert failures(report) == []
    assert report["problems"] == 0, "the gateway took everything, without Kafka, too"
    assert report["repeated"] > 20
    for phase in report["phases"]:
        assert phase["fallback"] > RATE * AWAY_S / 2, phase
        assert phase["unanswered"] == 0
    assert [phase["fault"] for phase in report["phases"]] == ["scorer", "redis", "kafka"]
    assert report["decided"] > 0, "between the faults the pipeline decides"
