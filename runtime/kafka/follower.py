"""A thread that follows topics and passes their messages to callbacks."""

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
"""Pause before the next attempt when Kafka does not answer."""
STOP_S: Final = 5.0
"""How long `stop` waits for the thread, which may be waiting for Kafka."""


class Source(Protocol):
    """The reading half of a feed: a `Reader` or a `KafkaTail`."""

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived, waiting only for the first."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(slots=True)
class Feed:
    """A source and the function that takes its messages; each message is delivered once.

    `take` runs on the follower's thread. It is also called with an empty list when a poll brings
    nothing. It may replace `source`, for example to skip a backlog, if it closes the old one.
    """

    source: Source
    take: Callable[[Sequence[Message]], None]
    timeout_s: float = 0.5
    max_records: int = 500


class Follower:
    """Follows feeds until it is stopped, however often Kafka goes away.

    An error of `take` ends the thread, and `dead` then reports it: a process that no longer follows
    its models must not carry on as if it did.

    Args:
        name: of the thread, in logs and in `dead`.
        open_feeds: opens the feeds; it may first read topics to their ends.
        on_problem: called with the reason when Kafka stops answering, and with "" when it is back.
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
        """Start the thread at once; it opens the feeds as soon as Kafka answers."""
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """True once `stop` was called; a `take` that is waiting should then give up."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop following and close the sources."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        if not self._thread.is_alive():  # otherwise it is still reading and ends with the process
            for feed in self._feeds:
                feed.source.close()

    def dead(self) -> str:
        """Return "" while the thread runs, otherwise the reason to restart the process."""
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
