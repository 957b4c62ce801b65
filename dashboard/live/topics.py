"""Follows the topics that the pages show, on a thread; decisions and labels from near their end.

Kafka may be unreachable, even at the start. Then `problem` has the reason, and the connection is
tried again until Kafka answers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from dashboard.live.journal import Journal
from dashboard.live.recent_decisions import RecentDecisions
from dashboard.live.recent_labels import RecentLabels
from runtime.clock import Clock
from runtime.kafka.follower import Feed, Follower
from runtime.kafka.protocols import Message
from runtime.kafka.reader import KafkaReader, offset_bounds, offsets_at
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings
from schemas.topics import ALERTS, DAY_MS, DECISIONS, LABELS, MODELS, POLICY, TopicSpec

POLL_S: Final = 0.2
MAX_MESSAGES: Final = 10_000
MAX_LABELS: Final = 1_000
TAIL: Final = 2_000
"""Decisions per partition that are read at the start, so that the page is not empty."""
LABEL_TAIL: Final = 20_000
OLDEST_MS: Final = 10_000
"""Decisions of a backlog that are older than this are skipped; the page shows the newest."""
ALERT_DAYS: Final = 7
SMALL: Final = (ALERTS, MODELS, POLICY)


class LiveTopics:
    """The state of the followed topics; hold `lock` to read `journal`, `decided` and `labels`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.journal = Journal()
        self.decided = RecentDecisions()
        self.problem = "connecting"
        self._settings, self._clock = settings, clock
        self._pan_key = settings.pan_key
        self.labels = RecentLabels(self._pan_key)
        self._follower = Follower("the topics of the live page", self._open, self._note)

    def start(self) -> None:
        """Start following; returns at once."""
        self._follower.start_patiently()

    def stop(self) -> None:
        """Stop following."""
        self._follower.stop()

    def _note(self, problem: str) -> None:
        self.problem = problem

    def _open(self) -> list[Feed]:
        """Open the readers; the small topics are read to their end."""
        create_topics(self._settings, 3.0, "dashboard")
        journal, feeds = Journal(), list[Feed]()
        with ExitStack() as opened:
            for spec in SMALL:
                topic = self._settings.topic(spec)
                reader = KafkaReader(self._settings, topic, self._from(spec.name))
                opened.callback(reader.close)
                journal.take(spec.name, reader.read_to_end())
                feeds.append(
                    Feed(reader, partial(self._take_journal, spec.name), 0.0, MAX_MESSAGES)
                )
            labels = self._tail(LABELS, LABEL_TAIL)
            opened.callback(labels.close)
            feeds.append(Feed(labels, self._take_labels, 0.0, MAX_LABELS))
            decisions = Feed(
                self._tail(DECISIONS, TAIL), self._take_decisions, POLL_S, MAX_MESSAGES
            )
            feeds.append(decisions)
            opened.pop_all()
        self._decisions = decisions
        with self.lock:
            self.journal = journal
        self.problem = ""
        return feeds

    def _take_journal(self, name: str, messages: Sequence[Message]) -> None:
        with self.lock:
            self.journal.take(name, messages)

    def _take_labels(self, messages: Sequence[Message]) -> None:
        with self.lock:
            self.labels.take(messages)

    def _take_decisions(self, messages: Sequence[Message]) -> None:
        with self.lock:
            self.decided.take(messages)
        if len(messages) == MAX_MESSAGES and self._is_old(messages[-1]):
            newest = self._tail(DECISIONS, 0)
            self._decisions.source.close()
            self._decisions.source = newest

    def _tail(self, spec: TopicSpec, count: int) -> KafkaReader:
        """Return a reader that starts `count` records before the end of each partition."""
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
