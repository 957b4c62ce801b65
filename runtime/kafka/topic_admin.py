"""Creates the system's topics."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from runtime.kafka.clients import connection
from runtime.retries import Retry
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.topics import ALL_TOPICS, LABELS, MAX_MESSAGE_BYTES, TRANSACTIONS

INPUTS: Final = (TRANSACTIONS, LABELS)
OUTPUT_CONFIG: Final = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
"""Dead letters and vectors carry a whole input message of up to 1 MB, Kafka's default limit, and so
need a larger one."""


def create_topics(settings: Settings, timeout_s: float = 30.0) -> None:
    """Create the missing topics; existing ones are left as they are. Blocks.

    Raises:
        ConfigurationError: a topic exists with another number of partitions, or Kafka refuses to
            create it.
        BrokerUnavailable: Kafka does not answer in time.
    """
    wanted = {
        settings.topic(spec): NewTopic(
            settings.topic(spec),
            num_partitions=settings.partitions if spec.partitioned else 1,
            replication_factor=settings.replication,
            config=spec.config if spec in INPUTS else OUTPUT_CONFIG | spec.config,
        )
        for spec in ALL_TOPICS
    }
    admin = AdminClient(connection(settings))
    futures = admin.create_topics(list(wanted.values()), operation_timeout=timeout_s)
    for name, future in futures.items():
        try:
            future.result(timeout_s)
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"cannot create {name}: no answer from {settings.bootstrap} within {timeout_s} s: "
                "check that Kafka is running there, or correct FRAUD_BOOTSTRAP"
            ) from error
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            if reason.retriable() or reason.code() == KafkaError._TIMED_OUT:
                raise BrokerUnavailable(f"cannot create {name}: {reason.str()}") from error
            raise ConfigurationError(f"cannot create {name}: {reason.str()}") from error
    found = _await_partitions(admin, set(wanted), timeout_s)
    for name, topic in wanted.items():
        if found[name] != topic.num_partitions:
            raise ConfigurationError(
                f"topic {name} has {found[name]} partitions, but this configuration asks for "
                f"{topic.num_partitions}: change FRAUD_PARTITIONS, or use another "
                "FRAUD_TOPIC_PREFIX"
            )


class _NotYetKnown(BrokerUnavailable):
    """A topic was created, but the broker asked does not know it yet."""


def _await_partitions(admin: AdminClient, names: set[str], timeout_s: float) -> dict[str, int]:
    """Return the number of partitions of each topic; new topics take a moment to appear."""

    def ask() -> dict[str, int]:
        try:
            topics = admin.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise BrokerUnavailable(f"cannot list topics: {error.args[0].str()}") from error
        found = {
            name: len(topics[name].partitions)
            for name in names & topics.keys()
            if topics[name].error is None and topics[name].partitions
        }
        if len(found) < len(names):
            raise _NotYetKnown(
                f"topics {sorted(names - found.keys())} did not appear within {timeout_s} s"
            )
        return found

    return Retry(errors=_NotYetKnown, max_time_s=timeout_s, first_wait_s=0.02)(ask)
