"""The open-loop sender: transactions are sent when they are due, whether or not answers come.

It runs as a process of its own and serves orders that come through a pipe. It announces every
transaction with its due time before sending it. A second thread encodes messages in advance.
"""

from __future__ import annotations

import gc
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.traffic.feed import FeedPiece, FeedSettings, LabelMessage, TransactionFeed, open_feed
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.protocols import BY_KEY
from runtime.logs import configure_logging
from runtime.settings import Settings
from schemas.errors import FraudError
from schemas.topics import LABELS, TRANSACTIONS

STOP: Final = "stop"
"""Message to the sender that ends the present order early."""
AHEAD_ROWS: Final = 20_000
AHEAD_S: Final = 20.0
"""How much an order without an end keeps encoded: so many rows or seconds, whichever is more."""
MAX_PREPARED_ROWS: Final = 2_000_000
"""Upper limit of the rows encoded before the start; the rest is encoded while sending."""
PIECE_S: Final = 0.1
SPED_UP_ROWS: Final = 200
"""Rows announced together when a file is sent at a multiple of its own pace."""
COARSE_RATE: Final = 2_000.0
COARSE_S: Final = 0.005
"""Above COARSE_RATE the sender wakes only this often, like Kafka's producers (linger.ms since 4.0).

Each wake costs sender and broker a request per partition: at 15,000/s that is 12% of a core every
2 ms, and 4% every 5 ms. The delay counts as latency.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send, and how fast.

    Transactions are sent at `rate` a second, or at `speedup` times the feed's own pace, or as fast
    as Kafka accepts them if both are 0. The order ends after `seconds` or `count` transactions, or
    at the end of the feed.
    """

    rate: float = 0.0
    speedup: float = 0.0
    seconds: float | None = None
    count: int | None = None

    def rows(self) -> int | None:
        """Return the number of transactions, or None if the order does not limit it."""
        if self.count is not None:
            return self.count
        return None if self.seconds is None or not self.rate else round(self.rate * self.seconds)


class Announcement(NamedTuple):
    """Transactions that are about to be sent, and how many labels among them.

    `event_time` (ms) is that of the last transaction.
    """

    identity: npt.NDArray[np.uint64]
    due: npt.NDArray[np.int64]
    labels: int
    event_time: int


class Started(NamedTuple):
    """The order begins: the first transaction is due at `at` (ns, monotonic)."""

    at: int


class Finished(NamedTuple):
    """Kafka has acknowledged the whole order; `exhausted` if the feed is at its end."""

    exhausted: bool
    labels: int
    seconds: float


class Failed(NamedTuple):
    """The process cannot go on."""

    reason: str


class _Paced(NamedTuple):
    piece: FeedPiece
    due: npt.NDArray[np.int64]
    """ns after the start."""


class Pacer:
    """Assigns due times: a Poisson stream at the order's rate, or the feed's own pace."""

    def __init__(self, order: Order, seed: int) -> None:
        self._order = order
        self._rng = np.random.default_rng([seed, 8])
        self._last = 0.0
        self._first_time: int | None = None

    def due(self, time_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return due times, in ns after the start, of the next transactions.

        `time_ms` are their event times.
        """
        if self._order.speedup:
            if self._first_time is None:
                self._first_time = int(time_ms[0]) if len(time_ms) else 0
            passed = (time_ms - self._first_time) * 1e6 / self._order.speedup
            paced: npt.NDArray[np.int64] = passed.astype(np.int64)
            return paced
        if not self._order.rate or len(time_ms) == 0:
            return np.zeros(len(time_ms), np.int64)
        gaps = self._rng.exponential(1.0 / self._order.rate, len(time_ms))
        moments = self._last + np.cumsum(gaps)
        self._last = float(moments[-1])
        scheduled: npt.NDArray[np.int64] = (moments * 1e9).astype(np.int64)
        return scheduled


def run_sender(feed_settings: FeedSettings, settings: Settings, pipe: Connection) -> None:
    """Send the labels that come ahead, report their number, and serve orders until None comes.

    Entry point of the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends the order
    configure_logging(settings, "sender")
    gc.disable()  # nothing here is cyclic, and a collection would delay sending
    sys.setswitchinterval(0.0005)
    try:
        feed, ahead = open_feed(feed_settings, lambda: time.time_ns() // 1_000_000)
        producer = KafkaProducer(settings)
        labels = settings.topic(LABELS)
        producer.produce_many(labels, [(BY_KEY, each.key, each.value) for each in ahead])
        producer.flush(60.0)
        sender = _Sender(feed, producer, settings, pipe)
        pipe.send(len(ahead))
        while (order := pipe.recv()) is not None:
            if order != STOP:  # STOP may come when the order is already done
                sender.serve(order, feed_settings.seed)
        producer.close()
    except FraudError as error:
        pipe.send(Failed(str(error)))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone


class _Sender:
    def __init__(
        self, feed: TransactionFeed, producer: KafkaProducer, settings: Settings, pipe: Connection
    ) -> None:
        self._feed = feed
        self._producer = producer
        self._transactions = settings.topic(TRANSACTIONS)
        self._labels = settings.topic(LABELS)
        self._pipe = pipe

    def serve(self, order: Order, seed: int) -> None:
        size = SPED_UP_ROWS if order.speedup else 5_000
        if order.rate:
            size = int(min(max(order.rate * PIECE_S, 20), 5_000))
        wanted = order.rows()
        known = [rows for rows in (wanted, self._feed.remaining) if rows is not None]
        ahead = (
            min(*known, MAX_PREPARED_ROWS) if known else max(AHEAD_ROWS, int(order.rate * AHEAD_S))
        )
        ready: queue.Queue[_Paced | BaseException | None] = queue.Queue(ahead // size + 4)
        halt = threading.Event()
        filler = threading.Thread(
            target=self._fill, args=(order, Pacer(order, seed), size, ready, halt), daemon=True
        )
        filler.start()
        enough = ahead - size
        while filler.is_alive() and ready.qsize() * size < enough:
            time.sleep(0.005)
        begun = time.monotonic_ns() + 50_000_000
        self._pipe.send(Started(begun))
        labels = 0
        exhausted = wanted is None
        end = None if order.seconds is None else begun + int(order.seconds * 1e9)
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            labels += self._send(item, begun, flat_out=not (order.rate or order.speedup))
            if self._pipe.poll() or (end is not None and time.monotonic_ns() >= end):
                exhausted = False
                break
        halt.set()
        while filler.is_alive():
            _drop(ready)
        self._producer.flush(60.0)
        seconds = (time.monotonic_ns() - begun) / 1e9
        self._pipe.send(Finished(exhausted, labels, seconds))

    def _fill(
        self,
        order: Order,
        pacer: Pacer,
        size: int,
        ready: queue.Queue[Any],
        halt: threading.Event,
    ) -> None:
        left = order.rows()
        try:
            while not halt.is_set() and (left is None or left > 0):
                piece = self._feed.take(size if left is None else min(size, left))
                rows = len(piece.transactions.values)
                ready.put(_Paced(piece, pacer.due(piece.transactions.time)))
                if rows == 0:
                    break
                left = None if left is None else left - rows
            ready.put(None)
        except Exception as error:  # the sending thread raises it
            ready.put(error)

    def _send(self, item: _Paced, begun: int, *, flat_out: bool) -> int:
        transactions, labels = item.piece
        count = len(transactions.values)
        due = item.due + begun
        if flat_out:
            due[:] = time.monotonic_ns()
        last_time = int(transactions.time[-1]) if count else 0
        self._pipe.send(Announcement(transactions.identity, due, len(labels), last_time))
        bounds = [*sorted({each.before for each in labels if each.before < count}), count]
        first = 0
        for last in bounds:
            self._send_rows(transactions.keys, transactions.values, due, first, last)
            self._send_labels([each for each in labels if each.before == last])
            first = last
        self._send_labels([each for each in labels if each.before > count])
        return len(labels)

    def _send_labels(self, labels: list[LabelMessage]) -> None:
        if labels:
            records = [(BY_KEY, each.key, each.value) for each in labels]
            self._producer.produce_many(self._labels, records)

    def _send_rows(
        self,
        keys: list[bytes],
        values: list[bytes],
        due: npt.NDArray[np.int64],
        first: int,
        last: int,
    ) -> None:
        at = first
        while at < last:
            now = time.monotonic_ns()
            until = min(int(np.searchsorted(due, now, side="right")), last)
            if until > at:
                records = zip(repeat(BY_KEY), keys[at:until], values[at:until], strict=False)
                self._producer.produce_many(self._transactions, records)
                at = until
            else:
                time.sleep(_pause(int(due[at]) - now, int(due[last - 1] - due[0]), len(due)))


def _pause(gap_ns: int, span_ns: int, rows: int) -> float:
    """Return the seconds to sleep until the next message; at high rates at least COARSE_S."""
    dense = rows > 1 and rows / max(span_ns, 1) * 1e9 > COARSE_RATE
    return max(gap_ns / 1e9, COARSE_S if dense else 0.0)


def _drop(ready: queue.Queue[Any]) -> None:
    try:
        ready.get(timeout=0.01)
    except queue.Empty:
        return
