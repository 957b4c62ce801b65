"""Everything that the monitor remembers of the traffic: messages in, bounded state. No I/O.

`service` hands over what came on each topic; `figures` and the guard read what is kept here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from monitor.judge.guard import Sample
from monitor.observe.active_hours import ActiveHours
from monitor.observe.drift import SCORE, Window, feature_window, score_window
from monitor.observe.quality import Quality
from monitor.observe.served_models import Histograms
from monitor.observe.shift import ScoreShift
from monitor.observe.timing import Delays, Freshness
from runtime.kafka.protocols import Message
from schemas.codec.decisions import DecodedDecisions, decode_decisions
from schemas.codec.vectors import decode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, ConfigurationError
from schemas.features import ANOMALY_FEATURE, DAY
from schemas.keys import hash_id
from schemas.topics import DECISIONS, FEATURES, LABELS
from schemas.validation import SchemaRegistry, read_label

CLOCKED: Final = 200
STRAYS: Final = 20
"""One in so many of the newest CLOCKED decisions may be ahead of the others: a transaction of today
among replayed ones must not move the time by years."""
VECTOR, DECISION = "vector", "decision"
"""Stages: from received to vector, from vector to decision."""
_COLUMN: Final = {SCORE: "score", ANOMALY_FEATURE: "anomaly"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How much is remembered: records of the join, see `quality`; hours of the drift window."""

    approved: int = 2_000_000
    flagged: int = 500_000
    waiting: int = 250_000
    label_delay_ms: int = 7 * DAY
    drift_hours: int = 24


class Observations:
    """State fed by the topics. Every method returns how many messages were refused.

    Args:
        registry, pan_key: for labels in other encodings and with card numbers.
        replayed: the clock is that of the events, long before messages reached the broker.
    """

    def __init__(
        self,
        memory: Memory,
        currencies: CurrencyTable,
        *,
        registry: SchemaRegistry | None = None,
        pan_key: bytes | None = None,
        replayed: bool = False,
    ) -> None:
        self.quality = Quality(
            approved=memory.approved,
            flagged=memory.flagged,
            waiting=memory.waiting,
            label_delay_ms=memory.label_delay_ms,
        )
        self.active = ActiveHours()
        self.features: Window | None = None
        """Over the champion's reference, of all vectors."""
        self.scores: dict[str, Window] = {}
        """Of each serving model, of its own decisions."""
        self.shifts: dict[str, ScoreShift] = {}
        self.label_delay = Delays()
        self.stage_delay = {VECTOR: Delays(), DECISION: Delays()}
        """Milliseconds of the labels, microseconds of the stages."""
        self.freshness = Freshness()
        self._memory, self._currencies = memory, currencies
        self._replayed = replayed
        self._registry, self._pan_key = registry, pan_key
        self._event_times: deque[int] = deque(maxlen=CLOCKED)
        self._newest_event_ms = 0
        self._champion: str | None = None
        self._reference: Histograms | None = None
        self._now_ms = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that hold state; they do not grow with the traffic."""
        windows = [*self.scores.values(), *([self.features] if self.features else [])]
        return self.quality.nbytes + sum(window.nbytes for window in windows)

    def advance(self, now_ms: int) -> None:
        """Open the hours up to now and drop those that are too old."""
        self._now_ms = now_ms
        self.quality.advance(now_ms)
        for window in [*self.scores.values(), *([self.features] if self.features else [])]:
            window.advance(now_ms)

    @property
    def newest_event_ms(self) -> int:
        """Event time that the newest decisions have reached but for a few; never goes back."""
        if self._event_times:
            reached = sorted(self._event_times)[-1 - len(self._event_times) // STRAYS]
            self._newest_event_ms = max(self._newest_event_ms, reached)
        return self._newest_event_ms

    def serve(self, champion: str | None, references: Mapping[str, Histograms]) -> None:
        """Tell which models serve, with their histograms; windows of new ones begin empty.

        That of the features goes on under a champion with the same histograms: an adjustment of
        the one before, or what it was an adjustment of.

        Raises:
            ConfigurationError: a histogram makes no sense; that model is watched without.
        """
        wrong: ConfigurationError | None = None
        for gone in self.scores.keys() - references.keys():
            del self.scores[gone]
        for gone in self.shifts.keys() - references.keys():
            del self.shifts[gone]
        for model_id, histograms in references.items():
            self.shifts.setdefault(model_id, ScoreShift())
            if model_id not in self.scores:
                try:
                    self.scores[model_id] = score_window(histograms, self._memory.drift_hours)
                except ConfigurationError as error:
                    wrong = error
        if champion != self._champion:
            self._champion = champion
            reference = None if champion is None else references.get(champion)
            if reference is None or reference != self._reference:
                self._reference = self.features = None
                if reference is not None:
                    try:
                        self.features = feature_window(reference, self._memory.drift_hours)
                        self._reference = reference
                    except ConfigurationError as error:
                        wrong = error
        self.advance(self._now_ms)
        if wrong is not None:
            raise wrong

    def sees_vectors(self, messages: Sequence[Message]) -> int:
        """Take messages of `features`: channels for the join, values for drift."""
        vectors = decode_feature_vectors([message.value for message in messages])
        if len(vectors):
            self._arrived(FEATURES.name, messages)
            self.freshness.reached(FEATURES.name, vectors.source_partition, vectors.source_offset)
            self.quality.add_channels(vectors.transaction_hash, vectors.channel)
            if self.features is not None and self.features.reference.names:
                known = vectors.known
                whole = bool(known.all())
                matrix = vectors.matrix if whole else vectors.matrix[known]
                time = vectors.event_time if whole else vectors.event_time[known]
                self.features.add(matrix, time)
        return len(vectors.rejected)

    def sees_decisions(self, messages: Sequence[Message]) -> int:
        """Take messages of `decisions`: the join, the scores of each model, stage delays."""
        decided = decode_decisions([message.value for message in messages])
        if not len(decided):
            return len(decided.rejected)
        self._arrived(DECISIONS.name, messages)
        self.freshness.reached(
            DECISIONS.name, decided.number("source_partition"), decided.number("source_offset")
        )
        self._event_times.extend(decided.number("event_time")[-CLOCKED:].tolist())
        received, computed = decided.number("received_at"), decided.number("computed_at")
        self.stage_delay[VECTOR].add(computed - 1000 * received)
        self.stage_delay[DECISION].add(decided.number("decided_at") - computed)
        names = decided.model_ids()
        first = ~decided.duplicate  # a duplicate's answer is not a second transaction
        self.quality.add_decisions(
            decided.transaction[first],
            decided.number("event_time")[first],
            decided.model[first],
            names,
            decided.action[first],
            decided.score[first],
            decided.base_amount(self._currencies)[first],
        )
        self.active.add(
            self.quality.hours(),
            decided.model[first],
            names,
            decided.number("event_time")[first],
            decided.number("decided_at")[first] // 1000,
        )
        self._note_scores(decided, names)
        return len(decided.rejected)

    def _note_scores(self, decided: DecodedDecisions, names: Mapping[int, str]) -> None:
        newest = int(decided.number("decided_at").max()) // 1000
        for number, model_id in names.items():
            mine = decided.model == number
            window = self.scores.get(model_id)
            if window is not None and window.reference.names:
                columns = {"anomaly": decided.anomaly, "score": decided.score}
                matrix = np.column_stack(
                    [columns[_COLUMN[name]][mine] for name in window.reference.names]
                )
                window.add(matrix, decided.number("event_time")[mine])
            if model_id in self.shifts:
                self.shifts[model_id].add(decided.score[mine], newest)

    def sees_labels(self, messages: Sequence[Message]) -> int:
        """Take messages of `labels`."""
        good = []
        for message in messages:
            try:
                good.append(
                    read_label(
                        message.value or b"",
                        now_ms=message.timestamp,
                        pan_key=self._pan_key,
                        registry=self._registry,
                    )
                )
            except BadMessage:  # the stream processor has the dead letter
                continue
        if good:
            self._arrived(LABELS.name, messages)
            times = np.array([label["label_time"] for label in good], np.int64)
            self.label_delay.add(times - np.array([label["transaction_time"] for label in good]))
            self.quality.add_labels(
                np.array([hash_id(label["transaction_id"]) for label in good], np.uint64),
                np.array([label["label"] == "FRAUD" for label in good], np.bool_),
                times,
            )
        return len(messages) - len(good)

    def sample(self, model_id: str, hours: Iterable[int], now_ms: int) -> Sample:
        """Return what the guard judges a model by."""
        cell = self.quality.total(model_id, hours, now_ms)
        window = self.scores.get(model_id)
        if window is None or SCORE not in window.reference.names:
            return Sample(cell)
        place = window.reference.names.index(SCORE)
        reference = window.reference.counts[place, :-1]
        return Sample(cell, reference, window.counts()[place, :-1].astype(np.float64))

    def _arrived(self, topic: str, messages: Sequence[Message]) -> None:
        arrived = max(message.timestamp for message in messages)
        self.freshness.arrived(topic, min(arrived, self._now_ms) if self._replayed else arrived)
