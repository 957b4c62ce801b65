"""The event that carries a policy on the `policy` topic."""

from __future__ import annotations

from typing import Final

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError
from schemas.records import PolicyEvent
from scorer.policy.document import DEFAULT_POLICY, Policy, compile_policy

POLICY_ID: Final = "default"
"""Key of the one policy that scorers follow."""


def read_policy(message: Message) -> tuple[Policy, PolicyEvent | None]:
    """Return the policy that a message puts in force, and its event.

    A deletion (a message without a value) restores DEFAULT_POLICY and has no event.

    Raises:
        BadMessage: the message is not an event of the policy that scorers follow.
        ConfigurationError: the document is invalid.
    """
    if message.key != POLICY_ID.encode():
        raise BadMessage(f"the key is {message.key!r}, but scorers follow only {POLICY_ID!r}")
    if message.value is None:
        return DEFAULT_POLICY, None
    name, record = avro.decode(message.value)
    if name != "PolicyEvent":
        raise BadMessage(f"a {name} on the policy topic")
    event: PolicyEvent = record  # type: ignore[assignment]
    policy = compile_policy(event["document"])
    if policy.version != event["version"]:
        raise ConfigurationError(
            f"the event has version {event['version']}, but its document {policy.version}"
        )
    return policy, event
