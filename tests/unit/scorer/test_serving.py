"""What one followed topic brings is applied, whatever becomes of the other."""

from __future__ import annotations

import threading
import time

from runtime.clock import SystemClock
from runtime.kafka.memory import MemoryBroker, MemoryReader
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from schemas.errors import BrokerUnavailable
from scorer.serving import ServingFollower
from tests.unit.scorer.test_policy_event import event


class Away(MemoryReader):
    """A reader that never gets an answer once it has read to the end."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        super().__init__(broker, topic)
        self.asked = threading.Event()

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        self.asked.set()
        raise BrokerUnavailable("models is away")


def test_a_policy_is_in_force_while_models_cannot_be_read() -> None:
    broker = MemoryBroker(1)
    models = Away(broker, "models")
    follower = ServingFollower(
        models,
        MemoryReader(broker, "policy"),
        alert=lambda _: None,
        metrics=Metrics("scorer"),
        clock=SystemClock(),
    )
    follower.start()
    try:
        assert models.asked.wait(10.0)
        broker.append("policy", (0, b"default", event()))
        deadline = time.monotonic() + 10.0
        while follower.serving.policy.version != "7":
            assert time.monotonic() < deadline, "the policy was read and lost"
            time.sleep(0.01)
        assert follower.dead() == ""
    finally:
        follower.stop()
