"""Verdicts become labels through kill -9 of dashboards, on both databases and a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from database.core.database import Database
from database.review.case_labels import unsent_labels
from database.review.case_work import claim_next, decide
from database.review.cases import Verdict, open_cases
from devstack.ports import free_port
from devstack.service_process import Service
from devstack.stack import Stack
from schemas.codec import avro
from schemas.topics import LABELS
from tests.support.dashboard.queued import review
from tests.support.pipeline import Pipeline
from tests.support.waiting import until

CASES = 60


class Bench:
    """Dashboards side by side on one database, and verdicts given behind their backs."""

    def __init__(self, stack: Stack, log_dir: Path, database: Database, url: str) -> None:
        self.database = database
        self.pipeline = Pipeline(stack, log_dir, database_url=url, case_undo="200ms")
        self.decided: dict[str, str] = {}

    def dashboard(self, number: int) -> Service:
        environment = {**self.pipeline.environment, "FRAUD_DASHBOARD_PORT": str(free_port())}
        service = Service(
            f"dashboard-{number}", ["-m", "dashboard", "run"], env=environment,
            log_dir=self.pipeline.log_dir,
        )  # fmt: skip
        self.pipeline.services.append(service)
        return service

    def decide(self, count: int) -> None:
        """Give so many verdicts, one transaction each."""
        for _ in range(count):
            now = time.time_ns() // 1_000_000
            with self.database.begin() as connection:
                case = claim_next(connection, "ann", now, 60_000)
                assert case is not None
                verdict: Verdict = "FRAUD" if case.case_id % 3 else "GENUINE"
                decide(connection, case.case_id, "ann", verdict, "", now)
            self.decided[case.transaction_id] = verdict

    def wait_for_more(self, seen: int) -> None:
        """Wait until more labels have come than were seen."""
        until(lambda: len(self.pipeline.messages(LABELS)) > seen, "more labels")

    def all_sent(self) -> bool:
        with self.database.read() as connection:
            return unsent_labels(connection) == 0


@pytest.fixture
def bench(stack: Stack, tmp_path: Path, database: Database, database_url: str) -> Iterator[Bench]:
    made = Bench(stack, tmp_path / "logs", database, database_url)
    with made.pipeline:
        yield made


def test_every_verdict_becomes_one_label_whoever_is_killed(bench: Bench) -> None:
    with bench.database.begin() as connection:
        open_cases(connection, [review(n) for n in range(CASES)], time.time_ns() // 1_000_000)
    services = [bench.dashboard(number) for number in (1, 2)]
    for service in services:
        service.start()
    for service in services:
        service.wait_ready()
    for service in services:
        seen = len(bench.pipeline.messages(LABELS))
        bench.decide(CASES // 3)
        bench.wait_for_more(seen)
        service.kill()
        if service is services[0]:
            service.start()
    bench.decide(CASES // 3)
    until(bench.all_sent, "every label")
    values: dict[str, set[bytes]] = {}
    for message in bench.pipeline.messages(LABELS):
        label = avro.decode(message.value or b"")[1]
        values.setdefault(label["transaction_id"], set()).add(message.value or b"")
        assert message.key == label["card_id"].encode()
        assert bench.decided[label["transaction_id"]] == label["label"]
    assert len(values) == CASES
    assert all(len(each) == 1 for each in values.values())  # sent again, it is the same
