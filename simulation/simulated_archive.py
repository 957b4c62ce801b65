"""The archive of a simulation, to which messages are appended in large pieces."""

from __future__ import annotations

from pathlib import Path

from runtime.kafka.protocols import Message
from schemas.currency import CurrencyTable
from schemas.topics import DECISIONS, FEATURES, LABELS
from trainer.archive.delta_tables import Archive, ArchivePosition
from trainer.archive.table_rows import TableRows, decision_rows, feature_rows, label_rows

MAX_ROWS = 20_000


class SimulatedArchive:
    """Appends to `trainer.archive.delta_tables`; partition 0 of each topic is all there is."""

    def __init__(self, directory: Path, currencies: CurrencyTable) -> None:
        self.archive = Archive(str(directory))
        self.archive.create()
        self._currencies = currencies
        self._waiting: dict[str, list[Message]] = {
            spec.name: [] for spec in (FEATURES, DECISIONS, LABELS)
        }
        self._written: dict[str, int | None] = dict.fromkeys(self._waiting)

    def add(self, messages: list[Message]) -> None:
        """Take messages of one topic."""
        if messages:
            waiting = self._waiting[messages[0].topic]
            waiting += messages
            if len(waiting) >= MAX_ROWS:
                self._append(messages[0].topic)

    def flush(self) -> Archive:
        """Append what waits; return the archive, in which everything is."""
        for topic in self._waiting:
            self._append(topic)
        return self.archive

    def _append(self, topic: str) -> None:
        messages = self._waiting[topic]
        if not messages:
            return
        before, after = self._written[topic], messages[-1].offset + 1
        self.archive.append(
            topic, self._rows(topic, messages).table, [ArchivePosition("0", before, after)]
        )
        self._written[topic] = after
        self._waiting[topic] = []

    def _rows(self, topic: str, messages: list[Message]) -> TableRows:
        if topic == FEATURES.name:
            return feature_rows(messages, self._currencies)
        return decision_rows(messages) if topic == DECISIONS.name else label_rows(messages)
