"""The life of a service's process, from its settings to its exit code; every service has this one.

A service adds its own parts; settings, logs, metrics, the health server, signals, waiting for Kafka
and the database, and the order of stopping are here.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from types import FrameType, TracebackType
from typing import Final, Protocol, Self, TypeVar

import structlog

from runtime.clock import SystemClock
from runtime.command_line import FAILURE
from runtime.health import HealthServer
from runtime.kafka.administration.rights import RIGHTS
from runtime.kafka.topic_admin import create_topics
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.retries import Errors, Retry, Stopped
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, DatabaseUnavailable, FatalError

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
START_ANEW: Final = 75
"""Exit code of a process that must be started again (EX_TEMPFAIL of sysexits.h)."""
SWITCH_INTERVAL_S: Final = 0.0005
"""How long another thread may keep the interpreter; Python's 5 ms would delay every answer."""
TOPICS_WAIT_S: Final = 3.0
"""How long one attempt to create the topics waits for Kafka."""
THREAD_END_S: Final = 10.0
"""How long a stop waits for a thread in the background."""
AWAY: Final = (BrokerUnavailable, DatabaseUnavailable)


class Closable(Protocol):
    """A part that holds something until it is closed."""

    def close(self) -> None:
        """Let go of it."""


Part = TypeVar("Part", bound=Closable)


class StopSignal:
    """Set once the process is asked to stop: by SIGTERM, SIGINT, or `set`.

    Create it in the main thread; with `install=False` it does not listen to signals.
    """

    def __init__(self, *, install: bool = True) -> None:
        self._event = threading.Event()
        if install:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        """Return whether to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask for the stop from within, for example after a fatal error."""
        self._event.set()

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Wait until asked to stop, at most `timeout_s`; return whether that came."""
        return self._event.wait(timeout_s)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            # A second signal means that the orderly stop hangs: end as without a handler.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._event.set()


class ServiceProcess:
    """A context manager around everything that a service does; enter it in the main thread.

    Entering sets up logs and signals and starts the health server, which answers "starting" or what
    the process waits for until `started` is called. Leaving closes the parts, the last one first.
    A `FatalError` is logged and ends the process with exit code 1; any other exception goes on.

    Args:
        low_latency: threads take turns more often, and the garbage collector passes over what was
            there at the start.
        niceness: how far other processes of the machine come first.

    Example:
        with ServiceProcess("scorer", settings) as process:
            process.create_topics()
            producer = process.keep(KafkaProducer(settings))
            process.started()
            process.repeat(step)
    """

    def __init__(
        self, service: str, settings: Settings, *, low_latency: bool = False, niceness: int = 0
    ) -> None:
        configure_logging(settings, service)
        self._service = service
        self.settings, self.metrics, self.clock = settings, Metrics(service), SystemClock()
        self.stop = StopSignal()
        self.parts = ExitStack()
        """Whatever is entered here is left when the process ends."""
        self.waiting_for = "starting"
        """Why the process is not ready, "" if only its own checks say so."""
        self._ready: Callable[[], str] = _fine
        self._alive: Callable[[], str] = _fine
        self._low_latency = low_latency
        if low_latency:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        if niceness:
            os.nice(niceness)

    def __enter__(self) -> Self:
        """Start the health server, if there is a port for it.

        Raises:
            ConfigurationError: the port is taken.
        """
        settings = self.settings
        if settings.health_port:
            self.parts.enter_context(
                HealthServer(
                    settings.health_port, self.metrics, self.not_ready, self.dead,
                    settings.health_host,
                )
            )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the parts, and log how the process ended.

        Raises:
            SystemExit: the process must not go on, with exit code 1.
        """
        if isinstance(error, FatalError):
            log.error("cannot go on", reason=str(error))
        self.waiting_for, self._alive = "stopping", _fine
        self.parts.__exit__(kind, error, trace)
        if isinstance(error, FatalError):
            raise SystemExit(FAILURE) from error
        if error is None or isinstance(error, Stopped):
            log.info("stopped")

    def not_ready(self) -> str:
        """Return why the process does not serve now, "" while it does."""
        return self.waiting_for or self._ready()

    def dead(self) -> str:
        """Return why the process must be restarted, "" while it must not."""
        return self._alive()

    def keep(self, part: Part) -> Part:
        """Return `part`, to be closed when the process ends."""
        return self.parts.enter_context(closing(part))

    def retry(self, errors: Errors = AWAY) -> Retry:
        """Return the policy of retries that shows on /readyz what it waits for."""
        return Retry(self.stop, self.metrics, errors, on_wait=self._waits_for)

    def patiently(self, step: Callable[[], Result], errors: Errors = AWAY) -> Result:
        """Return the result of `step`, waiting for a Kafka or a database that is away.

        Raises:
            Stopped: the process was asked to stop meanwhile.
        """
        result = self.retry(errors)(step)
        self.waiting_for = "starting"
        return result

    def create_topics(self) -> None:
        """Create the topics that are missing, waiting for Kafka.

        Raises:
            ConfigurationError: a topic is not what it must be, or this service lacks a right.
            Stopped: the process was asked to stop meanwhile.
        """
        service = self._service if self._service in RIGHTS else None
        self.patiently(lambda: create_topics(self.settings, TOPICS_WAIT_S, service))

    def started(
        self,
        ready: Callable[[], str] | None = None,
        alive: Callable[[], str] | None = None,
        **facts: object,
    ) -> None:
        """Log that the process serves from now on; /readyz and /healthz ask `ready` and `alive`.

        Each returns "" or the reason, and is called on a thread of the health server. Without
        `ready`, the process is ready once `repeat` has made a step.
        """
        if self._low_latency:
            gc.collect()
            gc.freeze()  # a full collection would look through all that was imported: 100 ms
        if ready is not None:
            self._ready, self.waiting_for = ready, ""
        if alive is not None:
            self._alive = alive
        log.info("started", **facts)

    def repeat(self, step: Callable[[], str], errors: Errors = AWAY) -> None:
        """Call `step` until asked to stop, waiting for what is away; it must not wait for long.

        It returns why the process is not ready, or "". /readyz and the metric `ready` show that.
        """
        retry = self.retry(errors)
        with suppress(Stopped):
            while not self.stop:
                self.waiting_for = retry(step)
                self.metrics.set("ready", 0 if self.waiting_for else 1)

    def in_background(self, name: str, work: Callable[[threading.Event], None]) -> None:
        """Call `work` on a thread of its own; its argument is set when the process ends."""
        ended = threading.Event()
        thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
        thread.start()
        self.parts.callback(thread.join, THREAD_END_S)
        self.parts.callback(ended.set)

    def _waits_for(self, error: Exception) -> None:
        self.waiting_for = str(error)
        self.metrics.set("ready", 0)


def _fine() -> str:
    return ""
