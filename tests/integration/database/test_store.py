"""The store on a broker in memory and both databases: what is stored, and who may store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy import func, select

from database.accounts import audit
from database.core.database import Database
from database.core.opening import open_database
from database.core.positions import move_positions, read_positions
from database.core.tables import audit as audit_table
from database.core.tables import cases, decisions, policies, vectors
from database.decisions.decisions import add_decisions
from database.decisions.policies import of_version
from database.review.cases import list_cases
from database.store import store as module
from database.store.expiry import Retention
from database.store.rows import label_reader
from database.store.store import Store, StoreSources
from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryReader
from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import BrokerUnavailable, DatabaseUnavailable, Fenced, RegistryUnavailable
from tests.support.database.roles import as_service
from tests.support.database.stored import START, decision, vector

DAY = 86_400_000
FRAME = b"\x00\x00\x00\x00\x07"
"""What stands before a message in Confluent wire format."""


class Registry:
    """Messages in Confluent wire format hold a label of ours; away at first."""

    def __init__(self) -> None:
        self.away = True

    def translate(self, message: bytes, name: str) -> bytes:
        if self.away:
            raise RegistryUnavailable("away")
        assert (message[:5], name) == (FRAME, "Label")
        return message[5:]


class Bench:
    """Stores on one database and one broker, of which Kafka has deleted up to `lows`."""

    def __init__(self, url: str, partitions: int = 2) -> None:
        self.url = url
        self.broker = MemoryBroker(partitions)
        self.clock = ManualClock(START)
        self.metrics = Metrics("store")
        self.now = 0.0
        self.lows: dict[tuple[str, int], int] = {}
        self.registry: Registry | None = None
        self._opened: list[Any] = []
        self.database = self.open()

    def open(self) -> Database:
        database = open_database(load_settings(database_url=self.url))
        self._opened.append(database)
        return database

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        if not self.broker.available:
            raise BrokerUnavailable("switched off")
        return {
            place.partition: (
                self.lows.get((topic, place.partition), 0),
                len(self.broker.log(place)),
            )
            for place in self.broker.places([topic])
        }

    def store(self) -> Store:
        sources = StoreSources(
            decisions="decisions",
            features="features",
            labels="labels",
            policy="policy",
            open_reader=lambda topic, starts: MemoryReader(self.broker, topic, starts),
            bounds=self.bounds,
            read_label=label_reader(registry=self.registry),
        )
        made = Store(
            self.open(),
            sources,
            keep=Retention(decisions_ms=400 * DAY, cases_ms=500 * DAY, audit_ms=730 * DAY),
            currencies=CurrencyTable("EUR", {"USD": 0.5}),
            clock=self.clock,
            metrics=self.metrics,
            monotonic=lambda: self.now,
        )
        self._opened.append(made)
        return made

    def decide(self, *records: dict[str, Any], partition: int = 0) -> None:
        for record in records:
            value = avro.encode("Decision", record)
            self.broker.append("decisions", (partition, b"", value))

    def compute(self, *records: dict[str, Any], partition: int = 0) -> None:
        for record in records:
            value = avro.encode("FeatureVector", record)
            self.broker.append("features", (partition, b"", value))

    def label(self, number: int, source: str, before: bytes = b"") -> None:
        record = {
            "transaction_id": f"tx-{number}", "card_id": f"card-{number % 7}", "label": "FRAUD",
            "source": source, "transaction_time": START + number, "label_time": START + DAY,
        }  # fmt: skip
        self.broker.append("labels", (0, b"", before + avro.encode("Label", record)))

    def publish(self, version: str, at: int) -> None:
        record = {
            "policy_id": "policy", "version": version, "document": "{}", "occurred_at": at,
            "actor": "jane",
        }  # fmt: skip
        self.broker.append("policy", (0, b"policy", avro.encode("PolicyEvent", record)))

    def count(self, table: Any) -> int:
        with self.database.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(table)) or 0)

    def column(self, column: Any) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.scalars(select(column).order_by(column)))

    def positions(self, topic: str) -> dict[int, int]:
        with self.database.read() as connection:
            return read_positions(connection, topic)

    def close(self) -> None:
        for part in reversed(self._opened):
            part.close()


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    """On PostgreSQL the store has the rights of its role and no more."""
    made = Bench(as_service(database_url, "store"))
    yield made
    made.close()


def test_everything_is_stored_with_cases_and_positions(bench: Bench) -> None:
    bench.compute(*map(vector, range(5)))
    bench.decide(*map(decision, range(4)))
    bench.decide(
        decision(4, decision="REVIEW", score=0.5, amount=300, currency="USD"),
        decision(5, decision="REVIEW", duplicate=True),
        partition=1,
    )
    bench.broker.append("decisions", (1, b"", b"noise"))
    store = bench.store()
    store.open()
    store.step()
    assert bench.count(decisions) == 6
    assert bench.count(vectors) == 5
    assert bench.column(cases.c.transaction_id) == ["tx-4"]
    assert bench.column(cases.c.value_at_risk) == [75.0]
    assert bench.positions("decisions") == {0: 4, 1: 3}
    assert bench.positions("features") == {0: 5}
    assert store.counts.stored == {"decisions": 6, "vectors": 5, "cases": 1, "policies": 0}
    assert store.counts.unstored == 1
    text = bench.metrics.exposition().decode()
    assert 'fraud_stored_total{service="store",table="decisions"} 6.0' in text
    assert 'fraud_unstored_total{service="store",topic="decisions"} 1.0' in text
    assert 'fraud_records_total{service="store",topic="decisions"} 7.0' in text


def test_every_policy_is_kept_though_its_topic_keeps_the_newest(bench: Bench) -> None:
    def publish(version: str, text: str, at: int) -> None:
        event = {
            "policy_id": "default", "version": version, "document": text, "occurred_at": at,
            "actor": "jane",
        }  # fmt: skip
        bench.broker.append("policy", (0, b"default", avro.encode("PolicyEvent", event)))

    store = bench.store()
    store.open()
    publish("v1", '{"version": "v1"}', START)
    publish("v2", '{"version": "v2", "a": "\0"}', START + 1)
    store.step()
    publish("v1", '{"version": "v1", "rules": []}', START + 2)
    publish("v" * 10_000, "{}", START + 3)
    for value in (None, b"noise"):
        bench.broker.append("policy", (0, b"default", value))
    store.step()
    with bench.database.read() as connection:
        first, second = of_version(connection, "v1"), of_version(connection, "v2")
        assert of_version(connection, "v\0") == []
    assert [(each.document, each.published_at, each.actor) for each in first] == [
        ('{"version": "v1", "rules": []}', START + 2, "jane"),
        ('{"version": "v1"}', START, "jane"),
    ]
    assert second[0].document == '{"version": "v2", "a": "\N{REPLACEMENT CHARACTER}"}'
    assert store.counts.stored["policies"] == 3
    assert store.counts.unstored == 2
    assert bench.positions("policy") == {0: 6}
    assert bench.column(policies.c.published_at) == [START, START + 1, START + 2]


def test_a_nul_in_its_texts_keeps_no_case_out_of_the_queue(bench: Bench) -> None:
    names = {"transaction_id": "a\0b", "card_id": "c\0d", "merchant_id": "e\0f"}
    store = bench.store()
    store.open()
    bench.compute(vector(1, device_id="g\0h", **names))
    bench.decide(decision(1, decision="REVIEW", **names))
    store.step()
    assert bench.column(cases.c.device_id) == ["g\N{REPLACEMENT CHARACTER}h"]


def test_a_second_answer_that_asks_for_review_opens_no_case(bench: Bench) -> None:
    store = bench.store()
    store.open()
    bench.decide(decision(1), decision(1, decision="REVIEW"), decision(2, decision="REVIEW"))
    store.step()
    bench.decide(decision(1, decision="REVIEW"), decision(2, decision="REVIEW"))
    store.step()
    assert bench.column(decisions.c.decision) == ["APPROVE", "REVIEW"]
    assert bench.column(cases.c.transaction_id) == ["tx-2"]


def test_a_chargeback_finds_its_case_even_if_it_is_read_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    for number, source in (
        (1, "CHARGEBACK"),
        (2, "CUSTOMER"),
        (4, "CHARGEBACK"),
        (9, "CHARGEBACK"),
    ):
        bench.label(number, source)
    bench.broker.append("labels", (0, b"", b"noise"))
    bench.decide(*(decision(number, decision="REVIEW") for number in range(5)))
    store = bench.store()
    store.open()
    store.step()
    assert bench.positions("labels") == {}, "the cases come first"
    for _ in range(6):
        store.step()
    with bench.database.read() as connection:
        found = list_cases(connection, START, "decided", "")
    assert sorted(case.transaction_id for case in found) == ["tx-1", "tx-4"]
    assert {(case.verdict, case.settled) for case in found} == {("FRAUD", True)}
    assert bench.positions("labels") == {0: 5}
    assert store.counts.settled == 2
    bench.decide(decision(6, decision="REVIEW"))
    store.step()
    bench.label(6, "CHARGEBACK")
    store.step()
    assert store.counts.settled == 3


def test_a_chargeback_in_wire_format_waits_for_the_registry(bench: Bench) -> None:
    bench.registry = Registry()
    bench.decide(decision(1, decision="REVIEW"))
    bench.label(1, "CHARGEBACK", FRAME)
    store = bench.store()
    store.open()
    with pytest.raises(RegistryUnavailable):
        store.step()
    store.close()
    bench.registry.away = False
    store.open()
    store.step()
    with bench.database.read() as connection:
        [found] = list_cases(connection, START, "decided", "")
    assert (found.transaction_id, found.settled) == ("tx-1", True)


def test_a_batch_that_fails_leaves_nothing_and_is_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.store()
    store.open()
    bench.decide(*map(decision, range(3)))

    def fails(*_: object) -> None:
        raise Fenced("at the last moment")

    with monkeypatch.context() as patched:
        patched.setattr(module, "move_positions", fails)
        with pytest.raises(Fenced):
            store.step()
    assert bench.count(decisions) == 0
    store.close()
    store.open()
    store.step()
    assert bench.count(decisions) == 3
    assert bench.positions("decisions") == {0: 3}


def test_a_store_that_lost_its_lock_unknowingly_is_fenced(bench: Bench) -> None:
    store = bench.store()
    store.open()
    bench.decide(decision(1))
    with bench.database.begin() as connection:  # what another one has stored meanwhile
        move_positions(connection, "decisions", {0: (None, 1)})
    with pytest.raises(Fenced, match="another process"):
        store.step()
    assert bench.count(decisions) == 0


def test_one_stores_and_the_next_takes_over_when_it_ends(bench: Bench) -> None:
    first, second = bench.store(), bench.store()
    first.open()
    bench.decide(decision(1))
    first.step()
    with pytest.raises(Fenced, match=r"another store writes to .*will take over"):
        second.open()
    first.close()
    second.open()
    bench.decide(decision(2))
    second.step()
    assert bench.column(decisions.c.transaction_id) == ["tx-1", "tx-2"]


def test_positions_outside_of_kafka_are_clamped_and_told(bench: Bench) -> None:
    bench.decide(*map(decision, range(6)))
    bench.compute(*map(vector, range(3)))
    with bench.database.begin() as connection:
        move_positions(connection, "decisions", {0: (None, 2)})
        move_positions(connection, "features", {0: (None, 50)})
    bench.lows[("decisions", 0)] = 4
    store = bench.store()
    with structlog.testing.capture_logs() as logs:
        store.open()
    told = {entry["topic"]: entry["event"] for entry in logs}
    assert "Kafka deleted them" in told["decisions"]
    assert "created again" in told["features"]
    store.step()
    assert bench.column(decisions.c.transaction_id) == ["tx-4", "tx-5"]
    assert bench.count(vectors) == 3
    assert bench.positions("decisions") == {0: 6}
    assert bench.positions("features") == {0: 3}


def test_what_is_too_old_goes_in_small_batches(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPIRE_ROWS", 4)
    store = bench.store()
    store.open()
    bench.decide(*map(decision, range(10)))
    bench.compute(*map(vector, range(10)))
    store.step()
    assert bench.count(decisions) == 10
    bench.clock.advance(400 * DAY + 6)
    store.step()
    bench.now += 59.0
    store.step()
    assert bench.count(decisions) == 10, "it looks once a minute"
    bench.now += 1.0
    store.step()
    assert (bench.count(decisions), bench.count(vectors)) == (6, 6)
    store.step()
    assert (bench.count(decisions), bench.count(vectors)) == (4, 4)
    assert bench.column(decisions.c.transaction_id) == [f"tx-{number}" for number in range(6, 10)]
    assert store.counts.expired == 12


def test_policies_cases_and_audit_entries_go_at_their_age(bench: Bench) -> None:
    """Entries of START are years old by the clock of the database, which has the last word."""
    store = bench.store()
    store.open()
    for version, at in (("v0", START - 1), ("v1", START), ("v2", START + 1)):
        bench.publish(version, at)
    bench.decide(decision(1), decision(2, decision="REVIEW"))
    store.step()
    with bench.database.begin() as connection:
        audit.record(connection, who="jane", action="log-in", subject="jane", now_ms=START)

    def kept() -> tuple[list[str], int, int]:
        bench.now += 60.0
        store.step()
        return bench.column(policies.c.version), bench.count(cases), bench.count(audit_table)

    assert kept() == (["v0", "v1", "v2"], 1, 1)
    bench.clock.advance(400 * DAY + 1)
    assert kept() == (["v1", "v2"], 1, 1), "v1 made the decisions"
    bench.clock.advance(2)
    assert kept() == (["v2"], 1, 1), "and they are gone"
    bench.clock.advance(100 * DAY)
    assert kept() == (["v2"], 0, 1)
    bench.clock.advance(230 * DAY)
    assert kept() == (["v2"], 0, 0)
    shown = bench.metrics.exposition().decode()
    assert 'fraud_expired_total{service="store",table="audit"} 1.0' in shown


def test_it_waits_for_kafka_and_goes_on(bench: Bench) -> None:
    """Its loop: the broker is off at first, and comes back while the store waits for it."""
    store = bench.store()
    bench.decide(decision(1))
    bench.broker.available = False
    waited: list[str] = []

    class Waiting(StopSignal):
        def wait(self, timeout_s: float | None = None, /) -> bool:
            waited.append(store.waiting_for)
            shown = bench.metrics.exposition().decode()
            assert 'fraud_ready{service="store"} 0.0' in shown
            assert 'fraud_reachable{dependency="kafka",service="store"} 0.0' in shown
            bench.broker.available = True
            return False

    store.run(lambda: bench.count(decisions) == 1, Waiting(install=False))
    assert waited == ["switched off"]
    assert store.waiting_for == ""
    assert 'fraud_ready{service="store"} 1.0' in bench.metrics.exposition().decode()
    assert store.read == {}, "it let go at the end"


def test_what_was_read_when_the_database_failed_is_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    failures = [DatabaseUnavailable("away"), DatabaseUnavailable("still away")]

    def fails(connection: Any, rows: Any) -> Any:
        if failures:
            raise failures.pop()
        return add_decisions(connection, rows)

    monkeypatch.setattr(module, "add_decisions", fails)
    bench.decide(*map(decision, range(3)))
    bench.compute(*map(vector, range(3)))
    store, turns = bench.store(), iter(range(20))

    def until() -> bool:
        return bench.count(decisions) > 0 or next(turns, None) is None

    store.run(until, StopSignal(install=False))
    assert failures == []
    assert (bench.count(decisions), bench.count(vectors)) == (3, 3)


def test_new_partitions_are_followed(bench: Bench) -> None:
    store = bench.store()
    store.open()
    store.step()
    bench.broker.partitions = 3
    bench.decide(decision(1), partition=2)
    store.step()
    assert store.read != {}, "it looks every ten seconds"
    bench.now += 10.0
    store.step()
    assert store.read == {}, "it reads anew"
    store.open()
    store.step()
    assert bench.positions("decisions") == {2: 1}
    assert TopicPartition("decisions", 2) in bench.broker.places(["decisions"])
