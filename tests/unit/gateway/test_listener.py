"""The listener hands decisions to the event loop piece by piece."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.scoring.gateway import RefusedTransaction
from gateway.scoring.idempotency import Identity
from gateway.scoring.listener import PIECE_ROWS, Listener, dead_letters, decision_messages
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.dead_letters import dead_letter
from schemas.errors import InvalidField
from tests.support.gateway.stand_ins import NOW, decision, transaction
from tests.support.waiting import PATIENCE_S

Told = tuple[Callable[[Any], None], Any]


class BufferedTail:
    """Messages that are all there at the start."""

    def __init__(self, messages: list[Message]) -> None:
        self._batches: queue.Queue[list[Message]] = queue.Queue()
        self._batches.put(messages)

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        try:
            return self._batches.get(timeout=0.01)
        except queue.Empty:
            return []

    def close(self) -> None:
        pass


def message(number: int) -> Message:
    made = decision(transaction(number), number)  # type: ignore[arg-type]
    return Message("decisions", 0, number, NOW, b"", avro.encode("Decision", made))


ROWS = 2 * PIECE_ROWS + 1


def made(calls: queue.Queue[Told], taken: list[Identity]) -> Listener:
    """Return a listener with ROWS decisions; `calls` holds the calls on the loop."""
    decision_messages([])  # compiling the decoder must not count as waiting
    return Listener(
        BufferedTail([message(number) for number in range(ROWS)]),
        transactions="transactions",
        decisions="decisions",
        call_on_loop=lambda function, piece: calls.put((function, piece)),
        on_decided=lambda piece: taken.extend(each.identity for each in piece),
        on_refused=lambda piece: None,
        metrics=Metrics("gateway"),
    )


def test_the_loop_is_told_the_next_piece_when_it_has_taken_the_one_before() -> None:
    calls: queue.Queue[Told] = queue.Queue()
    taken: list[Identity] = []
    listener = made(calls, taken)
    listener.start()
    sizes = []
    while len(taken) < ROWS:
        take, piece = calls.get(timeout=PATIENCE_S)
        with pytest.raises(queue.Empty):
            calls.get(timeout=0.02)
        take(piece)
        sizes.append(len(piece))
    listener.stop()
    assert sizes == [PIECE_ROWS, PIECE_ROWS, 1]
    assert [name for name, _ in taken] == [f"t-{number}".encode() for number in range(ROWS)]
    assert taken[0][1] == b"card-0"


def test_noise_among_the_decisions_leaves_the_others_as_they_are() -> None:
    noise = Message("decisions", 0, 1, NOW, b"", b"noise")
    found = decision_messages([message(0), noise, message(2)])
    assert [each.identity for each in found] == [(b"t-0", b"card-0"), (b"t-2", b"card-2")]
    assert [each.message for each in found] == [message(0).value, message(2).value]


def test_only_dead_letters_of_transactions_are_told() -> None:
    def letter(topic: str, offset: int, value: bytes) -> Message:
        error = InvalidField("too much", field="amount", value=-1)
        key, letter = dead_letter(topic, 2, offset, b"card", value, error, NOW, "stream")
        return Message("dead-letter", 0, offset, NOW, key, letter)

    sent = avro.encode("Transaction", {**transaction(1), "attributes": {}})
    letters = [
        letter("labels", 4, sent),
        letter("transactions", 5, b"noise"),
        Message("dead-letter", 0, 9, NOW, b"", b"noise"),
        letter("transactions", 6, sent),
    ]
    assert dead_letters(letters, "transactions") == [
        RefusedTransaction((b"t-1", b"card-1"), (2, 6), "amount", "too much")
    ]


def test_it_stops_while_the_loop_takes_nothing() -> None:
    calls: queue.Queue[Told] = queue.Queue()
    listener = made(calls, [])
    listener.start()
    calls.get(timeout=PATIENCE_S)
    stopping = threading.Thread(target=listener.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
