"""The event that carries a policy on the `policy` topic: what is published, followed and shown."""

from __future__ import annotations

from typing import Final

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError
from schemas.records import PolicyEvent
from scorer.policy.document import DEFAULT_POLICY, Policy, compile_policy

POLICY_ID: Final = "default"
"""The one policy that scorers follow; the topic's key."""


def read_policy(message: Message) -> tuple[Policy, PolicyEvent | None]:
    """Return the policy that a message puts in force, and its event; a deletion has none.

    Raises:
        BadMessage: it is no event of the policy that scorers follow.
        ConfigurationError: the document is refused.
    """
    if message.key != POLICY_ID.encode():
        raise BadMessage(f"the key is {message.key!r}: only {POLICY_ID!r} is followed")
    if message.value is None:
        return DEFAULT_POLICY, None
    name, record = avro.decode(message.value)
    if name != "PolicyEvent":
        raise BadMessage(f"a {name} on the policy topic")
    event: PolicyEvent = record  # type: ignore[assignment]
    policy = compile_policy(event["document"])
    if policy.version != event["version"]:
        raise ConfigurationError(
            f"the event says version {event['version']}, its document {policy.version}"
        )
    return policy, event
