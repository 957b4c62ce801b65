"""The store: writes `decisions`, `features` and `policy` to the database, each record exactly once,
and settles review cases with the chargebacks among `labels`.

poll → rows → one transaction with the rows, new cases, settled cases and positions. The positions
in the database say where to continue, so a crash at any moment neither loses nor duplicates a
record. Only one process stores at a time; a second one waits and takes over when it ends.
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
from database.decisions.decisions import add_decisions, add_vectors, answers
from database.decisions.policies import add_policies
from database.review.case_work import settle
from database.review.cases import open_cases
from database.store.expiry import Retention, delete_expired
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
"""Records of a topic per transaction: it takes about 50 ms, and other SQLite writers must wait."""
POLL_S: Final = 0.2
CHECK_S: Final = 10.0
"""How often it checks for new partitions of a topic, and whether Kafka is reachable."""
EXPIRE_S: Final = 60.0
EXPIRE_ROWS: Final = 2_000
AWAY: Final = (
    BrokerUnavailable, DatabaseUnavailable, Fenced, MembershipLost, RegistryUnavailable,
)  # fmt: skip
"""Errors that pass by themselves."""

Bounds = Callable[[str], Mapping[int, tuple[int, int]]]
"""Returns the first and the next offset of each partition of a topic."""
OpenReader = Callable[[str, Mapping[int, int]], PartitionReader]
"""Opens a reader of a topic at the given offset of each partition."""


@dataclass(slots=True)
class _Followed:
    """A topic with its reader, and the stored position of each partition (None: nothing yet)."""

    topic: str
    reader: PartitionReader
    stored: dict[int, int | None]
    ends: dict[int, int]
    """End offset of each partition when the topic was opened."""

    def caught_up(self) -> bool:
        """Return whether everything that the topic held when it was opened has been read."""
        read = self.reader.positions()
        return all(read.get(number, 0) >= end for number, end in self.ends.items())

    def moves(self) -> dict[int, tuple[int | None, int]]:
        """Return old and new position of each partition that has advanced since the last write."""
        return {
            number: (self.stored[number], after)
            for number, after in self.reader.positions().items()
            if after != (self.stored[number] or 0)
        }


@dataclass(slots=True)
class StoreCounts:
    """Counts of what the store has done since it was started."""

    stored: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("decisions", "vectors", "cases", "policies"), 0)
    )
    unstored: int = 0
    settled: int = 0
    expired: int = 0
    transactions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSources:
    """The followed topics, by full name, and the functions that read them.

    `read_label` decodes a message of `labels`. It raises BadMessage, or RegistryUnavailable, after
    which the label is read again.
    """

    decisions: str
    features: str
    labels: str
    policy: str
    open_reader: OpenReader
    bounds: Bounds
    read_label: Callable[[Message], Label]


class Store:
    """Follows the topics. Single-threaded.

    Labels are read only after the decisions that exist at the start, as a chargeback must find its
    case. A chargeback that arrives within moments of its decision, before the case is open, does
    not find it.

    Args:
        keep: how long rows are kept.
        currencies: rates for the value at risk of a case.
    """

    def __init__(
        self,
        database: Database,
        sources: StoreSources,
        *,
        keep: Retention,
        currencies: CurrencyTable,
        clock: Clock,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._lock = database, ExclusiveLock(database, LOCK)
        self._sources, self._keep = sources, keep
        self._topics = (sources.features, sources.decisions, sources.labels, sources.policy)
        self._currencies, self._clock, self._metrics = currencies, clock, metrics
        self._monotonic = monotonic
        self._followed: list[_Followed] = []
        for topic in (sources.features, sources.decisions, sources.policy):
            metrics.count("unstored", 0, topic=topic)
        self._check_at = self._expire_at = 0.0
        self.counts = StoreCounts()
        self.waiting_for = "the first access to the database"
        """Why the store is waiting, "" while it stores."""

    @property
    def read(self) -> dict[str, dict[int, int]]:
        """The next offset to store, by topic and partition; empty while the store is waiting."""
        return {
            each.topic: {number: at or 0 for number, at in each.stored.items()}
            for each in self._followed
        }

    def run(self, until: Callable[[], bool], stop: StopSignal) -> None:
        """Follow the topics until `until` is true or `stop` is set, and wait out any outage.

        Raises:
            ConfigurationError: an operator has to fix something; nothing is lost.
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
            self.close()  # the next attempt reads on from the positions in the database
            raise

    def open(self) -> None:
        """Take the lock, and open the topics at the positions in the database.

        Raises:
            Fenced: another process holds the lock.
            BrokerUnavailable, DatabaseUnavailable: call again later.
        """
        if not self._lock.acquire():
            raise Fenced(
                f"another store writes to {self._database.name}; this one will take over later"
            )
        with self._database.read() as connection:
            found = {topic: read_positions(connection, topic) for topic in self._topics}
        for topic in self._topics:
            limits = self._sources.bounds(topic)
            starts = {
                number: _start(topic, number, found[topic].get(number), low, end)
                for number, (low, end) in limits.items()
            }
            stored = {number: found[topic].get(number) for number in limits}
            ends = {number: end for number, (_, end) in limits.items()}
            reader = self._sources.open_reader(topic, starts)
            self._followed.append(_Followed(topic, reader, stored, ends))
        self._check_at = self._monotonic() + CHECK_S

    def close(self) -> None:
        """Close the topics and release the lock."""
        for each in self._followed:
            each.reader.close()
        self._followed = []
        self._lock.release()

    def step(self) -> None:
        """Store the new records, after waiting for some, and delete a batch of expired rows.

        Raises:
            BrokerUnavailable, DatabaseUnavailable, RegistryUnavailable, Fenced: nothing was stored;
                call `close` and then `open`.
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
        known, policy_part = (
            readable_labels(labelled, self._sources.read_label),
            policy_rows(published),
        )
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
        """Count the committed rows, and log the records that were left out."""
        if messages:
            self._metrics.count("records", len(messages), topic=topic)
        self._count(table, inserted.new)
        left_out = len(rows.rejected) + len(inserted.refused)
        if left_out:
            self.counts.unstored += left_out
            self._metrics.count("unstored", left_out, topic=topic)
        for place, error in rows.rejected[:1]:
            log.warning(
                "unreadable records were not stored", records=len(rows.rejected), topic=topic,
                partition=messages[place].partition, offset=messages[place].offset,
                reason=str(error),
            )  # fmt: skip
        for row, reason in inserted.refused:
            log.warning(
                "the database refused a record", transaction_id=row.get("transaction_id"),
                topic=topic, reason=reason,
            )  # fmt: skip

    def _count(self, table: str, rows: int) -> None:
        if rows:
            self.counts.stored[table] += rows
            self._metrics.count("stored", rows, table=table)

    def _expire(self) -> None:
        """Delete a batch of expired rows if it is time; the next step goes on if there are more."""
        if self._monotonic() < self._expire_at:
            return
        with self._database.begin() as connection:
            gone = delete_expired(connection, self._keep, self._clock.now_ms(), EXPIRE_ROWS)
        for table, rows in gone.items():
            self.counts.expired += rows
            self._metrics.count("expired", rows, table=table)
        if max(gone.values()) < EXPIRE_ROWS:
            self._expire_at = self._monotonic() + EXPIRE_S

    def _check_topics(self) -> None:
        """Update the lag; every CHECK_S, close the topics if there are new partitions."""
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
    """Return where to continue, so that no record is stored twice or skipped if Kafka has it."""
    start = stored or 0
    if start > end:
        log.error(
            "the topic was created again and is read from its beginning",
            topic=topic, partition=number, stored=start, end=end,
        )  # fmt: skip
        return low
    if start < low and stored is not None:
        log.error(
            "records are lost: Kafka deleted them before they were stored",
            topic=topic, partition=number, records=low - start,
        )  # fmt: skip
    return max(start, low)


def report(store: Store, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    """Return the report of a run in the form that `--json` writes."""
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
