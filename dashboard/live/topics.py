"""Follows the topics that the pages show, on a thread: decisions and labels from near their end on.

Kafka may be away, also at the start: `problem` says so, and it is tried again until it answers.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from typing import Final

import structlog

from dashboard.live.journal import Journal
from dashboard.live.recent_decisions import Decided
from dashboard.live.recent_labels import KnownLabels
from runtime.clock import Clock
from runtime.kafka.protocols import Message
from runtime.kafka.reader import KafkaReader, offset_bounds, offsets_at
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings
from schemas.errors import FraudError
from schemas.topics import ALERTS, DAY_MS, DECISIONS, LABELS, MODELS, POLICY, TopicSpec

log = structlog.get_logger(__name__)
POLL_S: Final = 0.2
MAX_ROWS: Final = 10_000
MAX_LABELS: Final = 1_000
TAIL: Final = 2_000
"""Decisions of each partition that are read at the start, so that the page is not empty."""
LABEL_TAIL: Final = 20_000
OLDEST_MS: Final = 10_000
"""Of a backlog, decisions older than this are passed over: the newest are shown, not all."""
ALERT_DAYS: Final = 7
RETRY_S: Final = 1.0
SMALL: Final = (ALERTS, MODELS, POLICY)


class Topics:
    """The state of the topics; take `lock` to read `journal`, `decided` and `labels`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.journal = Journal()
        self.decided = Decided()
        self.problem = "connecting"
        self._settings, self._clock = settings, clock
        key = settings.pan_hmac_key
        self._pan_key = key.get_secret_value().encode() if key else None
        self.labels = KnownLabels(self._pan_key)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="topics", daemon=True)

    def start(self) -> None:
        """Follow from now on; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join(5.0)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._once()
            except FraudError as error:
                self.problem = str(error)
                log.warning("topics are not followed", reason=str(error))
                self._stop.wait(RETRY_S)

    def _once(self) -> None:
        """Open the readers and follow until Kafka goes away or the end is asked for."""
        create_topics(self._settings, timeout_s=3.0)
        with ExitStack() as opened:
            with self.lock:
                self.journal, self.decided = Journal(), Decided()
            small = {
                spec.name: opened.enter_context(
                    closing(
                        KafkaReader(
                            self._settings, self._settings.topic(spec), self._from(spec.name)
                        )
                    )
                )
                for spec in SMALL
            }
            for name, reader in small.items():
                messages = reader.read_to_end()
                with self.lock:
                    self.journal.take(name, messages)
            decisions = self._tail(DECISIONS, TAIL)
            labels = opened.enter_context(closing(self._tail(LABELS, LABEL_TAIL)))
            self.problem = ""
            try:
                while not self._stop.is_set():
                    for name, reader in small.items():
                        messages = reader.poll_batch(MAX_ROWS, 0.0)
                        with self.lock:
                            self.journal.take(name, messages)
                    messages = labels.poll_batch(MAX_LABELS, 0.0)
                    with self.lock:
                        self.labels.take(messages)
                    messages = decisions.poll_batch(MAX_ROWS, POLL_S)
                    with self.lock:
                        self.decided.take(messages)
                    if len(messages) == MAX_ROWS and self._is_old(messages[-1]):
                        decisions.close()
                        decisions = self._tail(DECISIONS, 0)
            finally:
                decisions.close()

    def _tail(self, spec: TopicSpec, count: int) -> KafkaReader:
        """Return a reader from `count` before the end of each partition on."""
        topic = self._settings.topic(spec)
        bounds = offset_bounds(self._settings, topic)
        starts = {number: max(end - count, first) for number, (first, end) in bounds.items()}
        return KafkaReader(self._settings, topic, starts)

    def _is_old(self, message: Message) -> bool:
        return self._clock.now_ms() - message.timestamp > OLDEST_MS

    def _from(self, name: str) -> dict[int, int] | None:
        if name != ALERTS.name:
            return None
        since = self._clock.now_ms() - ALERT_DAYS * DAY_MS
        return offsets_at(self._settings, self._settings.topic(ALERTS), since)
