"""Nearly every alert is raised by its fault in running services: `make faults`, three minutes.

`make test` leaves it out: there `tests/e2e/test_observability.py` makes some of the faults. The
rules are those that ship, their windows and waits shorter: see `faster_rules`. Faults that do not
touch each other are made together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devstack.postgres import PostgresServer
from devstack.prometheus import Prometheus
from devstack.stack import Stack
from monitor.observability import DASHBOARDS, RULES
from schemas.topics import DECISIONS
from tests.e2e.pipeline import until
from tests.faults import faults
from tests.faults.observed import COMMANDS, PAN, PATIENCE_S, SECOND, SECRET, Observed
from tests.faults.proved_by_fault import PROVED_BY_FAULT

ROWS = 600
"""Transactions, of which every tenth is blocked and every second one gets its label."""
NOT_YET = {
    "fraud_training_success_timestamp_seconds": "no training run has passed",
    "fraud_online_auc": "the learner's window does not hold enough frauds",
    "ALERTS": "nothing fires while all is well",
}
"""What has no value, not even 0, before something has happened, and what that is."""


@pytest.fixture
def observed(stack: Stack, postgres: PostgresServer, tmp_path: Path) -> Iterator[Observed]:
    made = Observed(stack, postgres, tmp_path)
    with made.pipeline, made.prometheus:
        yield made
    made.close()


def _queries() -> Iterator[str]:
    """Yield what every panel and every recording rule asks for."""
    for path in DASHBOARDS.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield target["expr"].replace("$__rate_interval", "20s")
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["record"] for rule in group["rules"] if "record" in rule)


def _unanswered(prometheus: Prometheus) -> list[str]:
    return [
        query
        for query in sorted(set(_queries()))
        if not any(re.search(rf"\b{name}\b", query) for name in NOT_YET)
        and not prometheus.query(query)
    ]


def test_every_query_has_an_answer_and_faults_raise_their_alerts(observed: Observed) -> None:
    _begin(observed)
    _all_is_well(observed)
    _bad_messages_and_models(observed)
    _slow_redis_and_no_archive(observed)
    _full_redis_and_restarts(observed)
    _nothing_decides(observed)
    _no_redis_and_no_database(observed)
    _the_end(observed)
    assert observed.proved == PROVED_BY_FAULT
    _check_logs(observed.pipeline.log_dir)


def _begin(observed: Observed) -> None:
    """Start all but the monitor, which Prometheus does not know; decide without a model."""
    observed.publish_policy()
    observed.start(*(name for name in observed.services if name not in ("online", "monitor")))
    observed.until_fire(
        "NoChampion", "ScoringDegraded", "ProcessMissing", meanwhile=lambda: observed.send(10)
    )
    observed.publish_model("base", "CHAMPION")
    observed.serves("base", 2)
    observed.start("online")
    before = len(observed.pipeline.messages(DECISIONS))
    made = observed.send(ROWS)
    observed.pipeline.wait_for(DECISIONS, before + ROWS)
    observed.send_labels(made)
    observed.start("monitor")
    observed.prometheus.watch(observed.jobs)
    observed.until_fire("DecisionMixJumped", meanwhile=lambda: observed.send(20))


def _all_is_well(observed: Observed) -> None:
    missing: list[str] = []

    def answered() -> bool:
        if observed.sent < 5 * ROWS:
            observed.send(20)
        missing[:] = _unanswered(observed.prometheus)
        return not missing

    try:
        until(answered, "every query has an answer", PATIENCE_S)
    except AssertionError as error:
        raise AssertionError(f"without an answer: {missing}") from error
    learned = {"CandidateWaits"}  # the online learner may have one: nobody lets it on
    until(lambda: observed.firing() <= learned, "no alert fires while all is well", PATIENCE_S)


def _bad_messages_and_models(observed: Observed) -> None:
    """Garbage, no bundle, a canary that blocks all, scorers that fall apart."""
    faults.ask_for_training(observed)
    faults.send_garbage(observed, 400)
    faults.send_no_decision(observed)
    faults.refuse_a_bundle(observed)
    observed.publish_model("wild", "CANARY", share=0.3, edge=5.0)
    observed.serves("wild", 2)
    observed.until_fire(
        "DeadLettersMany of stream_features",
        "ServingRefused of scorer",
        "DecisionsUnstored",
        "ModelRolledBack",
        "TrainingFailed",
        meanwhile=lambda: observed.send(100),
    )
    faults.part_the_scorers(observed)
    observed.services["monitor"].kill()
    observed.until_fire("ChampionsDiffer", "ProcessDown of monitor")
    observed.services["monitor"].start()


def _slow_redis_and_no_archive(observed: Observed) -> None:
    """Redis answers late, the archive cannot be written, files run out, an older version runs."""

    def meanwhile() -> None:
        faults.hold_redis_up(observed)
        observed.send_labels(observed.send(10))

    with (
        faults.no_archive(observed),
        faults.few_files(observed.services["online"]),
        faults.older_version(observed),
    ):
        observed.until_fire(
            "RedisSlow",
            "DecisionsLate",
            "ArchiveFailing",
            "FilesShort of online",
            "CataloguesDiffer",
            meanwhile=meanwhile,
        )


def _full_redis_and_restarts(observed: Observed) -> None:
    """Redis has no room; the trainer dies again and again, and nobody lets its candidate on."""
    faults.pass_a_run_long_ago(observed)
    observed.publish_model("candidate", "SHADOW")
    with faults.full_redis(observed):
        observed.send(100)
        for _ in range(3):
            faults.start_anew(observed, "trainer")
        observed.until_fire(
            "ProcessRestarting of trainer",
            "WatchdogRestart of stream_features",
            "TrainingOverdue",
            "CandidateWaits",
        )
    observed.services["stream_features"].wait_ready(PATIENCE_S)


def _nothing_decides(observed: Observed) -> None:
    """No scorer runs, and another worker takes the partitions again and again."""
    for name in ("scorer", SECOND):
        observed.services[name].kill()

    def meanwhile() -> None:
        faults.take_partitions(observed)
        observed.send(100)

    observed.until_fire("DecisionsStopped", "PartitionsContested", meanwhile=meanwhile)
    observed.start("scorer", SECOND)


def _no_redis_and_no_database(observed: Observed) -> None:

    def meanwhile() -> None:
        faults.post(observed)
        observed.send(1_000)  # it has to grow for as long as `for` says

    observed.stack.redis.stop()
    observed.postgres.stop()
    try:
        observed.until_fire(
            "RedisUnreachable",
            "ProcessNotReady of stream_features",
            "LagGrowing of stream_features",
            "DatabaseUnreachable",
            "GatewayFallbacks",
            "GatewayErrors",
            meanwhile=meanwhile,
        )
    finally:
        observed.postgres.start()
        observed.stack.redis.start()
    over = {"RedisUnreachable", "ProcessNotReady", "ProcessDown", "LagGrowing"}
    over |= {"DatabaseUnreachable"}
    until(lambda: not observed.firing() & over, "the alerts end with their faults", PATIENCE_S)


def _the_end(observed: Observed) -> None:
    """More comes than anybody can process, then Kafka goes, then every process."""
    observed.stack.redis.stop()
    try:
        faults.send_garbage(observed, 100_001)
        observed.until_fire("LagHigh of stream_features")
    finally:
        observed.stack.redis.start()
    observed.stack.kafka.stop()
    try:
        faults.give_a_verdict(observed)
        observed.until_fire("KafkaUnreachable", "VerdictsUnsent")
        for service in observed.services.values():
            service.kill()
        observed.until_fire(*(f"ProcessDown of {job}" for job in COMMANDS))
    finally:
        observed.stack.kafka.start()


def _check_logs(folder: Path) -> None:
    """Every line is JSON that says which service wrote it; no card and no secret is in any."""
    for path in folder.glob("*.log"):
        for line in path.read_text().splitlines():
            assert PAN not in line
            assert SECRET not in line
            assert not re.search(r"holder-\d{4}", line), line
            assert json.loads(line)["service"], line
