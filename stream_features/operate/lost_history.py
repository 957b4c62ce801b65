"""What a rebuild cannot replay because Kafka has deleted it: how much, of which days, and how long
features feel it.

Transactions are kept for 7 days and features look back 30, so this is the usual case once a system
has run for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from runtime.kafka.protocols import Message, TopicPartition
from runtime.kafka.reader import KafkaReader, offset_bounds
from runtime.settings import Settings
from schemas.codec.decisions import decode_decisions
from schemas.topics import DECISIONS, LABELS, TRANSACTIONS
from stream_features.engine.passes.workspace import RETENTION

HEAD: Final = 100
"""Records read at the beginning of a partition."""
Times = Callable[[TopicPartition, Sequence[Message]], list[int]]
"""Returns the times (ms) of the records that can be read: of the event, or of the label."""
Gaps = Mapping[TopicPartition, tuple[int, int]]
"""First deleted offset and first one that is there again, by partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostHistory:
    """Records that the lost state was made of and that Kafka no longer has.

    Attributes:
        transactions, labels: the gaps of each topic.
        oldest_ms: event time of the oldest decision that is still kept on one of the transactions.
        transactions_whole_ms: event time from which on every transaction is there.
        labels_whole_ms: label time from which on every label is there.
    """

    transactions: Gaps
    labels: Gaps
    oldest_ms: int | None
    transactions_whole_ms: int
    labels_whole_ms: int

    def text(self) -> str:
        """Say in whole sentences what is missing and what follows from it."""
        parts = []
        if self.transactions:
            until = _day(self.transactions_whole_ms)
            days = f"until {until}"
            if self.oldest_ms is not None:
                days = f"from {_day(self.oldest_ms)} (or earlier) to {until}"
            parts.append(
                f"{_count(self.transactions)} transactions, of event days {days}, are no longer in "
                f"Kafka ({_places(self.transactions)}): features that look back up to 30 days are "
                f"too small until {_day(self.transactions_whole_ms + RETENTION)}."
            )
        if self.labels:
            parts.append(
                f"{_count(self.labels)} labels from before {_day(self.labels_whole_ms)} are no "
                f"longer in Kafka ({_places(self.labels)}): their frauds do not count in the rates "
                "of merchants, devices and IP addresses."
            )
        return " ".join(parts)


def lost_history(
    settings: Settings,
    starts: Mapping[TopicPartition, int],
    targets: Mapping[TopicPartition, int],
    *,
    times: Times,
    newest_ms: int,
) -> LostHistory | None:
    """Return what lies between `starts` and `targets` and is deleted, or None. Blocks.

    Records of which the state at `newest_ms` holds nothing any more are not missed.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    kept_since = newest_ms - RETENTION - settings.label_delay.ms
    gaps: dict[str, Gaps] = {}
    whole: dict[str, int] = {}
    for spec in (TRANSACTIONS, LABELS):
        topic = settings.topic(spec)
        found = _gaps(settings, topic, starts, targets)
        whole[topic] = _whole_from(settings, found, times, newest_ms)
        gaps[topic] = found if whole[topic] > kept_since else {}
    transactions, labels = (settings.topic(spec) for spec in (TRANSACTIONS, LABELS))
    if not gaps[transactions] and not gaps[labels]:
        return None
    return LostHistory(
        transactions=gaps[transactions],
        labels=gaps[labels],
        oldest_ms=_oldest_decision(settings, gaps[transactions]),
        transactions_whole_ms=whole[transactions],
        labels_whole_ms=whole[labels],
    )


def _gaps(
    settings: Settings,
    topic: str,
    starts: Mapping[TopicPartition, int],
    targets: Mapping[TopicPartition, int],
) -> Gaps:
    found = {}
    for number, (first, _) in offset_bounds(settings, topic).items():
        at = TopicPartition(topic, number)
        start = starts.get(at, 0)
        if start < min(first, targets.get(at, 0)):
            found[at] = (start, first)
    return found


def _whole_from(settings: Settings, gaps: Gaps, times: Times, newest_ms: int) -> int:
    """Return the time of the first records behind the gaps; `newest_ms` if there are none."""
    found = []
    for at, (_, first) in gaps.items():
        known = times(at, _head(settings, at.topic, at.partition, first))
        found.append(known[0] if known else newest_ms)
    return max(found, default=0)


def _oldest_decision(settings: Settings, gaps: Gaps) -> int | None:
    """Return the event time of the oldest decision on a deleted transaction; they live longer."""
    topic, found = settings.topic(DECISIONS), []
    bounds = offset_bounds(settings, topic)
    for at, (_, first) in gaps.items():
        start, _ = bounds.get(at.partition, (0, 0))
        head = _head(settings, topic, at.partition, start)
        decided = decode_decisions([message.value for message in head])
        deleted = decided.number("source_offset") < first
        found += decided.number("event_time")[deleted].tolist()
    return min(found, default=None)


def _head(settings: Settings, topic: str, number: int, first: int) -> list[Message]:
    """Return the first records of a partition, from offset `first` on."""
    reader = KafkaReader(settings, topic, {number: first})
    _, end = offset_bounds(settings, topic)[number]
    try:
        while reader.positions()[number] < end:
            found = reader.poll_batch(HEAD, 1.0)
            if found:
                return found
        return []
    finally:
        reader.close()


def _count(gaps: Gaps) -> str:
    return f"{sum(following - first for first, following in gaps.values()):,}"


def _places(gaps: Gaps) -> str:
    return ", ".join(
        f"{at.topic}[{at.partition}] offsets {first} to {following - 1}"
        for at, (first, following) in sorted(gaps.items())
    )


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
