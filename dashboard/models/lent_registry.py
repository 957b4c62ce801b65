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
"""Longest wait of a page for Kafka, and for another thread to finish."""


class LentRegistry:
    """Opens the registry on first use, and lends it to one thread at a time.

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
        """Lend the registry for the duration of a `with` block.

        Raises:
            BrokerUnavailable: Kafka does not answer, or another thread holds the registry.
        """
        if not self._turn.acquire(timeout=WAIT_S):
            raise BrokerUnavailable("the model registry is in use: try again")
        try:
            if self._registry is None:
                opened = open_registry(self._settings, timeout_s=WAIT_S)
                self._registry = self._open.enter_context(opened)
            yield self._registry
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection to Kafka."""
        self._open.close()
