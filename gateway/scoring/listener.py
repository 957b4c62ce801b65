"""The thread that reads `decisions` and `dead-letter` and tells the event loop, piece by piece.

After a fault thousands of decisions come at once: between two pieces the loop answers requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import structlog

from gateway.scoring.gateway import Heard, Refused
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.codec.decisions import decode_decisions
from schemas.errors import BadMessage, BrokerUnavailable

log = structlog.get_logger(__name__)
MAX_ROWS: Final = 2_000
PIECE_ROWS: Final = 50
"""Told together: some 3 ms of the loop's time."""
POLL_S: Final = 0.5


class Tail(Protocol):
    """Reads what comes; see `runtime.kafka.tail`."""

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return what is there; wait only while there is nothing."""

    def close(self) -> None:
        """Let go."""


class Listener:
    """Tells of decisions, and of dead letters of the topic `transactions`.

    Args:
        tail: reads the topics `decisions` and `dead_letter` (full names).
        tell: calls a function with one argument on the event loop's thread, without waiting.
    """

    def __init__(
        self,
        tail: Tail,
        *,
        transactions: str,
        decisions: str,
        tell: Callable[[Callable[[Any], None], Any], None],
        on_decided: Callable[[Sequence[Heard]], None],
        on_refused: Callable[[Sequence[Refused]], None],
        metrics: Metrics,
    ) -> None:
        self._tail, self._transactions, self._decisions = tail, transactions, decisions
        self._tell, self._on_decided, self._on_refused = tell, on_decided, on_refused
        self._metrics = metrics
        self._stop = threading.Event()
        self._taken = threading.Event()
        self._taken.set()
        self._thread = threading.Thread(target=self._listen, name="listen", daemon=True)

    def start(self) -> None:
        """Read on a thread from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; returns when the thread has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tail.close()

    def dead(self) -> str:
        """Return "" while the thread reads, else why the process should be restarted."""
        if self._thread.is_alive() or self._stop.is_set():
            return ""
        return "decisions are no longer read: restart this process"

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                messages = self._tail.poll_batch(MAX_ROWS, POLL_S)
            except BrokerUnavailable as error:
                log.warning("waiting for Kafka", reason=str(error))
                self._metrics.count("retries", step="kafka")
                self._stop.wait(0.2)
                continue
            if messages:
                self._take(messages)

    def _take(self, messages: Sequence[Message]) -> None:
        decisions = [message for message in messages if message.topic == self._decisions]
        if decisions:
            self._metrics.count("records", len(decisions), topic=self._decisions)
            self._tell_all(self._on_decided, heard(decisions))
        if len(decisions) < len(messages):
            letters = (message for message in messages if message.topic != self._decisions)
            self._tell_all(self._on_refused, dead_letters(letters, self._transactions))

    def _tell_all(self, told: Callable[[Any], None], found: Sequence[Any]) -> None:
        """Hand over each piece when the one before was taken."""

        def take(piece: Sequence[Any]) -> None:
            try:
                told(piece)
            finally:
                self._taken.set()

        for first in range(0, len(found), PIECE_ROWS):
            while not self._taken.wait(POLL_S):
                if self._stop.is_set():
                    return
            self._taken.clear()
            self._tell(take, found[first : first + PIECE_ROWS])


def heard(messages: Sequence[Message]) -> list[Heard]:
    """Return the decisions of a batch; what is none is left out."""
    values = [message.value or b"" for message in messages]
    found = decode_decisions(values)
    if found.rejected:
        log.warning("unreadable decisions", count=len(found.rejected))
        values = [values[row] for row in found.rows.tolist()]
    return [
        Heard(*each)
        for each in zip(
            found.raw("transaction_id"),
            found.raw("card_id"),
            found.duplicate.tolist(),
            values,
            strict=True,
        )
    ]


def dead_letters(messages: Iterable[Message], topic: str) -> list[Refused]:
    """Return the dead letters of readable transactions of `topic`."""
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
                Refused(
                    transaction["transaction_id"].encode(),
                    (letter["partition"], letter["offset"]),
                    letter["field"],
                    letter["reason"],
                )
            )
    return found
