"""The scoring loop: vectors in, decisions out, each position once. `python -m scorer run` runs it.

poll → decode → drop what has an answer → decide → publish → commit. Offsets are committed only
after the decisions are acknowledged; a new owner reads the tail of its `decisions` partition and so
knows what was answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import structlog

from runtime.clock import Clock
from runtime.kafka.protocols import BY_KEY, Consumer, Message, Producer, TopicPartition
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.retries import Errors, Retry, Stopped
from schemas.codec import avro
from schemas.codec.vectors import DecodedVectors, decode_feature_vectors
from schemas.dead_letters import dead_letter
from schemas.errors import (
    BadMessage,
    BrokerUnavailable,
    FatalError,
    InvalidField,
    MembershipLost,
    Rejected,
    TemporaryError,
)
from scorer.answered import NOTHING, Answered
from scorer.decision.decide import ACTIONS, ROLES, Serving, decide

log = structlog.get_logger(__name__)
SERVICE: Final = "scorer"
GROUP: Final = "scorer"
MAX_ROWS: Final = 2_000
POLL_S: Final = 0.2
COMMIT_EVERY_S: Final = 0.1
"""How often decisions are awaited and offsets committed: a flush a batch costs throughput."""
TAIL: Final = 200
"""Messages of a decisions partition that are read to find the last answered position."""
LEASE_S: Final = 4.0
"""A process that was suspended for so long may have lost its partitions (after 6 s of silence)."""


class Scorer:
    """Owns the assigned partitions of `features`. Single-threaded; `serving` is asked once a batch.

    Args:
        decisions, dead_letter: full topic names.
        tail: returns the last messages of a partition of `decisions`.
    """

    def __init__(
        self,
        *,
        producer: Producer,
        decisions: str,
        dead_letter: str,
        serving: Callable[[], Serving],
        tail: Callable[[int], Sequence[Message]],
        clock: Clock,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer, self._decisions, self._dead_letter = producer, decisions, dead_letter
        self._serving, self._tail, self._clock, self._metrics = serving, tail, clock, metrics
        self._monotonic = monotonic
        self._answered = Answered()
        self._next: dict[TopicPartition, int] = {}
        self._committed_at = monotonic()
        self._stop = StopSignal(install=False)
        self.partitions: set[TopicPartition] = set()
        self.waiting_for = ""
        """What it waits for, "" if nothing: Kafka's error."""

    def assigned(self, places: list[TopicPartition]) -> None:
        """Take partitions over: find out what was answered there. Waits for Kafka if it must."""
        for place in places:
            self._answered.know(place.partition, self._last_answered(place.partition))
        self.partitions |= set(places)
        self._metrics.set("partitions", len(self.partitions))

    def revoked(self, places: list[TopicPartition]) -> None:
        """Let partitions go: what was published must have arrived before somebody else goes on."""
        self.partitions -= set(places)
        self._metrics.set("partitions", len(self.partitions))
        self._metrics.forget("lag")
        for place in places:
            self._next.pop(place, None)
        try:
            self._producer.flush()
        except BrokerUnavailable as error:
            log.warning("let partitions go without an acknowledgement", reason=str(error))

    def run(self, join: Callable[[], Consumer], stop: StopSignal) -> None:
        """Serve until told to stop, as a member of the group that `join` opens.

        Raises:
            FatalError: Kafka will never take a decision.
        """
        self._stop = stop
        with suppress(Stopped):
            while not stop:
                self._retry(MembershipLost)(lambda: self._serve(join(), stop))

    def _serve(self, consumer: Consumer, stop: StopSignal) -> None:
        """Serve as one member of the group, until told to stop or until it has lost that."""
        retry = self._retry(BrokerUnavailable)
        try:
            with suppress(Stopped):
                while not stop:
                    retry(lambda: self.step(consumer))
                    self.waiting_for = ""
                    self._metrics.set("ready", 1)
            try:
                self._acknowledge(consumer)
            except BrokerUnavailable as error:  # the next owner finds out what arrived
                log.warning("left without an acknowledgement", reason=str(error))
        except MembershipLost:
            self.revoked(list(self.partitions))
            raise
        finally:
            consumer.close()

    def _retry(self, errors: Errors) -> Retry:
        return Retry(self._stop, self._metrics, errors, on_wait=self._waits_for)

    def _waits_for(self, error: TemporaryError) -> None:
        self.waiting_for = str(error)
        self._metrics.set("ready", 0)

    def step(self, consumer: Consumer) -> None:
        """Poll once, answer what came, and commit now and then.

        Raises:
            BrokerUnavailable: Kafka did not answer; nothing is lost, call again.
            FatalError: Kafka will never take a decision, or took only some of a batch.
        """
        if self.waiting_for:
            self._acknowledge(consumer)
        asked = self._monotonic()
        messages = consumer.poll_batch(MAX_ROWS, POLL_S if not self._next else COMMIT_EVERY_S)
        if messages:
            began = self._monotonic()
            if not self._answer(messages, asked):
                self._read_again(consumer, messages)
                return
            self._metrics.observe("batch_rows", len(messages))
            self._metrics.observe("stage_seconds", self._monotonic() - began, stage="batch")
            for message in messages:
                self._next[TopicPartition(message.topic, message.partition)] = message.offset + 1
        if self._next and self._monotonic() - self._committed_at >= COMMIT_EVERY_S:
            self._acknowledge(consumer)
            for place, lag in consumer.lag().items():
                self._metrics.set("lag", lag, topic=place.topic, partition=str(place.partition))

    def _read_again(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        """Go back to the first of `messages`; the next poll tells if another owns them now."""
        log.warning("stood still", rows=len(messages), seconds=LEASE_S)
        self._metrics.count("retries", step="stood still")
        for message in reversed(messages):
            place = TopicPartition(message.topic, message.partition)
            if place in self.partitions:
                consumer.seek(place, message.offset)

    def _answer(self, messages: Sequence[Message], asked: float) -> bool:
        """Publish the decisions; do not, and return False, if it stood still since `asked`."""
        self._metrics.count("records", len(messages), topic=messages[0].topic)
        began = self._monotonic()
        vectors = decode_feature_vectors([message.value for message in messages])
        self._refuse(messages, vectors.rejected)
        vectors = self._in_place(messages, vectors)
        fresh = self._answered.fresh(vectors.source_partition, vectors.source_offset)
        if not fresh.all():
            self._metrics.count("answered_before", int((~fresh).sum()))
            vectors = vectors.take(np.flatnonzero(fresh))
        decoded = self._monotonic()
        self._metrics.observe("stage_seconds", decoded - began, stage="decode")
        if len(vectors) == 0:
            return True
        now_us = self._clock.now_us()
        found = decide(vectors, self._serving(), now_us)
        decided = self._monotonic()
        if decided - asked > LEASE_S:
            return False
        self._metrics.observe("stage_seconds", decided - decoded, stage="decide")
        numbers = vectors.source_partition.tolist()
        try:
            self._producer.produce_many(
                self._decisions, zip(numbers, vectors.keys(), found.messages, strict=True)
            )
        except BrokerUnavailable as error:  # who starts anew reads from `decisions` which it took
            raise FatalError(f"Kafka took only some decisions of a batch: {error}") from error
        self._answered.note(vectors.source_partition, vectors.source_offset)
        self._metrics.observe("stage_seconds", self._monotonic() - decided, stage="publish")
        self._count(vectors, found.action, found.role)
        for reason, count in found.degraded.items():
            self._metrics.count("degraded", count, reason=reason)
        for rule, count in found.rule_hits.items():
            self._metrics.count("rule_hits", count, rule=rule)
        return True

    def _count(
        self,
        vectors: DecodedVectors,
        action: np.typing.NDArray[np.uint8],
        role: np.typing.NDArray[np.uint8],
    ) -> None:
        self._metrics.count("published", len(vectors), topic=self._decisions)
        pairs, counts = np.unique(action * len(ROLES) + role, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            decision, own = ACTIONS[pair // len(ROLES)], ROLES[pair % len(ROLES)]
            self._metrics.count("decisions", count, decision=decision, model_role=own)
        now_ms = self._clock.now_ms()
        oldest = int(vectors.received_at.min())
        self._metrics.observe("latency_seconds", max(now_ms - oldest, 0) / 1e3)
        newest = int(vectors.event_time.max())
        self._metrics.set("freshness_seconds", max(now_ms - newest, 0) / 1e3)

    def _in_place(self, messages: Sequence[Message], vectors: DecodedVectors) -> DecodedVectors:
        """Refuse vectors that are not in the partition that they name: positions would mix."""
        actual = np.fromiter((message.partition for message in messages), np.int64, len(messages))
        right = vectors.source_partition == actual[vectors.rows]
        if right.all():
            return vectors
        wrong = np.flatnonzero(~right)
        self._refuse(
            messages,
            (
                (
                    int(vectors.rows[row]),
                    InvalidField(
                        f"source_partition {vectors.source_partition[row]} is not the partition "
                        f"{actual[vectors.rows[row]]} that it came in",
                        field="source_partition",
                        value=int(vectors.source_partition[row]),
                    ),
                )
                for row in wrong.tolist()
            ),
        )
        return vectors.take(np.flatnonzero(right))

    def _refuse(self, messages: Sequence[Message], rejected: Iterable[Rejected]) -> None:
        for row, error in rejected:
            message = messages[row]
            key, letter = dead_letter(
                message.topic,
                message.partition,
                message.offset,
                message.key,
                message.value,
                error,
                self._clock.now_ms(),
                SERVICE,
            )
            self._producer.produce(self._dead_letter, key, letter, BY_KEY)
            self._metrics.count("dead_letters", error_class=type(error).__name__)

    def _acknowledge(self, consumer: Consumer) -> None:
        """Commit what was read, once Kafka has every decision of it."""
        self._producer.flush()
        consumer.commit(self._next)
        self._next.clear()
        self._committed_at = self._monotonic()

    def _last_answered(self, partition: int) -> int:
        last = NOTHING
        for message in self._read_tail(partition):
            try:
                name, decision = avro.decode(message.value or b"")
            except BadMessage as error:  # somebody else's: it answers nothing
                log.warning("unreadable decision", offset=message.offset, reason=str(error))
                continue
            if name == "Decision" and decision["source_partition"] == partition:
                last = max(last, int(decision["source_offset"]))
        return last

    def _read_tail(self, partition: int) -> Sequence[Message]:
        try:
            return self._retry(BrokerUnavailable)(lambda: self._tail(partition))
        except Stopped:
            raise BrokerUnavailable("asked to stop before it was known what was answered") from None
