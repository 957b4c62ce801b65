"""Runs sender and receiver as processes and keeps the ledger of their messages.

Everything here happens on the caller's thread: `run` gives the sender an order and handles the
messages of both processes until it is done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from loadtest.traffic.feed import FeedSettings
from loadtest.traffic.ledger import Ledger, LedgerCounts
from loadtest.traffic.receiver import ReceiverReport, run_receiver
from loadtest.traffic.sender import STOP, Announcement, Failed, Finished, Order, Started, run_sender
from runtime.settings import Settings
from schemas.errors import FatalError

START_S: Final = 120.0
QUIET_S: Final = 20.0
"""After so many seconds without an answer, open transactions count as lost."""
PUMP_S: Final = 0.05


@dataclass(slots=True)
class Phase:
    """The part of the ledger that belongs to one order: transactions `first`..`last`-1.

    `started` is the first due time (ns, monotonic); sending took `seconds`.
    """

    order: Order
    first: int
    last: int
    started: int = 0
    seconds: float = 0.0
    labels: int = 0
    exhausted: bool = False


Tick = Callable[[], bool]
"""Callback that runs at least every 50 ms; returning False ends sending."""
OnReport = Callable[[ReceiverReport, npt.NDArray[np.int64]], None]
"""Callback with a report and the latencies (ns) of transactions answered for the first time."""


class Traffic:
    """Context manager that starts both processes on entry and ends them on exit."""

    def __init__(
        self, feed: FeedSettings, settings: Settings, on_report: OnReport | None = None
    ) -> None:
        self.ledger = Ledger(wall_offset_ns=time.time_ns() - time.monotonic_ns())
        self.labels_ahead = 0
        self.labels = 0
        """Labels sent among the transactions so far."""
        self.event_time = 0
        """Event time of the transaction announced last, ms."""
        self.last_answer = 0
        """When the latest answer was seen (ns, monotonic)."""
        self._on_report = on_report
        self._phase: Phase | None = None
        self._finished = False
        spawn = multiprocessing.get_context("spawn")
        self._from_sender, sender_end = spawn.Pipe()
        self._from_receiver, receiver_end = spawn.Pipe()
        self._ends = [sender_end, receiver_end]
        self._sender: BaseProcess = spawn.Process(
            target=run_sender, args=(feed, settings, sender_end), name="sender", daemon=True
        )
        self._receiver: BaseProcess = spawn.Process(
            target=run_receiver, args=(settings, receiver_end), name="receiver", daemon=True
        )

    def __enter__(self) -> Self:
        """Start both processes; blocks until the receiver reads and the feed is open.

        Raises:
            FatalError: one of them failed, or was not ready within two minutes.
        """
        try:
            self._receiver.start()
            self._sender.start()
            for end in self._ends:
                end.close()  # the child has its own copy; ours would hide that the child died
            self._take(self._from_receiver, START_S)
            self.labels_ahead = int(self._take(self._from_sender, START_S))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both processes."""
        self.close()

    def pids(self) -> dict[str, int]:
        """Return the process ids by name; this process is called "runner"."""
        both = (self._sender, self._receiver)
        found = {process.name: process.pid for process in both if process.pid is not None}
        return {**found, "runner": os.getpid()}

    def run(self, order: Order, tick: Tick = lambda: True) -> Phase:
        """Send an order until Kafka has acknowledged all of it, or `tick` returns False."""
        self.begin(order, tick)
        return self.finish(tick)

    def finish(self, tick: Tick = lambda: True) -> Phase:
        """Wait for the end of the order that `begin` started; see `run`."""
        stopped = False
        while not self.pump():
            if not tick() and not stopped:
                self.stop()
                stopped = True
        return self.phase

    @property
    def phase(self) -> Phase:
        """The phase of the latest order; raises FatalError before the first one."""
        if self._phase is None:
            raise FatalError("no order was given yet")
        return self._phase

    def begin(self, order: Order, tick: Tick = lambda: True) -> None:
        """Give an order; returns when messages are encoded and the first is about to be due."""
        self._phase = Phase(order, self.ledger.size, self.ledger.size)
        self._finished = False
        self._from_sender.send(order)
        while not self.phase.started and tick():
            self.pump()

    def stop(self) -> None:
        """Ask the sender to end the order; `pump` until it is done."""
        if not self._finished:
            self._from_sender.send(STOP)

    def pump(self, timeout_s: float = PUMP_S) -> bool:
        """Handle the messages of both processes; return whether the order is done."""
        wait([self._from_sender, self._from_receiver], timeout_s)
        report = self._take(self._from_receiver, 0.0) if self._from_receiver.poll() else None
        # A transaction is announced before it is sent, so announcements go first.
        while self._from_sender.poll():
            self._note(self._take(self._from_sender, 0.0))
        if report is not None:
            self._note(report)
        return self._finished

    def drain(self, quiet_s: float = QUIET_S, tick: Tick = lambda: True) -> LedgerCounts:
        """Wait for all answers; give up `quiet_s` after the last one, or when `tick` is False."""
        since = time.monotonic_ns()
        while self.ledger.waiting(time.monotonic_ns()):
            quiet = time.monotonic_ns() - max(self.last_answer, since)
            if quiet > quiet_s * 1e9 or not tick():
                break
            self.pump()
        return self.ledger.counts()

    def listen(self, seconds: float, tick: Tick = lambda: True) -> None:
        """Handle messages for some time, for example to notice duplicate answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and tick():
            self.pump()

    def close(self) -> None:
        """End both processes; does nothing if they have ended."""
        for pipe, process in (
            (self._from_sender, self._sender),
            (self._from_receiver, self._receiver),
        ):
            if process.pid is None:
                continue
            with contextlib.suppress(OSError):  # it may be gone already
                pipe.send(None)
            pipe.close()
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()

    def _take(self, pipe: Connection, timeout_s: float) -> Any:
        name = "sender" if pipe is self._from_sender else "receiver"
        try:
            if timeout_s and not pipe.poll(timeout_s):
                raise FatalError(f"the {name} was not ready within {timeout_s:.0f} s")
            message = pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise FatalError(
                f"the {name} ended unexpectedly; its error is printed above"
            ) from error
        if isinstance(message, Failed):
            raise FatalError(f"{name}: {message.reason}")
        return message

    def _note(self, message: Any) -> None:
        if isinstance(message, Announcement):
            self.ledger.sent(message.identity, message.due)
            self.phase.last = self.ledger.size
            self.labels += message.labels
            self.event_time = message.event_time
        elif isinstance(message, ReceiverReport):
            self.last_answer = time.monotonic_ns()
            latency = self.ledger.received(message.answers)
            if self._on_report is not None:
                self._on_report(message, latency)
        elif isinstance(message, Started):
            self.phase.started = message.at
        elif isinstance(message, Finished):
            self._finished = True
            self.phase.seconds = message.seconds
            self.phase.labels = message.labels
            self.phase.exhausted = message.exhausted
