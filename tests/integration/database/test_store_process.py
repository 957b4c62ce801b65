"""`python -m database store` on both databases: killed, restarted, and two at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from sqlalchemy import func, select

from database.core.database import Database
from database.core.opening import open_database
from database.core.positions import read_positions
from database.core.tables import cases, decisions, vectors
from devstack.servers.postgres import PostgresServer
from devstack.service_process import Service
from devstack.stack import Stack
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.topics import DECISIONS, FEATURES
from tests.support.database.stored import decision
from tests.support.pipeline import Pipeline
from tests.support.trainer.served import served
from tests.support.waiting import PATIENCE_S, until

"""Every wait ends as soon as its condition holds; a loaded machine may take long to get there."""
KILLS = 2
ROWS = 5_000
"""Decisions, and as many vectors, that wait at each kill."""


class Bench:
    """Stores on one database, fed by hand."""

    def __init__(self, stack: Stack, log_dir: Path, url: str) -> None:
        self.pipeline = Pipeline(stack, log_dir, database_url=url, store_keep="10000d")
        self.database: Database = open_database(load_settings(database_url=url))
        self.sent: dict[tuple[str, str], bytes] = {}
        self.vectors: dict[tuple[str, str], bytes] = {}

    def send(self, rows: int = ROWS) -> None:
        """Send decisions and vectors, every tenth of both again, as after a crash."""
        partitions = self.pipeline.settings.partitions
        first = len(self.sent) // partitions
        computed, decided = served(rows, partitions=partitions, first=first)
        producer, topic = self.pipeline.producer, self.pipeline.settings.topic
        producer.produce_many(topic(FEATURES), computed + computed[::10])
        producer.produce_many(topic(DECISIONS), decided + decided[::10])
        producer.flush(PATIENCE_S)
        for row, ((number, card, vector), (_, _, answer)) in enumerate(
            zip(computed, decided, strict=True)
        ):
            key = (f"tx-{number}-{first + row // partitions:09d}", (card or b"").decode())
            self.sent[key], self.vectors[key] = answer or b"", vector or b""

    def review(self, number: int) -> None:
        """Send a decision that asks for a review, twice."""
        value = avro.encode("Decision", decision(number, decision="REVIEW"))
        records = [(0, b"card", value)] * 2
        self.pipeline.producer.produce_many(self.pipeline.settings.topic(DECISIONS), records)
        self.pipeline.producer.flush(PATIENCE_S)

    def store(self, number: int = 1, **settings: str) -> Service:
        service = Service(
            f"store-{number}",
            ["-m", "database", "store"],
            env={**self.pipeline.environment, **settings},
            log_dir=self.pipeline.log_dir,
        )
        self.pipeline.services.append(service)
        return service

    def count(self, table: Any = decisions) -> int:
        with self.database.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(table)) or 0)

    def held(self, table: Any) -> dict[tuple[str, str], bytes]:
        with self.database.read() as connection:
            rows = connection.execute(
                select(table.c.transaction_id, table.c.card_id, table.c.record)
            )
            return {(transaction, card): record for transaction, card, record in rows}

    def stored_all(self) -> bool:
        return self.count() == len(self.sent) and self.count(vectors) == len(self.sent)

    def at_the_ends(self) -> bool:
        for spec in (DECISIONS, FEATURES):
            ends = {
                message.partition: message.offset + 1 for message in self.pipeline.messages(spec)
            }
            with self.database.read() as connection:
                if read_positions(connection, self.pipeline.settings.topic(spec)) != ends:
                    return False
        return True

    def close(self) -> None:
        self.pipeline.__exit__()
        self.database.close()


@pytest.fixture
def bench(stack: Stack, tmp_path: Path, database_url: str) -> Iterator[Bench]:
    made = Bench(stack, tmp_path / "logs", database_url)
    yield made
    made.close()


def test_killed_at_random_moments_everything_is_stored_once(bench: Bench) -> None:
    chance = random.Random(7)
    service = bench.store()
    for _ in range(KILLS):
        bench.send()
        before = bench.count()
        service.start()
        wanted = before + chance.randrange(1, 3_000)
        until(lambda wanted=wanted: bench.count() >= wanted, "rows of this start")  # type: ignore[misc]
        service.kill()
    bench.review(1)
    service.start()
    until(lambda: bench.count() > len(bench.sent) and bench.at_the_ends(), "everything stored")
    bench.review(1)
    bench.review(2)
    until(lambda: bench.count(cases) == 2, "a second case")
    service.stop()
    assert not service.running
    assert bench.count() == len(bench.sent) + 2
    held = bench.held(decisions)
    assert {key: held[key] for key in bench.sent} == bench.sent
    assert bench.held(vectors) == bench.vectors
    assert bench.count(cases) == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_second_store_waits_says_so_and_takes_over(bench: Bench) -> None:
    first, second = bench.store(1), bench.store(2)
    first.start()
    first.wait_ready()
    second.start()
    until(
        lambda: "another store writes to" in not_ready(second), "the second says what it waits for"
    )
    bench.send(400)
    until(bench.stored_all, "the first stores")
    first.kill()
    second.wait_ready()
    bench.send(400)
    until(bench.stored_all, "the second stores")
    assert bench.held(decisions) == bench.sent


def not_ready(service: Service) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{service.health_port}/readyz", timeout=2.0):
            return ""
    except HTTPError as error:
        return error.read().decode()
    except OSError:
        return "not started"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_once_ends_at_the_ends_and_deletes_what_is_old(bench: Bench) -> None:
    bench.send(1_000)
    report = command(bench)
    assert report["stored"] == {
        "decisions": 1_000, "vectors": 1_000, "cases": 0, "policies": 0,
    }  # fmt: skip
    again = command(bench, FRAUD_STORE_KEEP="1d")
    assert again["stored"]["decisions"] == 0
    assert again["expired"] == 2_000
    assert (bench.count(), bench.count(vectors)) == (0, 0)


def command(bench: Bench, **settings: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "database", "store", "--once", "--json", "-"],
        env={**os.environ, **bench.pipeline.environment, **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_postgresql_that_goes_away_is_waited_for(
    stack: Stack, tmp_path: Path, postgres: PostgresServer
) -> None:
    """Away before the start, stopped, and killed under load; each time all goes on by itself."""
    name = f"s{uuid.uuid4().hex[:12]}"
    bench = Bench(stack, tmp_path / "logs", postgres.create(name))
    service = bench.store()
    try:
        postgres.stop()
        service.start()
        until(lambda: "does not answer" in not_ready(service), "it waits for the database")
        postgres.start()
        service.wait_ready()
        for end in (postgres.stop, postgres.kill):
            bench.send(2_000)
            until(lambda: bench.count() > len(bench.sent) - 2_000, "it stores")
            end()
            until(lambda: "does not answer" in not_ready(service), "it tells")
            postgres.start()
            bench.send(400)
            until(bench.stored_all, "everything stored")
        assert service.running
        assert bench.held(decisions) == bench.sent
        assert bench.held(vectors) == bench.vectors
    finally:
        bench.close()
        if not postgres.running:
            postgres.start()
        postgres.drop(name)
