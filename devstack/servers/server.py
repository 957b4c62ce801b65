"""The base class of the servers: one process that is started, awaited, stopped and killed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from devstack.child import Child
from devstack.ports import free_port
from schemas.errors import FatalError


class Server(ABC):
    """A server whose port and data directory survive `restart` and `kill`.

    As a context manager it is started and ready inside the block, and stopped at its end. The data
    stay.
    """

    name: ClassVar[str]
    ready_s: ClassVar[float]
    """Seconds that a start may take before it counts as failed."""

    def __init__(self) -> None:
        self._port = free_port()
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Process id; raises FatalError before the first start."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the server is alive now."""
        return self._child is not None and self._child.running

    def start(self, *, wait: bool = True) -> None:
        """Start the server and, with `wait`, block until it is ready.

        The first start prepares the data directory.

        Raises:
            ConfigurationError: a program that the server needs is not installed.
        """
        if self._child is None:
            self._child = self._prepare()
        self._child.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Block until the server is ready; raises what `Child.wait_until` raises."""
        self._started().wait_until(self._ready, self.ready_s)

    def stop(self) -> None:
        """Stop cleanly; does nothing if the server is stopped."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """Send SIGKILL, which leaves behind what a crash would."""
        self._started().kill()

    def restart(self) -> None:
        """Stop and start again on the same port and data; blocks until the server is ready."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        """Start the server; see `start`."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server; see `stop`."""
        self.stop()

    @abstractmethod
    def _prepare(self) -> Child:
        """Prepare the data directory and return the process, not yet started."""

    @abstractmethod
    def _ready(self) -> bool:
        """Return whether the server is ready; polled during a start."""

    def _started(self) -> Child:
        if self._child is None:
            raise FatalError(f"{self.name} was never started")
        return self._child
