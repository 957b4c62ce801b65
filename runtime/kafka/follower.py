"""A thread that follows topics and hands what comes to functions of its owner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from runtime.kafka.protocols import Message
from schemas.errors import BrokerUnavailable, FraudError

log = structlog.get_logger(__name__)
RETRY_S: Final = 1.0
"""Pause after Kafka did not answer."""
STOP_S: Final = 5.0
"""Time for the thread to end, which may be waiting for Kafka."""


class Source(Protocol):
    """What a feed reads: a `Reader`, or a `KafkaTail`."""

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return what is there; wait only while there is nothing."""

    def close(self) -> None:
        """Let go."""


@dataclass(slots=True)
class Feed:
    """A source, and the function that takes its messages, which are never read a second time.

    `take` runs on the follower's thread, also with an empty list when nothing came. It may replace
    `source`, for example to skip a backlog; it then closes the one before.
    """

    source: Source
    take: Callable[[Sequence[Message]], None]
    timeout_s: float = 0.5
    max_records: int = 500


class Follower:
    """Follows feeds until it is stopped, through any absence of Kafka.

    An error of `take` ends the thread, and `dead` then says so: a process that no longer hears of
    new models must not go on in silence.

    Args:
        name: of the thread, for logs and for `dead`.
        open_feeds: opens the feeds; whatever it reads to the end beforehand is its own matter.
        on_problem: is given the reason while Kafka does not answer, and "" when it does again.
    """

    def __init__(
        self,
        name: str,
        open_feeds: Callable[[], Sequence[Feed]],
        on_problem: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._name, self._open_feeds, self._on_problem = name, open_feeds, on_problem
        self._feeds: Sequence[Feed] = ()
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Open the feeds, then follow them on the thread.

        Raises:
            BrokerUnavailable: Kafka does not answer; nothing was started.
        """
        self._feeds = self._open_feeds()
        self._thread.start()

    def start_patiently(self) -> None:
        """Return at once; the thread opens the feeds itself, as soon as Kafka answers."""
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop; a `take` that waits should then give up."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop following and close the sources."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        if not self._thread.is_alive():  # else it still reads from them, and ends with the process
            for feed in self._feeds:
                feed.source.close()

    def dead(self) -> str:
        """Return "" while the thread follows, else why the process should be restarted."""
        if self._thread.is_alive() or self._stop.is_set():
            return ""
        return f"{self._name} is no longer followed: restart this process"

    def _run(self) -> None:
        while not self._feeds and not self._stop.is_set():
            try:
                self._feeds = self._open_feeds()
            except FraudError as error:
                self._wait(error)
        self._report("")
        while not self._stop.is_set():
            for feed in self._feeds:
                self._follow(feed)

    def _follow(self, feed: Feed) -> None:
        try:
            messages = feed.source.poll_batch(feed.max_records, feed.timeout_s)
        except BrokerUnavailable as error:
            self._wait(error)
            return
        self._report("")
        feed.take(messages)

    def _wait(self, error: FraudError) -> None:
        log.warning("cannot follow", topics=self._name, reason=str(error))
        self._report(str(error))
        self._stop.wait(RETRY_S)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._on_problem(problem)
