"""Producers that are new to a topic that is new: `make proof`, some five minutes.

A broker that becomes the leader of a partition between two requests of a producer may refuse the
first and accept the second. Without a wait for the first acknowledgement, 5 of 750 rounds lost up
to four messages, and nothing told of it.
"""

from __future__ import annotations

import uuid

from confluent_kafka.admin import AdminClient, NewTopic

from devstack.stack import Stack
from runtime.kafka.access.connection import connection
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.non_blocking_producer import KafkaNonBlockingProducer
from runtime.kafka.reader import end_offsets
from runtime.settings import load_settings

ROUNDS, MESSAGES = 300, 3_000


class Acknowledged:
    """Counts acknowledgements."""

    count = 0

    def __call__(self, _partition: int, _offset: int) -> None:
        self.count += 1


def test_nothing_that_was_acknowledged_is_missing(stack: Stack) -> None:
    settings = load_settings(
        bootstrap=stack.bootstrap, redis_url=stack.redis_url, partitions=stack.partitions
    )
    admin = AdminClient(connection(settings))
    values = [str(number).encode() for number in range(MESSAGES)]
    for _ in range(ROUNDS):
        names = [f"first-{uuid.uuid4().hex[:8]}" for _ in range(2)]
        made = admin.create_topics([NewTopic(name, stack.partitions, 1) for name in names])
        for done in made.values():
            done.result(60.0)
        blocking = KafkaProducer(settings)
        blocking.produce_many(
            names[0], [(at % stack.partitions, None, value) for at, value in enumerate(values)]
        )
        blocking.flush(60.0)
        acknowledged = Acknowledged()
        other = KafkaNonBlockingProducer(settings, names[1])
        for value in values:
            other.send(value, value, acknowledged)
        assert other.flush(60.0) == 0
        assert acknowledged.count == MESSAGES
        for name in names:
            assert sum(end_offsets(settings, name).values()) == MESSAGES
        blocking.close()
        admin.delete_topics(names)
