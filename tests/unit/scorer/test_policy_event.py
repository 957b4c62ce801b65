"""Which messages of the `policy` topic put a policy in force."""

from __future__ import annotations

import pytest

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import BadMessage, ConfigurationError
from scorer.policy.document import DEFAULT_POLICY
from scorer.policy.event import read_policy

DOCUMENT = '{"version": "7"}'


def message(value: bytes | None, key: bytes | None = b"default") -> Message:
    return Message("policy", 0, 3, 1_000, key, value)


def event(version: str = "7", document: str = DOCUMENT) -> bytes:
    record = {
        "policy_id": "default",
        "version": version,
        "document": document,
        "occurred_at": 1_000,
        "actor": "jane",
    }
    return avro.encode("PolicyEvent", record)


def test_an_event_puts_its_document_in_force() -> None:
    policy, found = read_policy(message(event()))
    assert policy.version == "7"
    assert found is not None
    assert found["actor"] == "jane"


def test_deletion_brings_the_default_back() -> None:
    assert read_policy(message(None)) == (DEFAULT_POLICY, None)


@pytest.mark.parametrize("value", [None, event()])
@pytest.mark.parametrize("key", [b"other", None])
def test_other_policies_change_nothing(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(BadMessage, match="scorers follow only"):
        read_policy(message(value, key))


@pytest.mark.parametrize("value", [b"", b"junk", event()[:-1]])
def test_what_is_not_an_event_is_refused(value: bytes) -> None:
    with pytest.raises(BadMessage):
        read_policy(message(value))


@pytest.mark.parametrize(
    "value", [event("8"), event(document='{"version": "7", "x": 1}'), event(document="{")]
)
def test_a_document_that_does_not_compile_is_refused(value: bytes) -> None:
    with pytest.raises(ConfigurationError):
        read_policy(message(value))
