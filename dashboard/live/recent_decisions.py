"""The decisions of the last minutes: a histogram of scores, and the newest blocks. Pure.

Memory is bounded. Only the blocks that are shown are decoded as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dashboard.web.redaction import masked
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.codec.decisions import ACTIONS, decode_decisions
from schemas.currency import amount

BINS: Final = 20
PERIOD_MS: Final = 5_000
PERIODS: Final = 60
"""Five minutes of scores are counted, and expire five seconds at a time."""
BLOCKS: Final = 12
BLOCK: Final = ACTIONS.index("BLOCK")
REASONS: Final = 3


class RecentDecisions:
    """The scores and blocks of the last minutes."""

    def __init__(self) -> None:
        self._counts = np.zeros((PERIODS, BINS), np.int64)
        self._periods = np.zeros(PERIODS, np.int64)
        self._blocks: list[dict[str, Any]] = []

    def take(self, messages: Sequence[Message]) -> None:
        """Take messages of `decisions`, in order of arrival."""
        if not messages:
            return
        found = decode_decisions([message.value for message in messages])
        decided_ms = found.number("decided_at") // 1000
        known = ~np.isnan(found.score)
        periods = decided_ms[known] // PERIOD_MS
        bins = np.clip((found.score[known] * BINS).astype(np.int64), 0, BINS - 1)
        for period in np.unique(periods).tolist():
            place = period % PERIODS
            if self._periods[place] < period:
                self._periods[place], self._counts[place] = period, 0
            if self._periods[place] == period:
                mine = bins[periods == period]
                self._counts[place] += np.bincount(mine, minlength=BINS)
        blocked = np.flatnonzero(found.action == BLOCK)
        newest = blocked[np.argsort(decided_ms[blocked], kind="stable")[-BLOCKS:]]
        for row in newest.tolist():
            message = messages[int(found.rows[row])]
            self._blocks.append(_block(avro.decode(message.value or b"")[1]))
        self._blocks = sorted(self._blocks, key=lambda block: -block["at"])[:BLOCKS]

    def scores(self, now_ms: int) -> list[int]:
        """Return a histogram of the last five minutes' scores, in `BINS` parts of [0, 1]."""
        recent = self._periods > now_ms // PERIOD_MS - PERIODS
        counts: list[int] = self._counts[recent].sum(axis=0).tolist()
        return counts

    def blocks(self) -> list[dict[str, Any]]:
        """Return the newest blocks, newest first."""
        return list(self._blocks)


def _block(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "transaction_id": record["transaction_id"],
        "card": masked(record["card_id"]),
        "merchant_id": record["merchant_id"],
        "amount": amount(record["amount"], record["currency"]),
        "score": record["score"],
        "at": record["decided_at"] // 1000,
        "reasons": [reason["text"] for reason in record["reasons"]][:REASONS],
    }
