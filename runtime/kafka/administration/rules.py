"""What the topics must be, whoever made them, and the remedy for each that is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.settings import Settings
from schemas.topics import (
    ALL_TOPICS,
    DEAD_LETTER,
    LABELS,
    MAX_MESSAGE_BYTES,
    TRANSACTIONS,
    TopicSpec,
)

INPUTS: Final = (TRANSACTIONS, LABELS)
OUTPUT_CONFIG: Final = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
"""Dead letters and vectors carry a whole input message of up to 1 MB, Kafka's default limit, and so
need a larger one."""
ENVELOPE_BYTES: Final = 65_536
"""What a dead letter adds to the message that it carries, at most."""
BY_CARD: Final = sum(spec.partitioned for spec in ALL_TOPICS)
"""How many topics are keyed by card; all must have the same number of partitions."""


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as it is on the broker.

    `config` is None if this user may not read it; `rights` is None if the broker does not say.
    """

    partitions: int
    replicas: int = 1
    config: Mapping[str, str] | None = None
    rights: frozenset[str] | None = None


@dataclass(slots=True)
class Findings:
    """What is wrong, each as a sentence with its remedy."""

    problems: list[str] = field(default_factory=list)
    """No service may run like this."""
    warnings: list[str] = field(default_factory=list)
    """Everything is served, but something that is promised is not kept."""


def partitions_of(spec: TopicSpec, settings: Settings) -> int:
    """Return the number of partitions that a topic must have."""
    return settings.partitions if spec.partitioned else 1


def config_of(spec: TopicSpec) -> dict[str, str]:
    """Return the configuration with which a topic is created."""
    return spec.config if spec in INPUTS else OUTPUT_CONFIG | spec.config


def findings(settings: Settings, found: Mapping[str, FoundTopic]) -> Findings:
    """Compare the topics that exist, by full name, with what they must be."""
    known = [(spec, found[name]) for spec in ALL_TOPICS if (name := settings.topic(spec)) in found]
    result = Findings(list(_partition_problems(settings, known)))
    limits = [
        int(topic.config.get("max.message.bytes", 0))
        for spec, topic in known
        if spec in INPUTS and topic.config is not None
    ]
    unread = [settings.topic(spec) for spec, topic in known if topic.config is None]
    if unread:
        result.warnings.append(
            f"the configuration was not verified of {', '.join(unread)}: "
            "grant DescribeConfigs there"
        )
    for spec, topic in known:
        if topic.config is None:
            continue
        rules = _Rules(settings, spec, topic)
        result.problems += [*rules.cleanup(), *rules.size(max(limits, default=0)), *rules.in_sync()]
        result.warnings += [*rules.retention(), *rules.timestamps()]
    return result


def _partition_problems(
    settings: Settings, known: Sequence[tuple[TopicSpec, FoundTopic]]
) -> Iterator[str]:
    by_card = [(settings.topic(spec), topic) for spec, topic in known if spec.partitioned]
    counts = {topic.partitions for _, topic in by_card}
    wanted, most = settings.partitions, max(counts, default=0)
    if counts == {most} and most != wanted and len(by_card) == BY_CARD:
        yield (
            f"FRAUD_PARTITIONS is {wanted}, but the topics keyed by card have "
            f"{_counted(most)}: set FRAUD_PARTITIONS={most}"
        )
    elif most > wanted:
        named = ", ".join(f"{name} has {topic.partitions}" for name, topic in by_card)
        short = [name for name, topic in by_card if topic.partitions < most]
        yield (
            f"FRAUD_PARTITIONS is {wanted}, but {named} partitions: Kafka cannot take any away, so "
            f"set FRAUD_PARTITIONS={most}"
            + "".join(f"; {_add_partitions(settings, name, most)}" for name in short)
        )
    else:
        for name, topic in by_card:
            if topic.partitions < wanted:
                yield (
                    f"topic {name} has {_counted(topic.partitions)}, but FRAUD_PARTITIONS is "
                    f"{wanted}: {_add_partitions(settings, name, wanted)}"
                )
    for spec, topic in known:
        if not spec.partitioned and topic.partitions != 1:
            name = settings.topic(spec)
            yield (
                f"topic {name} has {topic.partitions} partitions, but its messages must stay in "
                "one order: delete it while it is empty and create it with 1, or use another "
                "FRAUD_TOPIC_PREFIX"
            )


class _Rules:
    """The rules of one topic's configuration."""

    def __init__(self, settings: Settings, spec: TopicSpec, topic: FoundTopic) -> None:
        self.name = settings.topic(spec)
        self._settings, self._spec, self._topic = settings, spec, topic
        self._config = topic.config or {}

    def cleanup(self) -> Iterator[str]:
        """A compacted topic must keep the newest of each key, the others each message."""
        wanted, found = self._spec.config["cleanup.policy"], self._config.get("cleanup.policy")
        if found is None or found == wanted:
            return
        lost = (
            "what is in force would be deleted with its age"
            if wanted == "compact"
            else "all but the newest message of each key would be deleted"
        )
        yield (
            f"topic {self.name} has cleanup.policy={found}, so {lost}: "
            f"{self._set('cleanup.policy', wanted)}"
        )

    def size(self, input_bytes: int) -> Iterator[str]:
        """A dead letter carries a whole input message, and one that is too large ends a process."""
        if self._spec != DEAD_LETTER:
            return
        found = int(self._config.get("max.message.bytes", MAX_MESSAGE_BYTES))
        if found < min(input_bytes + ENVELOPE_BYTES, MAX_MESSAGE_BYTES):
            yield (
                f"topic {self.name} has max.message.bytes={found}, which is too little for a dead "
                f"letter with an input message of {input_bytes} bytes: "
                f"{self._set('max.message.bytes', str(MAX_MESSAGE_BYTES))}"
            )

    def in_sync(self) -> Iterator[str]:
        """With fewer replicas than must be in sync, Kafka takes no message."""
        least = int(self._config.get("min.insync.replicas", 1))
        if least > self._topic.replicas:
            yield (
                f"topic {self.name} has min.insync.replicas={least}, but replication factor "
                f"{self._topic.replicas}, so it takes no message: "
                f"{self._set('min.insync.replicas', str(self._topic.replicas))}"
            )

    def retention(self) -> Iterator[str]:
        """Say what is kept for a shorter time than promised, or up to a size."""
        wanted = int(self._spec.config.get("retention.ms", -1))
        found = int(self._config.get("retention.ms", -1))
        if wanted > 0 and 0 <= found < wanted:
            yield (
                f"topic {self.name} has retention.ms={found}, but {wanted} are promised: what was "
                f"not read by then is lost: {self._set('retention.ms', str(wanted))}"
            )
        size = int(self._config.get("retention.bytes", -1))
        if wanted > 0 and size >= 0:
            yield (
                f"topic {self.name} has retention.bytes={size}, so messages may be deleted before "
                f"their time: {self._set('retention.bytes', '-1')}"
            )

    def timestamps(self) -> Iterator[str]:
        """Say where the broker does not stamp arrivals; such a topic is read by our own clock."""
        name = "message.timestamp.type"
        found = self._config.get(name)
        if name in self._spec.config and found is not None and found != self._spec.config[name]:
            yield (
                f"topic {self.name} has {name}={found}: our clock at the time of reading is taken "
                "for the arrival, so a rebuild may take an event that was refused as in the "
                f"future: {self._set(name, self._spec.config[name])}"
            )

    def _set(self, name: str, value: str) -> str:
        return (
            f"set it with kafka-configs --bootstrap-server {self._settings.bootstrap} --alter "
            f"--entity-type topics --entity-name {self.name} --add-config {name}={value}"
        )


def _add_partitions(settings: Settings, name: str, count: int) -> str:
    return (
        f"add partitions with kafka-topics --bootstrap-server {settings.bootstrap} --alter "
        f"--topic {name} --partitions {count}"
    )


def _counted(partitions: int) -> str:
    return "1 partition" if partitions == 1 else f"{partitions} partitions"
