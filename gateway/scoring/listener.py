"""The thread that reads `decisions` and `dead-letter` and passes them to the event loop in pieces.

After an outage thousands of decisions arrive at once; between two pieces the loop answers requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog

from gateway.scoring.gateway import DecisionMessage, RefusedTransaction
from runtime.kafka.follower import Feed, Follower, Source
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.codec.decisions import decode_decisions
from schemas.errors import BadMessage

log = structlog.get_logger(__name__)
MAX_ROWS: Final = 2_000
PIECE_ROWS: Final = 50
"""Rows passed on together: about 3 ms of the loop's time."""
POLL_S: Final = 0.5


class Listener:
    """Passes on decisions, and dead letters of the topic `transactions`.

    Args:
        tail: reads the topics `decisions` and `dead-letter`.
        transactions, decisions: full topic names.
        call_on_loop: calls a function with one argument on the event loop's thread, without
            waiting.
        on_decided, on_refused: receive the pieces, on the event loop's thread.
    """

    def __init__(
        self,
        tail: Source,
        *,
        transactions: str,
        decisions: str,
        call_on_loop: Callable[[Callable[[Any], None], Any], None],
        on_decided: Callable[[Sequence[DecisionMessage]], None],
        on_refused: Callable[[Sequence[RefusedTransaction]], None],
        metrics: Metrics,
    ) -> None:
        self._transactions, self._decisions = transactions, decisions
        self._call_on_loop, self._on_decided, self._on_refused = (
            call_on_loop, on_decided, on_refused,
        )  # fmt: skip
        self._metrics = metrics
        self._taken = threading.Event()
        self._taken.set()
        feed = Feed(tail, self._handle, POLL_S, MAX_ROWS)
        self._follower = Follower("decisions", lambda: [feed], self._count_retry)

    def start(self) -> None:
        """Start the thread."""
        self._follower.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._follower.stop()

    def dead(self) -> str:
        """Return why the process should be restarted, or "" while the thread is alive."""
        return self._follower.dead()

    def _count_retry(self, problem: str) -> None:
        if problem:
            self._metrics.count("retries", step="kafka")

    def _handle(self, messages: Sequence[Message]) -> None:
        decisions = [message for message in messages if message.topic == self._decisions]
        if decisions:
            self._metrics.count("records", len(decisions), topic=self._decisions)
            self._pass_on(self._on_decided, decision_messages(decisions))
        if len(decisions) < len(messages):
            letters = (message for message in messages if message.topic != self._decisions)
            self._pass_on(self._on_refused, dead_letters(letters, self._transactions))

    def _pass_on(self, receive: Callable[[Any], None], found: Sequence[Any]) -> None:
        """Pass on each piece when the previous one has been handled."""

        def take(piece: Sequence[Any]) -> None:
            try:
                receive(piece)
            finally:
                self._taken.set()

        for first in range(0, len(found), PIECE_ROWS):
            while not self._taken.wait(POLL_S):
                if self._follower.stopping:
                    return
            self._taken.clear()
            self._call_on_loop(take, found[first : first + PIECE_ROWS])


def decision_messages(messages: Sequence[Message]) -> list[DecisionMessage]:
    """Return the decisions of a batch; unreadable messages are left out and logged."""
    values = [message.value or b"" for message in messages]
    found = decode_decisions(values)
    if found.rejected:
        log.warning("unreadable decisions", count=len(found.rejected))
        values = [values[row] for row in found.rows.tolist()]
    identities = zip(found.raw("transaction_id"), found.raw("card_id"), strict=True)
    return [
        DecisionMessage(*each)
        for each in zip(identities, found.duplicate.tolist(), values, strict=True)
    ]


def dead_letters(messages: Iterable[Message], topic: str) -> list[RefusedTransaction]:
    """Return the dead letters of `topic` whose transaction is readable."""
    found = []
    for message in messages:
        try:
            _, letter = avro.decode(message.value or b"")
            if letter.get("topic") != topic:
                continue
            name, transaction = avro.decode(letter["value"] or b"")
        except BadMessage:
            continue
        if name == "Transaction":
            found.append(
                RefusedTransaction(
                    (transaction["transaction_id"].encode(), transaction["card_id"].encode()),
                    (letter["partition"], letter["offset"]),
                    letter["field"],
                    letter["reason"],
                )
            )
    return found
