"""The monitor's memory of the traffic: takes messages, keeps bounded state. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from monitor.judge.guard import Sample
from monitor.observe.active_hours import ActiveHours
from monitor.observe.drift import SCORE, Window, feature_window, score_window
from monitor.observe.labels import decode_labels
from monitor.observe.quality import Quality
from monitor.observe.served_models import Histograms
from monitor.observe.shift import ScoreShift
from monitor.observe.timing import Delays, Freshness
from runtime.kafka.protocols import Message
from schemas.codec.decisions import DecodedDecisions, decode_decisions
from schemas.codec.vectors import decode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.features import ANOMALY_FEATURE, DAY
from schemas.keys import identities
from schemas.topics import DECISIONS, FEATURES, LABELS
from schemas.validation import SchemaRegistry

CLOCKED: Final = 200
STRAYS: Final = 20
"""One in this many of the newest CLOCKED decisions may be ahead of the others: one transaction of
today among replayed ones must not move the event time by years."""
VECTOR, DECISION = "vector", "decision"
"""Stages: from receipt to vector, and from vector to decision."""
_COLUMN: Final = {SCORE: "score", ANOMALY_FEATURE: "anomaly"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    """Sizes of the join, as `Quality` takes them, and the hours of the drift windows."""

    approved: int = 2_000_000
    flagged: int = 500_000
    waiting: int = 250_000
    label_delay_ms: int = 7 * DAY
    drift_hours: int = 24


class Observations:
    """Bounded state of the traffic. The `sees_…` methods return how many messages they refused.

    Args:
        registry: schema registry for labels in Confluent's wire format.
        pan_key: key for hashing card numbers in labels.
        replayed: whether the clock follows event time, long before messages reached the broker.
    """

    def __init__(
        self,
        memory: MemoryLimits,
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
        """All vectors, over the champion's reference histograms."""
        self.scores: dict[str, Window] = {}
        """The decisions of each serving model, over its reference histograms."""
        self.shifts: dict[str, ScoreShift] = {}
        self.label_delay = Delays()
        self.stage_delay = {VECTOR: Delays(), DECISION: Delays()}
        """In microseconds by stage; `label_delay` is in milliseconds."""
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
        """Bytes of all state arrays; they do not grow with the traffic."""
        windows = [*self.scores.values(), *([self.features] if self.features else [])]
        return self.quality.nbytes + sum(window.nbytes for window in windows)

    def advance(self, now_ms: int) -> None:
        """Open the hours up to now and drop expired ones."""
        self._now_ms = now_ms
        self.quality.advance(now_ms)
        for window in [*self.scores.values(), *([self.features] if self.features else [])]:
            window.advance(now_ms)

    @property
    def newest_event_ms(self) -> int:
        """Event time of the newest decisions, without a few outliers; it never goes back."""
        if self._event_times:
            reached = sorted(self._event_times)[-1 - len(self._event_times) // STRAYS]
            self._newest_event_ms = max(self._newest_event_ms, reached)
        return self._newest_event_ms

    def serve(self, champion: str | None, references: Mapping[str, Histograms]) -> None:
        """Set the serving models and their histograms; the windows of new models start empty.

        The feature window continues if the new champion has the histograms of the last, as an
        adjusted model has those of its original.

        Raises:
            ConfigurationError: a histogram is invalid; that model is watched without it.
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
            self.quality.add_channels(
                identities(vectors.transaction_hash, vectors.card_hash), vectors.channel
            )
            if self.features is not None and self.features.reference.names:
                used = vectors.known & ~vectors.given_back  # no model was trained on refunds
                whole = bool(used.all())
                matrix = vectors.matrix if whole else vectors.matrix[used]
                time = vectors.event_time if whole else vectors.event_time[used]
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
        first = ~decided.duplicate  # a duplicate is not a second transaction
        self.quality.add_decisions(
            identities(decided.transaction, decided.card)[first],
            decided.number("event_time")[first],
            decided.model[first],
            names,
            decided.action[first],
            decided.score[first],
            np.where(decided.given_back, 0, decided.base_amount(self._currencies))[first],
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
            mine = (decided.model == number) & ~decided.given_back
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
        labels = decode_labels(messages, pan_key=self._pan_key, registry=self._registry)
        if len(labels.fraud):
            self._arrived(LABELS.name, messages)
            self.label_delay.add(labels.known_at - labels.transaction_time)
            self.quality.add_labels(labels.identity, labels.fraud, labels.known_at)
        return len(messages) - len(labels.fraud)

    def sample(self, model_id: str, hours: Iterable[int], now_ms: int) -> Sample:
        """Return the observations by which the guard judges a model."""
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
