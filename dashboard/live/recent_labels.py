"""The newest labels of the topic `labels`, by transaction. Pure, with bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from runtime.kafka.protocols import Message
from schemas.errors import BadMessage
from schemas.keys import hash_id
from schemas.validation import read_label

MAX_KEPT: Final = 100_000


class RecentLabel(NamedTuple):
    """A label: whether it says fraud, its source and its time."""

    fraud: bool
    source: str
    at_ms: int


class RecentLabels:
    """The newest MAX_KEPT labels, by transaction and card."""

    def __init__(self, pan_key: bytes | None = None) -> None:
        self._pan_key = pan_key
        self._kept: OrderedDict[int, RecentLabel] = OrderedDict()

    def take(self, messages: Sequence[Message]) -> None:
        """Take messages of `labels`; a later label of a transaction replaces the earlier one."""
        for message in messages:
            try:
                label = read_label(
                    message.value or b"", now_ms=message.arrived, pan_key=self._pan_key
                )
            except BadMessage:  # the stream processor writes the dead letter
                continue
            key = _key(label["transaction_id"], label["card_id"])
            self._kept[key] = RecentLabel(
                label["label"] == "FRAUD", label.get("source", "OTHER"), label["label_time"]
            )
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def find(self, transaction_id: str, card_id: str) -> RecentLabel | None:
        """Return the label of a transaction, None without one."""
        return self._kept.get(_key(transaction_id, card_id))


def _key(transaction_id: str, card_id: str) -> int:
    return hash_id(f"{transaction_id}\0{card_id}")
