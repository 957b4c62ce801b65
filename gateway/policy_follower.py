"""The policy in force, kept up to date: its fallback replaces decisions that are too late."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from runtime.kafka.follower import Feed, Follower
from runtime.kafka.protocols import Message, Reader
from schemas.errors import BadMessage, ConfigurationError
from scorer.policy.document import DEFAULT_POLICY, Policy
from scorer.policy.event import read_policy

log = structlog.get_logger(__name__)


class PolicyFollower:
    """Keeps `policy` up to date; an invalid document changes nothing, as in the scorer."""

    def __init__(self, reader: Reader) -> None:
        self.policy: Policy = DEFAULT_POLICY
        self._reader = reader
        self._follower = Follower("policy", self._open)

    def start(self) -> None:
        """Read the topic to its end, then follow it on a thread. Blocks until then.

        Raises:
            BrokerUnavailable: Kafka does not answer.
        """
        self._follower.start()

    def stop(self) -> None:
        """Stop following."""
        self._follower.stop()

    def _open(self) -> list[Feed]:
        try:
            self._apply(self._reader.read_to_end())
        except BaseException:
            self._reader.close()
            raise
        return [Feed(self._reader, self._apply)]

    def _apply(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self.policy, _ = read_policy(message)
            except (BadMessage, ConfigurationError) as error:
                log.warning("policy refused", reason=str(error))
            else:
                log.info("policy", version=self.policy.version)
