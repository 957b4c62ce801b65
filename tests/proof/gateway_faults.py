"""Every request is answered while scorer, Redis and Kafka are away: `make proof`, two minutes.

`make test` does the same with 50 requests a second and 4 s of each fault.
"""

from __future__ import annotations

from pathlib import Path

from loadtest.measure.report import failures
from loadtest.proof.gateway_faults import FaultPlan, run


def test_every_request_is_answered_and_every_accepted_one_decided_at_200_a_second(
    tmp_path: Path,
) -> None:
    report = run(FaultPlan(directory=tmp_path, rate=200.0, away_s=20.0), lambda text: None)
    assert failures(report) == []
    assert report["problems"] == 0
    assert [phase["fault"] for phase in report["phases"]] == ["scorer", "redis", "kafka"]
    assert [phase["unanswered"] for phase in report["phases"]] == [0, 0, 0]
