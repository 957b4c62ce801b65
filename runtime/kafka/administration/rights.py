"""The rights that each service needs on Kafka; docs/kafka.md has them as a table.

In Kafka, Read and Write include Describe. DescribeConfigs on a topic is asked for nowhere: with it
the configuration is verified at the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from runtime.kafka.administration.rules import FoundTopic
from runtime.settings import Settings
from schemas.topics import (
    ALERTS,
    DEAD_LETTER,
    DECISIONS,
    FEATURES,
    LABELS,
    MODELS,
    POLICY,
    RETRAIN_REQUESTS,
    TRANSACTIONS,
    TopicSpec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What one service must be allowed.

    `writers` are the topics whose transactional id it uses: Write on `<topic>-writer`.
    """

    describe: tuple[TopicSpec, ...] = ()
    read: tuple[TopicSpec, ...] = ()
    write: tuple[TopicSpec, ...] = ()
    groups: tuple[str, ...] = ()
    writers: tuple[TopicSpec, ...] = ()

    def topics(self) -> Iterator[tuple[TopicSpec, str]]:
        """Yield each topic with an operation on it."""
        for operation, specs in (
            ("Describe", self.describe), ("Read", self.read), ("Write", self.write)
        ):  # fmt: skip
            for spec in specs:
                yield spec, operation


RIGHTS: Final[Mapping[str, Rights]] = {
    "stream_features": Rights(
        read=(TRANSACTIONS, LABELS), write=(FEATURES, DEAD_LETTER), groups=("stream-features",)
    ),
    "scorer": Rights(
        read=(FEATURES, DECISIONS, MODELS, POLICY),
        write=(DECISIONS, DEAD_LETTER, ALERTS),
        groups=("scorer",),
    ),
    "gateway": Rights(read=(DECISIONS, DEAD_LETTER, POLICY), write=(TRANSACTIONS,)),
    "store": Rights(read=(FEATURES, DECISIONS, LABELS, POLICY)),
    "dashboard": Rights(
        read=(DECISIONS, LABELS, ALERTS, MODELS, POLICY), write=(LABELS, MODELS), writers=(MODELS,)
    ),
    "monitor": Rights(
        describe=(TRANSACTIONS,),
        read=(FEATURES, DECISIONS, LABELS, MODELS, ALERTS, RETRAIN_REQUESTS),
        write=(MODELS, ALERTS, RETRAIN_REQUESTS),
        writers=(MODELS,),
    ),
    "archiver": Rights(read=(FEATURES, DECISIONS, LABELS), groups=("archiver",)),
    "trainer": Rights(
        read=(RETRAIN_REQUESTS, MODELS), write=(MODELS,), groups=("trainer",), writers=(MODELS,)
    ),
    "online": Rights(read=(FEATURES, LABELS, MODELS), write=(MODELS,), writers=(MODELS,)),
}
"""By the name of the service, as in its logs and metrics."""


def missing_topic_rights(
    settings: Settings, service: str, found: Mapping[str, FoundTopic]
) -> Iterator[str]:
    """Yield a line for each right on a topic that a service lacks, as far as the broker says."""
    for spec, operation in RIGHTS[service].topics():
        name = settings.topic(spec)
        topic = found.get(name)
        if topic is None or (topic.rights is not None and operation not in topic.rights):
            yield lacking(settings, service, operation, f"topic {name}")


def lacking(settings: Settings, service: str, operation: str, resource: str) -> str:
    """Return the line for one right that is missing."""
    user = settings.kafka_username or "of this connection"
    return (
        f"the Kafka user {user} may not {operation} {resource}, which {service} needs: grant it "
        "(docs/kafka.md has the table of rights)"
    )
