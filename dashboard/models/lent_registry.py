"""The model registry, shared by the threads that serve pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Final

from runtime.kafka.model_registry import ModelRegistry, open_registry
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable

WAIT_S: Final = 5.0
"""How long a page waits for Kafka to answer, and for another thread to be done."""


class LentRegistry:
    """Opens the registry when it is first asked for, and lends it to one thread at a time.

    Example:
        with lent() as registry:
            states = registry.states()
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._turn = settings, Lock()
        self._open = ExitStack()
        self._registry: ModelRegistry | None = None

    @contextmanager
    def __call__(self) -> Iterator[ModelRegistry]:
        """Lend it.

        Raises:
            BrokerUnavailable: Kafka does not answer, or another thread keeps the registry.
        """
        if not self._turn.acquire(timeout=WAIT_S):
            raise BrokerUnavailable("the registry of models is in use: try again")
        try:
            if self._registry is None:
                opened = open_registry(self._settings, timeout_s=WAIT_S)
                self._registry = self._open.enter_context(opened)
            yield self._registry
        finally:
            self._turn.release()

    def close(self) -> None:
        """Let go of Kafka."""
        self._open.close()
