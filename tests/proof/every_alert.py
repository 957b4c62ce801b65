"""Nearly every alert is raised by its fault in running services: `make proof`, three minutes.

`make test` leaves it out: there `tests/e2e/test_observability.py` makes some of the faults. The
rules are those that ship, their windows and waits shorter: see `faster_rules`. Faults that do not
touch each other are made together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.servers.postgres import PostgresServer
from devstack.stack import Stack
from schemas.topics import DECISIONS
from tests.support.monitor import faults
from tests.support.monitor.observed_faults import SECOND, Breakable
from tests.support.monitor.observed_services import COMMANDS, ROWS, check_logs
from tests.support.monitor.proved_by_fault import PROVED_BY_FAULT
from tests.support.waiting import until

LEARNED = frozenset({"CandidateWaits"})
"""The online learner may have a candidate: nobody lets it on."""


@pytest.fixture
def observed(stack: Stack, postgres: PostgresServer, tmp_path: Path) -> Iterator[Breakable]:
    made = Breakable(stack, postgres, tmp_path)
    with made.pipeline, made.prometheus:
        yield made
    made.close()


def test_every_query_has_an_answer_and_faults_raise_their_alerts(observed: Breakable) -> None:
    _begin(observed)
    observed.all_is_well(LEARNED)
    _bad_messages_and_models(observed)
    _slow_redis_and_no_archive(observed)
    _full_redis_and_restarts(observed)
    _nothing_decides(observed)
    _no_redis_and_no_database(observed)
    _the_end(observed)
    assert observed.proved == PROVED_BY_FAULT
    check_logs(observed.pipeline.log_dir)


def _begin(observed: Breakable) -> None:
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


def _bad_messages_and_models(observed: Breakable) -> None:
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


def _slow_redis_and_no_archive(observed: Breakable) -> None:
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


def _full_redis_and_restarts(observed: Breakable) -> None:
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
            "RedisMemoryShort of stream_features",
            "TrainingOverdue",
            "CandidateWaits",
        )
    observed.services["stream_features"].wait_ready()


def _nothing_decides(observed: Breakable) -> None:
    """No scorer runs, and another worker takes the partitions again and again."""
    for name in ("scorer", SECOND):
        observed.services[name].kill()

    def meanwhile() -> None:
        faults.take_partitions(observed)
        observed.send(100)

    observed.until_fire("DecisionsStopped", "PartitionsContested", meanwhile=meanwhile)
    observed.start("scorer", SECOND)


def _no_redis_and_no_database(observed: Breakable) -> None:

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
    until(lambda: not observed.firing() & over, "the alerts end with their faults")


def _the_end(observed: Breakable) -> None:
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
