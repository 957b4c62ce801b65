"""The scoring loop: vectors in, decisions out, exactly one for each source position.

poll → decode → drop what is already answered → decide → publish → commit. Offsets are committed
only after Kafka has acknowledged the decisions. A new owner of a partition reads the tail of its
`decisions` partition to find the last answered position.
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
"""How often decisions are flushed and offsets committed: a flush per batch costs throughput."""
TAIL_MESSAGES: Final = 200
"""Messages read at the end of a `decisions` partition to find the last answered position."""
LEASE_S: Final = 4.0
"""After a suspension of this length the partitions may be lost: Kafka reassigns them after 6 s."""


class Scorer:
    """Answers the vectors of the assigned partitions of `features`. Single-threaded.

    Args:
        decisions, dead_letter: full topic names.
        serving: returns the models and the policy in force; called once per batch.
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
        """Kafka's error while the scorer waits for Kafka, else ""."""

    def assigned(self, places: list[TopicPartition]) -> None:
        """Take over partitions and find the last answered position of each. May wait for Kafka."""
        for place in places:
            self._answered.know(place.partition, self._last_answered(place.partition))
        self.partitions |= set(places)
        self._metrics.set("partitions", len(self.partitions))

    def revoked(self, places: list[TopicPartition]) -> None:
        """Give up partitions; their decisions must reach Kafka before the next owner continues."""
        self.partitions -= set(places)
        self._metrics.set("partitions", len(self.partitions))
        self._metrics.forget("lag")
        for place in places:
            self._next.pop(place, None)
        try:
            self._producer.flush()
        except BrokerUnavailable as error:
            log.warning("partitions given up without an acknowledgement", reason=str(error))

    def run(self, join: Callable[[], Consumer], stop: StopSignal) -> None:
        """Serve until `stop` is set; `join` makes a member of the consumer group.

        Raises:
            FatalError: Kafka will never accept a decision.
        """
        self._stop = stop
        with suppress(Stopped):
            while not stop:
                self._retry(MembershipLost)(lambda: self._run_as_member(join(), stop))

    def _run_as_member(self, consumer: Consumer, stop: StopSignal) -> None:
        """Serve as a member of the group until `stop` is set or the membership is lost."""
        retry = self._retry(BrokerUnavailable)
        try:
            with suppress(Stopped):
                while not stop:
                    retry(lambda: self.step(consumer))
                    self.waiting_for = ""
                    self._metrics.set("ready", 1)
            try:
                self._acknowledge(consumer)
            except BrokerUnavailable as error:  # the next owner sees what arrived
                log.warning("stopped without an acknowledgement", reason=str(error))
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
        """Poll once, answer the vectors, and commit every COMMIT_EVERY_S.

        Raises:
            BrokerUnavailable: Kafka did not answer; nothing is lost, call again.
            FatalError: Kafka will never accept a decision, or accepted only part of a batch.
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
        """Go back to the first of `messages`; the next poll shows whether we still own them."""
        log.warning("suspended for too long, reading again", rows=len(messages), seconds=LEASE_S)
        self._metrics.count("retries", step="stood still")
        for message in reversed(messages):
            place = TopicPartition(message.topic, message.partition)
            if place in self.partitions:
                consumer.seek(place, message.offset)

    def _answer(self, messages: Sequence[Message], asked: float) -> bool:
        """Publish the decisions and return True; return False if `asked` is LEASE_S ago."""
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
        except BrokerUnavailable as error:  # after a restart `decisions` shows the accepted ones
            raise FatalError(f"Kafka took only part of a batch: {error}") from error
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
        """Refuse vectors outside the partition that they name: source positions would mix."""
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
                        f"source_partition is {vectors.source_partition[row]}, but the vector came "
                        f"in partition {actual[vectors.rows[row]]}",
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
        """Commit the offsets read so far, once Kafka has acknowledged all their decisions."""
        self._producer.flush()
        consumer.commit(self._next)
        self._next.clear()
        self._committed_at = self._monotonic()

    def _last_answered(self, partition: int) -> int:
        last = NOTHING
        for message in self._read_tail(partition):
            try:
                name, decision = avro.decode(message.value or b"")
            except BadMessage as error:  # not written by a scorer, so it answers nothing
                log.warning("unreadable decision", offset=message.offset, reason=str(error))
                continue
            if name == "Decision" and decision["source_partition"] == partition:
                last = max(last, int(decision["source_offset"]))
        return last

    def _read_tail(self, partition: int) -> Sequence[Message]:
        try:
            return self._retry(BrokerUnavailable)(lambda: self._tail(partition))
        except Stopped:
            raise BrokerUnavailable("stopped before the last answered position was known") from None
