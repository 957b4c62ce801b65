"""The policy by which the gateway answers when a decision comes too late."""

from __future__ import annotations

from gateway.policy_follower import PolicyFollower
from runtime.kafka.memory import MemoryBroker, MemoryReader
from tests.support.waiting import until
from tests.unit.scorer.test_policy_event import event


def test_the_policy_in_force_is_known_at_the_start_and_followed_from_there() -> None:
    broker = MemoryBroker(1)

    def publish(value: bytes | None) -> None:
        broker.append("policy", (0, b"default", value))

    publish(event("6", '{"version": "6"}'))
    publish(event("7", '{"version": "7"}'))
    follower = PolicyFollower(MemoryReader(broker, "policy"))
    follower.start()
    try:
        assert follower.policy.version == "7"
        with broker.arrived:  # it reads both at once, and refuses the second
            publish(event("8", '{"version": "8"}'))
            publish(event("9", '{"version": "9", "rules": "none"}'))
        until(lambda: follower.policy.version == "8", "the policy that was put")
        publish(None)
        until(lambda: follower.policy.version == "default", "the policy without a record")
    finally:
        follower.stop()
