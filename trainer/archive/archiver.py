"""The archiver: follows `features`, `decisions` and `labels` into the archive, each row once.

poll → rows → drop archived ones → buffer → append rows and positions as one. The archive
says where to read on, not the group's offsets, so a crash at any moment loses and doubles nothing.
Several archivers share the partitions as one group; one that lost its partitions without knowing is
fenced by the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import structlog

from runtime.clock import Clock
from runtime.kafka.protocols import Consumer, Message, TopicPartition
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.retries import Errors, Retry, Stopped
from schemas.currency import CurrencyTable
from schemas.errors import (
    ArchiveUnavailable,
    BrokerUnavailable,
    ConfigurationError,
    Fenced,
    FraudError,
    MembershipLost,
)
from schemas.validation import SchemaRegistry
from scorer.answered import NOTHING, Answered
from trainer.archive.delta_tables import TABLES, Archive, ArchivePosition
from trainer.archive.table_rows import SCHEMAS, TableRows, decision_rows, feature_rows, label_rows

log = structlog.get_logger(__name__)
SERVICE: Final = "archiver"
GROUP: Final = "archiver"
MAX_ROWS: Final = 10_000
POLL_S: Final = 0.2
WITH_SOURCE: Final = ("features", "decisions")
"""Tables whose rows answer a position of `transactions`; a position is archived once."""

OffsetBounds = Callable[[str], Mapping[int, tuple[int, int]]]
"""First and next offset of each partition of a topic."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """What it takes to read the messages: see `batches`."""

    currencies: CurrencyTable
    pan_key: bytes | None = None
    registry: SchemaRegistry | None = None

    def rows(self, name: str, messages: Sequence[Message]) -> TableRows:
        """Return the rows of table `name` in the messages of its topic."""
        if name == "features":
            return feature_rows(messages, self.currencies)
        if name == "decisions":
            return decision_rows(messages)
        return label_rows(messages, pan_key=self.pan_key, registry=self.registry)


@dataclass(slots=True)
class _Buffer:
    """Rows of one table that wait to be written, and positions as written and as read."""

    topic: str
    parts: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    waiting: bool = False
    since: float = 0.0
    written: dict[int, int | None] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)
    source: dict[int, int | None] = field(default_factory=dict)
    highest: dict[int, int] = field(default_factory=dict)
    answered: Answered = field(default_factory=Answered)

    def forget(self) -> None:
        """Drop everything that is not written."""
        self.parts, self.rows, self.waiting = [], 0, False
        self.written, self.read, self.source, self.highest = {}, {}, {}, {}

    def positions(self) -> list[ArchivePosition]:
        """Return what an append moves."""
        moved = [
            ArchivePosition(f"{self.topic}/{number}", self.written[number], after)
            for number, after in self.read.items()
            if after != self.written[number]
        ]
        return moved + [
            ArchivePosition(f"{self.topic}/{number}/source", self.source[number], highest)
            for number, highest in self.highest.items()
            if highest != self.source[number]
        ]

    def done(self) -> None:
        """Note that everything is written."""
        self.parts, self.rows, self.waiting = [], 0, False
        self.written.update(self.read)
        self.source.update(self.highest)


@dataclass(slots=True)
class ArchiverCounts:
    """What became of the messages, by table."""

    archived: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    repeated: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    commits: int = 0


class Archiver:
    """Owns the assigned partitions. Single-threaded.

    Args:
        topics: table name to full topic name.
        bounds: tells at assignment whether the messages to read are still on the topic.
        flush_rows, flush_after_s: a table is written when it has as many rows waiting, or when the
            first of them has waited so long.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        topics: Mapping[str, str],
        decoding: Decoding,
        bounds: OffsetBounds,
        clock: Clock,
        metrics: Metrics,
        flush_rows: int = 100_000,
        flush_after_s: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._archive, self._decoding, self._bounds = archive, decoding, bounds
        self._clock, self._metrics, self._monotonic = clock, metrics, monotonic
        self._flush_rows, self._flush_after_s = flush_rows, flush_after_s
        self._buffers = {name: _Buffer(topics[name]) for name in TABLES}
        self._names = {topics[name]: name for name in TABLES}
        self._stop = StopSignal(install=False)
        self._lost = ""
        self.counts = ArchiverCounts()
        self.waiting_for = ""
        """What it waits for, "" if nothing."""

    @property
    def read(self) -> dict[TopicPartition, int]:
        """Next offset to read of each partition that it owns."""
        return {
            TopicPartition(buffer.topic, number): after
            for buffer in self._buffers.values()
            for number, after in buffer.read.items()
        }

    def assigned(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Take partitions over: return where the archive says that they go on.

        Raises:
            ConfigurationError: a topic ends before its archived position.
            ArchiveUnavailable, MembershipLost: the positions or their bounds cannot be read.
        """
        starts: dict[TopicPartition, int] = {}
        for name, buffer in self._buffers.items():
            numbers = [place.partition for place in places if place.topic == buffer.topic]
            if not numbers:
                continue
            self._flush(name)  # a look at the table anew must not hide that another one moved it
            ids = {number: f"{buffer.topic}/{number}" for number in numbers}
            found = self._archive.positions(
                name, [*ids.values(), *(f"{app_id}/source" for app_id in ids.values())]
            )
            try:
                limits = self._bounds(buffer.topic)
            except BrokerUnavailable as error:
                raise MembershipLost(f"no offsets of {buffer.topic}: {error}") from error
            for number, app_id in ids.items():
                low, end = limits[number]
                buffer.written[number] = found[app_id]
                start = buffer.read[number] = self._start(app_id, found[app_id], low, end)
                highest = buffer.source[number] = found[f"{app_id}/source"]
                buffer.answered.know(number, NOTHING if highest is None else highest)
                starts[TopicPartition(buffer.topic, number)] = start
        return starts

    def revoked(self, places: list[TopicPartition]) -> None:
        """Write everything that was read, and let partitions go."""
        for place in places:
            name = self._names[place.topic]
            try:
                self._flush(name)
            except (ArchiveUnavailable, Fenced) as error:
                self._lost = f"could not write {name} before letting go: {error}"
                return
            buffer = self._buffers[name]
            for positions in (buffer.written, buffer.read, buffer.source, buffer.highest):
                positions.pop(place.partition, None)
        self._metrics.forget("lag")

    def run(
        self, join: Callable[[], Consumer], until: Callable[[], bool], stop: StopSignal
    ) -> None:
        """Follow until `until` or `stop`, as a member of the group that `join` opens.

        Everything that was read is written before it returns.

        Raises:
            ConfigurationError: an operator must mend something; nothing was lost.
        """
        self._stop = stop
        retry = self._retry((ArchiveUnavailable, Fenced, MembershipLost))
        with suppress(Stopped):
            retry(lambda: self._member(join, until))

    def _member(self, join: Callable[[], Consumer], until: Callable[[], bool]) -> None:
        """Follow as one member of the group, and write what was read."""
        if self._stop:
            return
        self._forget()
        consumer = join()
        retry = self._retry(BrokerUnavailable)
        try:
            with suppress(Stopped):
                while not (self._stop or until()):
                    retry(lambda: self.step(consumer))
                    self.waiting_for = ""
                    self._metrics.set("ready", 1)
            self.flush(consumer)
        except (ArchiveUnavailable, Fenced, MembershipLost):
            self._forget()  # it is read again from where the archive is
            raise
        finally:
            consumer.close()

    def _forget(self) -> None:
        for buffer in self._buffers.values():
            buffer.forget()
        self._lost = ""

    def _retry(self, errors: Errors) -> Retry:
        return Retry(self._stop, self._metrics, errors, on_wait=self._waits_for, step="archive")

    def _waits_for(self, error: FraudError) -> None:
        self.waiting_for = str(error)
        self._metrics.set("ready", 0)

    def step(self, consumer: Consumer) -> None:
        """Poll once, and write the tables that are due.

        Raises:
            BrokerUnavailable: Kafka did not answer; call again.
            MembershipLost, Fenced: another archiver has the partitions; close, and join anew.
            ArchiveUnavailable: the archive did not answer; likewise.
        """
        messages = consumer.poll_batch(min(MAX_ROWS, self._flush_rows), POLL_S)
        if self._lost:
            raise MembershipLost(self._lost)
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        for topic, some in by_topic.items():
            self._take(self._names[topic], some)
        now = self._monotonic()
        for name, buffer in self._buffers.items():
            late = buffer.waiting and now - buffer.since >= self._flush_after_s
            if buffer.rows >= self._flush_rows or late:
                self._flush(name)
                self._commit(consumer, name)

    def flush(self, consumer: Consumer) -> None:
        """Write everything that was read; raises as `step`."""
        for name in TABLES:
            self._flush(name)
            self._commit(consumer, name)

    def _start(self, app_id: str, written: int | None, low: int, end: int) -> int:
        start = written or 0
        if start > end:
            raise ConfigurationError(
                f"{app_id} was archived up to {start}, but ends at {end}: the topic was made anew; "
                "give FRAUD_ARCHIVE_URL a new place"
            )
        if start < low:
            if written is not None:
                log.error("rows are lost: Kafka has deleted them", place=app_id, rows=low - start)
            return low
        return start

    def _take(self, name: str, messages: Sequence[Message]) -> None:
        self._metrics.count("records", len(messages), topic=messages[0].topic)
        buffer = self._buffers[name]
        rows = self._decoding.rows(name, messages)
        if rows.rejected:
            self.counts.rejected[name] += len(rows.rejected)
            self._metrics.count("refused", len(rows.rejected), kind=name)
            place, error = rows.rejected[0]
            log.warning(
                "left out", table=name, rows=len(rows.rejected),
                partition=messages[place].partition, offset=messages[place].offset,
                reason=str(error),
            )  # fmt: skip
        if name in WITH_SOURCE:
            rows = self._once(name, rows)
        if not buffer.waiting:
            buffer.waiting, buffer.since = True, self._monotonic()
        for message in messages:
            buffer.read[message.partition] = message.offset + 1
        if rows.table.num_rows:
            buffer.parts.append(rows.table)
            buffer.rows += rows.table.num_rows

    def _once(self, name: str, rows: TableRows) -> TableRows:
        """Leave out rows whose source position is archived: a re-emission repeats earlier ones."""
        buffer = self._buffers[name]
        partition, offset = rows.column("source_partition"), rows.column("source_offset")
        fresh = buffer.answered.fresh(partition, offset)
        self.counts.repeated[name] += int((~fresh).sum())
        partition, offset = partition[fresh], offset[fresh]
        buffer.answered.note(partition, offset)
        for number in np.unique(partition).tolist():
            buffer.highest[number] = int(offset[partition == number].max())
        return rows.take(fresh)

    def _flush(self, name: str) -> None:
        buffer = self._buffers[name]
        if not buffer.waiting:
            return
        began = self._monotonic()
        empty = SCHEMAS[name].empty_table()
        self._archive.append(
            name, pa.concat_tables(buffer.parts) if buffer.parts else empty, buffer.positions()
        )
        self.counts.archived[name] += buffer.rows
        self.counts.commits += 1
        self._metrics.count("archived", buffer.rows, table=name)
        self._metrics.observe("stage_seconds", self._monotonic() - began, stage="append")
        log.info("written", table=name, rows=buffer.rows, seconds=self._monotonic() - began)
        buffer.done()

    def _commit(self, consumer: Consumer, name: str) -> None:
        """Commit the position of the archive for the group; only displays of lag use it."""
        buffer = self._buffers[name]
        consumer.commit(
            {TopicPartition(buffer.topic, number): after for number, after in buffer.read.items()}
        )
        for place, lag in consumer.lag().items():
            self._metrics.set("lag", lag, topic=place.topic, partition=str(place.partition))
