"""A real Prometheus over the running services: every query has an answer, faults raise alerts.

The rules are those that ship, their windows and waits divided by 20.
More faults: `make proof`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.stack import Stack
from schemas.topics import DECISIONS
from tests.support.monitor import faults
from tests.support.monitor.faster_rules import faster_rules
from tests.support.monitor.observed_services import COMMANDS, ROWS, Observed, check_logs
from tests.support.waiting import until


@pytest.fixture
def observed(stack: Stack, tmp_path: Path) -> Iterator[Observed]:
    database = f"sqlite:///{tmp_path / 'fraud.db'}"
    rules = faster_rules(tmp_path / "rules")
    made = Observed(stack, tmp_path, rules, {}, database_url=database, api_port="0")
    with made.pipeline, made.prometheus:
        yield made


def test_every_query_has_an_answer_and_faults_raise_their_alerts(observed: Observed) -> None:
    pipeline = observed.pipeline
    observed.start(*(job for job in COMMANDS if job not in ("online", "monitor")))
    observed.until_fire("NoChampion", "ProcessDown of monitor")
    observed.publish_model("base", "CHAMPION")
    observed.publish_policy()
    observed.serves("base", 1)
    observed.start("online")
    made = observed.send(ROWS, large=5)
    pipeline.wait_for(DECISIONS, ROWS)
    observed.send_labels(made)
    observed.start("monitor")
    observed.all_is_well()

    faults.send_garbage(observed, 400)
    faults.refuse_a_bundle(observed)
    observed.until_fire("DeadLettersMany of stream_features", "ServingRefused of scorer")
    observed.services["monitor"].kill()
    observed.stack.redis.stop()
    try:
        observed.until_fire(
            "RedisUnreachable",
            "ProcessNotReady of stream_features",
            "LagGrowing of stream_features",
            meanwhile=lambda: observed.send(500),  # it has to grow for as long as `for` says
        )
    finally:
        observed.stack.redis.start()
    observed.until_fire("ProcessDown of monitor")
    observed.services["monitor"].start()
    over = {"RedisUnreachable", "ProcessNotReady", "ProcessDown", "LagGrowing"}
    until(lambda: not observed.firing() & over, "the alerts end with their faults")
    check_logs(pipeline.log_dir)
