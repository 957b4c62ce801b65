"""What is said of topics that others made: the value that is wrong, and the command that helps."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.kafka.administration.rights import RIGHTS, missing_topic_rights
from runtime.kafka.administration.rules import FoundTopic, config_of, findings
from runtime.settings import load_settings
from schemas.topics import ALL_TOPICS, DAY_MS

SETTINGS = load_settings(bootstrap="broker:9092", partitions=4)
TO = "--bootstrap-server broker:9092 --alter"
CONFIG = f"set it with kafka-configs {TO} --entity-type topics --entity-name"
ADD = f"add partitions with kafka-topics {TO} --topic"


def as_created(**changed: int) -> dict[str, FoundTopic]:
    """Return all topics as we create them, except for some numbers of partitions; 0: missing."""
    made = {}
    for spec in ALL_TOPICS:
        count = changed.get(spec.name.replace("-", "_"), 4 if spec.partitioned else 1)
        if count:
            made[spec.name] = FoundTopic(count, config=config_of(spec))
    return made


def configured(name: str, replicas: int = 1, **config: Any) -> dict[str, FoundTopic]:
    found = as_created()
    changes = {key.replace("_", "."): str(value) for key, value in config.items()}
    old = found[name]
    found[name] = FoundTopic(old.partitions, replicas, {**(old.config or {}), **changes})
    return found


def test_topics_as_we_create_them_are_right() -> None:
    result = findings(SETTINGS, as_created())
    assert (result.problems, result.warnings) == ([], [])


@pytest.mark.parametrize(
    ("changed", "problems"),
    [
        (
            {"transactions": 1},
            [f"topic transactions has 1 partition, but FRAUD_PARTITIONS is 4: {ADD} transactions "
             "--partitions 4"],
        ),
        (  # the producer was first, and nothing else is there yet
            {"transactions": 1, "features": 0, "decisions": 0, "labels": 0},
            [f"topic transactions has 1 partition, but FRAUD_PARTITIONS is 4: {ADD} transactions "
             "--partitions 4"],
        ),
        (
            dict.fromkeys(("transactions", "features", "decisions", "labels"), 6),
            ["FRAUD_PARTITIONS is 4, but the topics keyed by card have 6 partitions: "
             "set FRAUD_PARTITIONS=6"],
        ),
        (
            dict.fromkeys(("transactions", "features", "decisions", "labels"), 1),
            ["FRAUD_PARTITIONS is 4, but the topics keyed by card have 1 partition: "
             "set FRAUD_PARTITIONS=1"],
        ),
        (
            {"transactions": 8, "labels": 8},
            ["FRAUD_PARTITIONS is 4, but transactions has 8, features has 4, decisions has 4, "
             "labels has 8 partitions: Kafka cannot take any away, so set FRAUD_PARTITIONS=8; "
             f"{ADD} features --partitions 8; {ADD} decisions --partitions 8"],
        ),
        (
            {"models": 3},
            ["topic models has 3 partitions, but its messages must stay in one order: delete it "
             "while it is empty and create it with 1, or use another FRAUD_TOPIC_PREFIX"],
        ),
    ],
)  # fmt: skip
def test_a_wrong_number_of_partitions_has_the_remedy_that_helps(
    changed: dict[str, int], problems: list[str]
) -> None:
    assert findings(SETTINGS, as_created(**changed)).problems == problems


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (
            configured("models", cleanup_policy="delete"),
            "topic models has cleanup.policy=delete, so what is in force would be deleted with its "
            f"age: {CONFIG} models --add-config cleanup.policy=compact",
        ),
        (
            configured("policy", cleanup_policy="compact,delete"),
            "topic policy has cleanup.policy=compact,delete, so what is in force would be deleted "
            f"with its age: {CONFIG} policy --add-config cleanup.policy=compact",
        ),
        (
            configured("transactions", cleanup_policy="compact"),
            "topic transactions has cleanup.policy=compact, so all but the newest message of each "
            f"key would be deleted: {CONFIG} transactions --add-config cleanup.policy=delete",
        ),
        (
            configured("features", min_insync_replicas=2),
            "topic features has min.insync.replicas=2, but replication factor 1, so it takes no "
            f"message: {CONFIG} features --add-config min.insync.replicas=1",
        ),
    ],
)
def test_a_configuration_that_loses_messages_is_a_problem(
    found: dict[str, FoundTopic], problem: str
) -> None:
    result = findings(SETTINGS, found)
    assert (result.problems, result.warnings) == ([problem], [])


def test_a_dead_letter_must_have_room_for_the_largest_input() -> None:
    found = configured("transactions", max_message_bytes=1_048_588)
    found |= {"dead-letter": configured("dead-letter", max_message_bytes=1_048_588)["dead-letter"]}
    [problem] = findings(SETTINGS, found).problems
    assert problem.startswith("topic dead-letter has max.message.bytes=1048588, which is too")
    assert problem.endswith(f"{CONFIG} dead-letter --add-config max.message.bytes=4000000")


@pytest.mark.parametrize(
    ("found", "begins", "ends"),
    [
        (
            configured("decisions", retention_ms=DAY_MS),
            "topic decisions has retention.ms=86400000, but 2592000000 are promised",
            "decisions --add-config retention.ms=2592000000",
        ),
        (
            configured("labels", retention_bytes=1_000),
            "topic labels has retention.bytes=1000",
            "labels --add-config retention.bytes=-1",
        ),
        (
            configured("labels", message_timestamp_type="CreateTime"),
            "topic labels has message.timestamp.type=CreateTime",
            "labels --add-config message.timestamp.type=LogAppendTime",
        ),
    ],
)
def test_what_is_served_but_not_as_promised_is_a_warning(
    found: dict[str, FoundTopic], begins: str, ends: str
) -> None:
    result = findings(SETTINGS, found)
    assert result.problems == []
    [warning] = result.warnings
    assert warning.startswith(begins)
    assert warning.endswith(ends)


def test_keeping_messages_longer_or_for_ever_is_fine() -> None:
    for kept in (-1, 400 * DAY_MS):
        assert findings(SETTINGS, configured("alerts", retention_ms=kept)).warnings == []


def test_configurations_that_may_not_be_read_are_one_warning() -> None:
    found = as_created() | {"models": FoundTopic(1), "policy": FoundTopic(1)}
    result = findings(SETTINGS, found)
    assert result.problems == []
    assert result.warnings == [
        "the configuration was not verified of models, policy: grant DescribeConfigs there"
    ]


@pytest.mark.parametrize("service", RIGHTS)
def test_each_right_that_is_missing_is_one_line(service: str) -> None:
    settings = load_settings(kafka_username="fraud")
    needed: dict[str, set[str]] = {}
    for spec, operation in RIGHTS[service].topics():
        needed.setdefault(spec.name, set()).add(operation)
    full = {name: FoundTopic(1, rights=frozenset(rights)) for name, rights in needed.items()}
    assert list(missing_topic_rights(settings, service, full)) == []
    unsaid = {name: FoundTopic(1) for name in needed}
    assert list(missing_topic_rights(settings, service, unsaid)) == []
    for name, rights in needed.items():
        for operation in rights:
            less = full | {name: FoundTopic(1, rights=frozenset(rights - {operation}))}
            assert list(missing_topic_rights(settings, service, less)) == [
                f"the Kafka user fraud may not {operation} topic {name}, which {service} needs: "
                "grant it (docs/kafka.md has the table of rights)"
            ]
