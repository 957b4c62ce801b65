"""What the servers of the stack have in common: one process, started, awaited, stopped, killed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from devstack.child import Child
from devstack.ports import free_port
from schemas.errors import FatalError


class Server(ABC):
    """A server on a port and directory that stay the same over restart() and kill().

    Context manager: started and ready within, stopped when left; the data stay.
    """

    name: ClassVar[str]
    ready_s: ClassVar[float]
    """How long it may take until it serves."""

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
        """Prepare the directory the first time, start and, with `wait`, block until it serves.

        Raises:
            ConfigurationError: a program that it needs is not installed.
        """
        if self._child is None:
            self._child = self._prepare()
        self._child.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Block until it serves; raises as Child.wait_until."""
        self._started().wait_until(self._ready, self.ready_s)

    def stop(self) -> None:
        """Stop cleanly; harmless when stopped."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL: what a crash leaves behind."""
        self._started().kill()

    def restart(self) -> None:
        """Stop and start again on the same port and data; blocks until it serves."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        """Start; see start()."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; see stop()."""
        self.stop()

    @abstractmethod
    def _prepare(self) -> Child:
        """Return the process, not yet started."""

    @abstractmethod
    def _ready(self) -> bool:
        """Tell whether it serves; asked again until it does."""

    def _started(self) -> Child:
        if self._child is None:
            raise FatalError(f"{self.name} was never started")
        return self._child
