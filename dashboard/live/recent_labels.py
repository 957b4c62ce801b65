"""What became known of transactions lately, from `labels`. Pure, fixed memory.

`topics` feeds it; the page of one transaction asks it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from runtime.kafka.protocols import Message
from schemas.errors import BadMessage
from schemas.keys import hash_id
from schemas.validation import read_label

KEPT: Final = 100_000


class Known(NamedTuple):
    """A label: whether fraud, who said so, and when (ms)."""

    fraud: bool
    source: str
    at_ms: int


class KnownLabels:
    """The newest labels, by transaction and card; the oldest are forgotten."""

    def __init__(self, pan_key: bytes | None = None) -> None:
        self._pan_key = pan_key
        self._kept: OrderedDict[int, Known] = OrderedDict()

    def take(self, messages: Sequence[Message]) -> None:
        """Take in messages of `labels`; a later label of a transaction replaces the earlier one."""
        for message in messages:
            try:
                label = read_label(
                    message.value or b"", now_ms=message.timestamp, pan_key=self._pan_key
                )
            except BadMessage:  # the stream processor has the dead letter
                continue
            key = _key(label["transaction_id"], label["card_id"])
            self._kept[key] = Known(
                label["label"] == "FRAUD", label.get("source", "OTHER"), label["label_time"]
            )
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def find(self, transaction_id: str, card_id: str) -> Known | None:
        """Return what is known of a transaction."""
        return self._kept.get(_key(transaction_id, card_id))


def _key(transaction_id: str, card_id: str) -> int:
    return hash_id(f"{transaction_id}\0{card_id}")
