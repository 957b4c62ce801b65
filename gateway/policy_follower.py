"""The policy in force, followed on a thread: its fallback answers what comes back too late."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import structlog

from runtime.kafka.protocols import Message, Reader
from schemas.errors import BadMessage, BrokerUnavailable, ConfigurationError
from scorer.policy.document import DEFAULT_POLICY, Policy
from scorer.policy.event import read_policy

log = structlog.get_logger(__name__)
POLL_S: Final = 0.5


class PolicyFollower:
    """Keeps `policy` up to date; a refused document leaves the one before, as in the scorer."""

    def __init__(self, reader: Reader) -> None:
        self.policy: Policy = DEFAULT_POLICY
        self._reader = reader
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="policy", daemon=True)

    def start(self) -> None:
        """Read the topic to its end, then follow on a thread.

        Raises:
            BrokerUnavailable: Kafka does not answer.
        """
        self._apply(self._reader.read_to_end())
        self._thread.start()

    def stop(self) -> None:
        """Stop following; returns when the thread has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._reader.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._apply(self._reader.poll_batch(timeout_s=POLL_S))
            except BrokerUnavailable as error:
                log.warning("cannot follow the policy", reason=str(error))
                self._stop.wait(1.0)

    def _apply(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self.policy, _ = read_policy(message)
            except (BadMessage, ConfigurationError) as error:
                log.warning("policy refused", reason=str(error))
            else:
                log.info("policy", version=self.policy.version)
