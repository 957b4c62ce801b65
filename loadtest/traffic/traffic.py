"""Sender and receiver as processes, and the ledger of what they say. Used by all that measures.

One thread: `run` gives the sender an order and takes messages from both until it is done.
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
from loadtest.traffic.ledger import Counts, Ledger
from loadtest.traffic.receiver import Report, run_receiver
from loadtest.traffic.sender import STOP, Failed, Finished, Order, Plan, Started, run_sender
from runtime.settings import Settings
from schemas.errors import FatalError

START_S: Final = 120.0
QUIET_S: Final = 20.0
"""No answer for so long: what is still open is lost."""
PUMP_S: Final = 0.05


@dataclass(slots=True)
class Phase:
    """One order's part of the ledger: transactions `first`..`last`-1; `started` is the first due
    time (ns, monotonic), `seconds` how long the sending took."""

    order: Order
    first: int
    last: int
    started: int = 0
    seconds: float = 0.0
    labels: int = 0
    exhausted: bool = False


Tick = Callable[[], bool]
"""Called at least every 50 ms; False ends the sending."""
OnReport = Callable[[Report, npt.NDArray[np.int64]], None]
"""Told of what came back, and the latencies (ns) of transactions answered for the first time."""


class Traffic:
    """Context manager: both processes run when entered and are gone when left."""

    def __init__(
        self, feed: FeedSettings, settings: Settings, on_report: OnReport | None = None
    ) -> None:
        self.ledger = Ledger(wall_offset_ns=time.time_ns() - time.monotonic_ns())
        self.labels_ahead = 0
        self.labels = 0
        """Labels sent among the transactions so far."""
        self.event_time = 0
        """Of the transaction announced last, ms."""
        self.last_answer = 0
        """When the newest answer was seen (ns, monotonic)."""
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
        """Start both; blocks until the receiver reads and the sender has its first rows."""
        try:
            self._receiver.start()
            self._sender.start()
            for end in self._ends:
                end.close()  # theirs now: a process that dies is then noticed here
            self._take(self._from_receiver, START_S)
            self.labels_ahead = int(self._take(self._from_sender, START_S))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self.close()

    def pids(self) -> dict[str, int]:
        """Return the process ids by name, our own as "runner"."""
        both = (self._sender, self._receiver)
        found = {process.name: process.pid for process in both if process.pid is not None}
        return {**found, "runner": os.getpid()}

    def run(self, order: Order, tick: Tick = lambda: True) -> Phase:
        """Send what is ordered, until it is all acknowledged by Kafka or `tick` says to stop."""
        self.begin(order, tick)
        return self.finish(tick)

    def finish(self, tick: Tick = lambda: True) -> Phase:
        """Go on with the order that has begun; see `run`."""
        stopped = False
        while not self.pump():
            if not tick() and not stopped:
                self.stop()
                stopped = True
        return self.phase

    @property
    def phase(self) -> Phase:
        """The newest order's part; raises FatalError before the first one."""
        if self._phase is None:
            raise FatalError("nothing was ordered yet")
        return self._phase

    def begin(self, order: Order, tick: Tick = lambda: True) -> None:
        """Give the order and wait until messages are encoded and the first is about to be due."""
        self._phase = Phase(order, self.ledger.size, self.ledger.size)
        self._finished = False
        self._from_sender.send(order)
        while not self.phase.started and tick():
            self.pump()

    def stop(self) -> None:
        """Ask for the end of the sending; `pump` on."""
        if not self._finished:
            self._from_sender.send(STOP)

    def pump(self, timeout_s: float = PUMP_S) -> bool:
        """Take what sender and receiver say; return whether the order is done."""
        wait([self._from_sender, self._from_receiver], timeout_s)
        report = self._take(self._from_receiver, 0.0) if self._from_receiver.poll() else None
        while self._from_sender.poll():  # an answer's transaction was announced before it was sent
            self._note(self._take(self._from_sender, 0.0))
        if report is not None:
            self._note(report)
        return self._finished

    def drain(self, quiet_s: float = QUIET_S, tick: Tick = lambda: True) -> Counts:
        """Wait for the answers; gives up `quiet_s` after the last one, or when `tick` says so."""
        since = time.monotonic_ns()
        while self.ledger.waiting(time.monotonic_ns()):
            quiet = time.monotonic_ns() - max(self.last_answer, since)
            if quiet > quiet_s * 1e9 or not tick():
                break
            self.pump()
        return self.ledger.counts()

    def listen(self, seconds: float, tick: Tick = lambda: True) -> None:
        """Take messages for some time, for example second answers after the last first one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and tick():
            self.pump()

    def close(self) -> None:
        """End both processes; harmless when ended."""
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
            raise FatalError(f"the {name} ended; its message stands above") from error
        if isinstance(message, Failed):
            raise FatalError(f"{name}: {message.reason}")
        return message

    def _note(self, message: Any) -> None:
        if isinstance(message, Plan):
            self.ledger.sent(message.identity, message.due)
            self.phase.last = self.ledger.size
            self.labels += message.labels
            self.event_time = message.event_time
        elif isinstance(message, Report):
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
