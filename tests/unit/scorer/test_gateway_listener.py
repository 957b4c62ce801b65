"""The listener hands decisions to the event loop piece by piece."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas import codec
from schemas.runtime.metrics import Metrics
from schemas.runtime.streams import Message
from scorer.api.listener import PIECE_ROWS, Listener
from tests.unit.scorer.gateway_stand_ins import NOW, decision, transaction

LONG_S = 10.0
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
    return Message("decisions", 0, number, NOW, b"", codec.encode("Decision", made))


ROWS = 2 * PIECE_ROWS + 1


@pytest.fixture
def told() -> Iterator[tuple[queue.Queue[Told], list[bytes]]]:
    """What the loop is told, and the ids that it has taken."""
    calls: queue.Queue[Told] = queue.Queue()
    taken: list[bytes] = []
    listener = Listener(
        BufferedTail([message(number) for number in range(ROWS)]),
        transactions="transactions",
        decisions="decisions",
        tell=lambda function, piece: calls.put((function, piece)),
        on_decided=lambda piece: taken.extend(each.identity for each in piece),
        on_refused=lambda piece: None,
        metrics=Metrics("gateway"),
    )
    listener.start()
    yield calls, taken
    listener.stop()


def test_the_loop_is_told_the_next_piece_when_it_has_taken_the_one_before(
    told: tuple[queue.Queue[Told], list[bytes]],
) -> None:
    calls, taken = told
    sizes = []
    while len(taken) < ROWS:
        take, piece = calls.get(timeout=LONG_S)
        with pytest.raises(queue.Empty):
            calls.get(timeout=0.02)
        take(piece)
        sizes.append(len(piece))
    assert sizes == [PIECE_ROWS, PIECE_ROWS, 1]
    assert taken == [f"t-{number}".encode() for number in range(ROWS)]


def test_it_stops_while_the_loop_takes_nothing(
    told: tuple[queue.Queue[Told], list[bytes]],
) -> None:
    calls, taken = told
    calls.get(timeout=LONG_S)
    assert taken == []  # the fixture stops it now, which must not wait for the loop
