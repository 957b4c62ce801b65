"""The store: follows `decisions`, `features` and `policy` into the database, each record once, and
`labels` for the chargebacks that settle review cases.

poll → rows → one transaction: rows, cases to review, cases settled, positions. The database says
where to read on, so a crash at any moment loses and doubles nothing. One process stores at a time;
another one waits, and takes over. `python -m database store` runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from database.core.database import Database
from database.core.exclusive import ExclusiveLock
from database.core.inserts import Inserted
from database.core.positions import move_positions, read_positions
from database.decisions.decisions import add_decisions, add_vectors, answers, delete_older
from database.decisions.policies import add_policies
from database.review.case_work import settle
from database.review.cases import open_cases
from database.store.rows import StoredRows, decision_rows, policy_rows, readable_labels, vector_rows
from runtime.clock import Clock
from runtime.kafka.protocols import Message, PartitionReader
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.retries import Retry, Stopped
from schemas.currency import CurrencyTable
from schemas.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    Fenced,
    FraudError,
    MembershipLost,
    RegistryUnavailable,
)
from schemas.records import Label

log = structlog.get_logger(__name__)
SERVICE: Final = "store"
LOCK: Final = "store.lock"
MAX_ROWS: Final = 2_000
"""Of a topic in one transaction: others who write to SQLite wait for it, some 50 ms."""
POLL_S: Final = 0.2
CHECK_S: Final = 10.0
"""How often it asks whether a topic has got more partitions, and whether Kafka is there."""
EXPIRE_S: Final = 60.0
EXPIRE_ROWS: Final = 2_000
AWAY: Final = (
    BrokerUnavailable, DatabaseUnavailable, Fenced, MembershipLost, RegistryUnavailable,
)  # fmt: skip
"""What passes by itself."""

Bounds = Callable[[str], Mapping[int, tuple[int, int]]]
"""First and next offset of each partition of a topic."""
OpenReader = Callable[[str, Mapping[int, int]], PartitionReader]
"""Topic, first offset by partition."""


@dataclass(slots=True)
class _Followed:
    """A topic that is read, and how far it was stored by partition; None: nothing yet."""

    topic: str
    reader: PartitionReader
    stored: dict[int, int | None]
    ends: dict[int, int]
    """Of each partition when it was opened."""

    def caught_up(self) -> bool:
        """Tell whether all that was there when it was opened is read."""
        read = self.reader.positions()
        return all(read.get(number, 0) >= end for number, end in self.ends.items())

    def moves(self) -> dict[int, tuple[int | None, int]]:
        """Return where each partition has come from and got to since."""
        return {
            number: (self.stored[number], after)
            for number, after in self.reader.positions().items()
            if after != (self.stored[number] or 0)
        }


@dataclass(slots=True)
class StoreCounts:
    """What became of the records."""

    stored: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("decisions", "vectors", "cases", "policies"), 0)
    )
    unstored: int = 0
    settled: int = 0
    expired: int = 0
    transactions: int = 0


class Store:
    """Follows the topics. Single-threaded.

    Labels wait until the decisions that were there at the start are read: a chargeback must find
    its case. One that comes within moments of its decision, before the case is open, finds none.

    Args:
        decisions, features, labels, policy: full names of the topics.
        read_label: raises BadMessage, or RegistryUnavailable: the label is read again.
        bounds: asked at the start whether what is to be read is still there.
        keep_ms: age at which rows are deleted.
        currencies: for the value at risk of a case.
    """

    def __init__(
        self,
        database: Database,
        *,
        decisions: str,
        features: str,
        labels: str,
        policy: str,
        open_reader: OpenReader,
        bounds: Bounds,
        keep_ms: int,
        currencies: CurrencyTable,
        read_label: Callable[[Message], Label],
        clock: Clock,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._lock = database, ExclusiveLock(database, LOCK)
        self._topics, self._read_label = (features, decisions, labels, policy), read_label
        self._open_reader, self._bounds, self._keep_ms = open_reader, bounds, keep_ms
        self._currencies, self._clock, self._metrics = currencies, clock, metrics
        self._monotonic = monotonic
        self._followed: list[_Followed] = []
        for topic in (features, decisions, policy):
            metrics.count("unstored", 0, topic=topic)
        self._check_at = self._expire_at = 0.0
        self.counts = StoreCounts()
        self.waiting_for = "its first look at the database"
        """What it waits for, "" if nothing."""

    @property
    def read(self) -> dict[str, dict[int, int]]:
        """Next offset to store, by topic and partition; empty while it waits."""
        return {
            each.topic: {number: at or 0 for number, at in each.stored.items()}
            for each in self._followed
        }

    def run(self, until: Callable[[], bool], stop: StopSignal) -> None:
        """Follow until `until` or told to stop; waits for whatever is away.

        Raises:
            ConfigurationError: an operator must mend something; nothing was lost.
        """
        retry = Retry(stop, self._metrics, AWAY, on_wait=self._waits_for)
        try:
            with suppress(Stopped):
                while not (stop or until()):
                    retry(self._attempt)
                    self._serves()
        finally:
            self.close()

    def _attempt(self) -> None:
        try:
            if not self._followed:
                self.open()
            self.step()
        except AWAY:
            self.close()  # all is read again from where the database is
            raise

    def open(self) -> None:
        """Take the lock, and begin to read where the database says.

        Raises:
            Fenced: another process has the lock.
            BrokerUnavailable, DatabaseUnavailable: call again.
        """
        if not self._lock.acquire():
            raise Fenced(
                f"another store writes to {self._database.name}; this one takes over when it ends"
            )
        with self._database.read() as connection:
            found = {topic: read_positions(connection, topic) for topic in self._topics}
        for topic in self._topics:
            limits = self._bounds(topic)
            starts = {
                number: _start(topic, number, found[topic].get(number), low, end)
                for number, (low, end) in limits.items()
            }
            stored = {number: found[topic].get(number) for number in limits}
            ends = {number: end for number, (_, end) in limits.items()}
            self._followed.append(_Followed(topic, self._open_reader(topic, starts), stored, ends))
        self._check_at = self._monotonic() + CHECK_S

    def close(self) -> None:
        """Stop reading, and let go of the lock."""
        for each in self._followed:
            each.reader.close()
        self._followed = []
        self._lock.release()

    def step(self) -> None:
        """Store what has come, wait a moment if nothing has, and delete a little of what is old.

        Raises:
            BrokerUnavailable, DatabaseUnavailable, RegistryUnavailable, Fenced: nothing was stored;
                close, and open.
        """
        features, decisions, labels, policy = self._followed
        vectors = features.reader.poll_batch(MAX_ROWS, 0.0)
        decided = decisions.reader.poll_batch(MAX_ROWS, POLL_S if len(vectors) < MAX_ROWS else 0.0)
        labelled = labels.reader.poll_batch(MAX_ROWS, 0.0) if decisions.caught_up() else []
        self._write(vectors, decided, labelled, policy.reader.poll_batch(MAX_ROWS, 0.0))
        self._expire()
        self._check_topics()

    def _write(
        self,
        vectors: list[Message],
        decided: list[Message],
        labelled: list[Message],
        published: list[Message],
    ) -> None:
        features, decisions, labels, policy = self._followed
        moves = [(each, moved) for each in self._followed if (moved := each.moves())]
        if not moves:
            return
        began = self._monotonic()
        vector_part, decision_part = vector_rows(vectors), decision_rows(decided)
        known, policy_part = readable_labels(labelled, self._read_label), policy_rows(published)
        with self._database.begin() as connection:
            new_vectors = add_vectors(connection, vector_part.rows)
            new_decisions = add_decisions(connection, decision_part.rows)
            new_policies = add_policies(connection, policy_part.rows)
            asked = [(row["transaction_id"], row["card_id"]) for row in decision_part.reviews]
            standing = answers(connection, asked)
            cases = open_cases(
                connection,
                [
                    row
                    for row, key in zip(decision_part.reviews, asked, strict=True)
                    if standing.get(key) == "REVIEW"
                ],
                self._clock.now_ms(),
                self._currencies,
            )
            settled = settle(connection, known, self._clock.now_ms())
            for each, moved in moves:
                move_positions(connection, each.topic, moved)
        for each, moved in moves:
            each.stored.update({number: after for number, (_, after) in moved.items()})
        self.counts.transactions += 1
        self._count("cases", cases)
        self.counts.settled += settled
        if labelled:
            self._metrics.count("records", len(labelled), topic=labels.topic)
        self._account(features.topic, "vectors", vectors, vector_part, new_vectors)
        self._account(decisions.topic, "decisions", decided, decision_part, new_decisions)
        self._account(policy.topic, "policies", published, policy_part, new_policies)
        self._metrics.observe("batch_rows", len(vectors) + len(decided) + len(labelled))
        self._metrics.observe("stage_seconds", self._monotonic() - began, stage="store")

    def _account(
        self, topic: str, table: str, messages: list[Message], rows: StoredRows, inserted: Inserted
    ) -> None:
        """Count what was committed, and tell of what was left out."""
        if messages:
            self._metrics.count("records", len(messages), topic=topic)
        self._count(table, inserted.new)
        left_out = len(rows.rejected) + len(inserted.refused)
        if left_out:
            self.counts.unstored += left_out
            self._metrics.count("unstored", left_out, topic=topic)
        for place, error in rows.rejected[:1]:
            log.warning(
                "left out", records=len(rows.rejected), topic=topic,
                partition=messages[place].partition, offset=messages[place].offset,
                reason=str(error),
            )  # fmt: skip
        for row, reason in inserted.refused:
            log.warning(
                "the database cannot hold it", transaction_id=row.get("transaction_id"),
                topic=topic, reason=reason,
            )  # fmt: skip

    def _count(self, table: str, rows: int) -> None:
        if rows:
            self.counts.stored[table] += rows
            self._metrics.count("stored", rows, table=table)

    def _expire(self) -> None:
        """Delete a small batch if it is time; at once another one while there is more."""
        if self._monotonic() < self._expire_at:
            return
        with self._database.begin() as connection:
            gone = delete_older(connection, self._clock.now_ms() - self._keep_ms, EXPIRE_ROWS)
        for table, rows in gone.items():
            self.counts.expired += rows
            self._metrics.count("expired", rows, table=table)
        if max(gone.values()) < EXPIRE_ROWS:
            self._expire_at = self._monotonic() + EXPIRE_S

    def _check_topics(self) -> None:
        """Tell the lag; now and then see whether there are new partitions, which reopens."""
        for each in self._followed:
            for number, behind in each.reader.lag().items():
                self._metrics.set("lag", behind, topic=each.topic, partition=str(number))
        if self._monotonic() < self._check_at:
            return
        self._check_at = self._monotonic() + CHECK_S
        for each in self._followed:
            if set(each.reader.partitions()) != set(each.stored):
                log.info("the partitions have changed", topic=each.topic)
                self.close()
                return

    def _serves(self) -> None:
        if self.waiting_for:
            log.info("storing", database=self._database.name)
        self.waiting_for = ""
        self._metrics.set("ready", 1)
        for dependency in ("kafka", "database"):
            self._metrics.set("reachable", 1, dependency=dependency)

    def _waits_for(self, error: FraudError) -> None:
        self.waiting_for = str(error)
        self._metrics.set("ready", 0)
        if not isinstance(error, Fenced):
            away = "database" if isinstance(error, DatabaseUnavailable) else "kafka"
            self._metrics.set("reachable", 0, dependency=away)


def _start(topic: str, number: int, stored: int | None, low: int, end: int) -> int:
    """Return where to read on: nothing twice, and nothing that Kafka still has left out."""
    start = stored or 0
    if start > end:
        log.error(
            "the topic was made anew: it is read from its beginning",
            topic=topic, partition=number, stored=start, end=end,
        )  # fmt: skip
        return low
    if start < low and stored is not None:
        log.error(
            "records are lost: Kafka has deleted them before they were stored",
            topic=topic, partition=number, records=low - start,
        )  # fmt: skip
    return max(start, low)


def report(store: Store, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    """Return what was done in so many seconds, as `--json` writes it."""
    counts = store.counts
    return {
        "stored": counts.stored,
        "settled": counts.settled,
        "unstored": counts.unstored,
        "expired": counts.expired,
        "transactions": counts.transactions,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "decisions_per_second": counts.stored["decisions"] / max(seconds, 1e-9),
        "cpu_us_per_decision": 1e6 * cpu_seconds / max(counts.stored["decisions"], 1),
    }
