"""Sends analysts' final verdicts to the topic `labels`, on a thread of the dashboard.

A verdict is read from the database, sent, and marked as sent once Kafka has acknowledged it. If the
process dies in between, its restart or another dashboard sends the label again, with the same
bytes. Stream processor, monitor and trainer count such copies as one label.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from dashboard.review.case_counts import CaseCounts
from database.core.database import Database
from database.review.case_labels import labels_sent, lease_labels, unsent_labels
from runtime.clock import Clock
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.protocols import BY_KEY, Outgoing, Producer
from runtime.kafka.topic_admin import create_topics
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import avro
from schemas.errors import DeliveryRejected, FraudError
from schemas.records import Label
from schemas.topics import LABELS

log = structlog.get_logger(__name__)
ROUND_EVERY_S: Final = 0.5
COUNT_EVERY_S: Final = 5.0
KAFKA_WAIT_S: Final = 2.0
"""Longest wait for Kafka before the thread checks whether to stop."""


class LabelSender:
    """A context manager whose thread calls `step` regularly.

    Args:
        connect: returns a new producer; called again after Kafka has rejected a message.
        topic: name of the topic `labels` on the broker.
        undo_ms: age at which a verdict is final.
    """

    def __init__(
        self,
        database: Database,
        connect: Callable[[], Producer],
        *,
        topic: str,
        undo_ms: int,
        clock: Clock,
        metrics: Metrics,
        counts: CaseCounts,
    ) -> None:
        self._database, self._connect, self._counts = database, connect, counts
        self._topic, self._undo_ms = topic, undo_ms
        self._clock, self._metrics = clock, metrics
        self._producer: Producer | None = None
        self._under_way: dict[int, Label] = {}
        self._handed_over = False
        self._count_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)
        self.trouble = ""
        """Reason why verdicts wait, for people; empty if they do not."""

    def __enter__(self) -> Self:
        """Start sending."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending. Labels that are not acknowledged by then are sent again later."""
        self._stopped.set()
        self._thread.join()
        self._let_go()

    def step(self) -> int:
        """Send the final verdicts; return how many labels were acknowledged.

        Raises:
            BrokerUnavailable: not acknowledged yet; call again, which sends nothing twice.
            DeliveryRejected: Kafka rejects a label; call again once the cause is fixed.
            DatabaseUnavailable: call again.
        """
        if not self._under_way:
            self._under_way = self._due()
        if not self._under_way:
            return 0
        try:
            self._hand_over().flush(KAFKA_WAIT_S)
        except DeliveryRejected:
            self._let_go()
            raise
        sent = self._under_way
        with self._database.begin() as connection:
            labels_sent(connection, sent, self._clock.now_ms())
        self._under_way, self._handed_over = {}, False
        transactions = [label["transaction_id"] for label in sent.values()]
        log.info("labels sent", count=len(sent), transactions=transactions)
        return len(sent)

    def count(self) -> None:
        """Set the queue's metrics.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        now = self._clock.now_ms()
        counters = self._counts.get(self._database, now)
        with self._database.read() as connection:
            unsent = unsent_labels(connection)
        self._metrics.set("cases", counters.free, state="free")
        self._metrics.set("cases", counters.claimed, state="claimed")
        self._metrics.set("cases", unsent, state="label_unsent")

    def _due(self) -> dict[int, Label]:
        with self._database.read() as connection:  # no lock unless there is something to send
            if not unsent_labels(connection):
                return {}
        with self._database.begin() as connection:
            return lease_labels(connection, self._clock.now_ms(), self._undo_ms)

    def _hand_over(self) -> Producer:
        """Hand the labels under way to the producer, once."""
        if self._producer is None:
            self._producer = self._connect()
        if not self._handed_over:
            records: list[Outgoing] = [
                (BY_KEY, label["card_id"].encode(), avro.encode("Label", label))
                for label in self._under_way.values()
            ]
            self._producer.produce_many(self._topic, records)
            self._metrics.count("published", len(records), topic=LABELS.name)
            self._handed_over = True
        return self._producer

    def _let_go(self) -> None:
        """Drop the producer; the next one sends the labels under way, with the same bytes."""
        if self._producer is not None:
            self._producer.close()
        self._producer, self._handed_over = None, False

    def _run(self) -> None:
        try:
            while not self._stopped.wait(ROUND_EVERY_S):
                self._round()
        except BaseException as error:
            self.trouble = f"verdicts are no longer sent, restart the dashboard: {error!r}"
            raise

    def _round(self) -> None:
        try:
            if time.monotonic() >= self._count_at:  # first, to show labels that wait for Kafka
                self.count()
                self._count_at = time.monotonic() + COUNT_EVERY_S
            if self.step():
                self.count()
            self.trouble = ""
        except FraudError as error:
            if not self.trouble:
                log.warning("verdicts are waiting", reason=str(error))
            self._metrics.count("retries", step="labels")
            self.trouble = f"Verdicts are waiting and none is lost: {error}"


def label_sender(
    settings: Settings, database: Database, clock: Clock, metrics: Metrics, counts: CaseCounts
) -> LabelSender:
    """Return a sender configured by the settings, not yet started or connected to Kafka."""

    def connect() -> Producer:
        create_topics(settings, KAFKA_WAIT_S, "dashboard")
        return KafkaProducer(settings)

    return LabelSender(
        database,
        connect,
        topic=settings.topic(LABELS),
        undo_ms=settings.case_undo.ms,
        clock=clock,
        metrics=metrics,
        counts=counts,
    )
