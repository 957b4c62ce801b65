"""Creation of our topics; every service calls it before it starts to read."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.runtime.kafka import connection
from schemas.runtime.settings import Settings
from schemas.runtime.streams import MAX_MESSAGE_BYTES
from schemas.topics import ALL_TOPICS, LABELS, TRANSACTIONS

INPUTS: Final = (TRANSACTIONS, LABELS)
DERIVED: Final = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
"""A dead letter or a vector carries an input message of up to Kafka's 1 MB, so it needs more."""


def create_topics(settings: Settings, timeout_s: float = 30.0) -> None:
    """Create the topics that are not there yet; harmless when they are. Blocks.

    Raises:
        ConfigurationError: a topic is there with another number of partitions, or is refused.
        BrokerUnavailable: Kafka does not answer in time.
    """
    wanted = {
        settings.topic(spec): NewTopic(
            settings.topic(spec),
            num_partitions=settings.partitions if spec.partitioned else 1,
            replication_factor=settings.replication,
            config=spec.config if spec in INPUTS else DERIVED | spec.config,
        )
        for spec in ALL_TOPICS
    }
    admin = AdminClient(connection(settings))
    futures = admin.create_topics(list(wanted.values()), operation_timeout=timeout_s)
    there = False
    for name, future in futures.items():
        try:
            future.result(timeout_s)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                there = True
            elif reason.retriable() or reason.code() == KafkaError._TIMED_OUT:
                raise BrokerUnavailable(f"cannot create {name}: {reason.str()}") from error
            else:
                raise ConfigurationError(f"cannot create {name}: {reason.str()}") from error
    if there:
        _compare(admin, {name: topic.num_partitions for name, topic in wanted.items()}, timeout_s)


def _compare(admin: AdminClient, wanted: dict[str, int], timeout_s: float) -> None:
    try:
        topics = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise BrokerUnavailable(f"cannot list topics: {error.args[0].str()}") from error
    for name, partitions in wanted.items():
        if name in topics and len(topics[name].partitions) != partitions:
            raise ConfigurationError(
                f"topic {name} has {len(topics[name].partitions)} partitions, FRAUD_PARTITIONS "
                f"asks for {partitions}: change the setting, or use another FRAUD_TOPIC_PREFIX"
            )
