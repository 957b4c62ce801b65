"""Topics that others made, or that nobody has made yet, on a real Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from devstack.stack import Stack
from runtime.kafka.topic_admin import TopicAdministration, create_topics
from runtime.settings import Settings, load_settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.topics import ALL_TOPICS, MODELS, TRANSACTIONS
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return load_settings(bootstrap=stack.bootstrap, topic_prefix=f"{uuid.uuid4().hex}.")


@pytest.fixture
def admin(stack: Stack) -> AdminClient:
    return AdminClient({"bootstrap.servers": stack.bootstrap})


def names(settings: Settings, admin: AdminClient) -> set[str]:
    """Return the topics of an installation that exist, without the prefix."""
    prefix = settings.topic_prefix
    found = admin.list_topics(timeout=PATIENCE_S).topics
    return {name.removeprefix(prefix) for name in found if name.startswith(prefix)}


def make(settings: Settings, admin: AdminClient, spec: Any, partitions: int) -> None:
    [done] = admin.create_topics([NewTopic(settings.topic(spec), partitions, 1)]).values()
    done.result(PATIENCE_S)
    until(lambda: spec.name in names(settings, admin), "the topic is there")


def configure(settings: Settings, admin: AdminClient, spec: Any, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, settings.topic(spec), incremental_configs=[entry])
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(PATIENCE_S)


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "FRAUD_BOOTSTRAP": settings.bootstrap,
        "FRAUD_TOPIC_PREFIX": settings.topic_prefix,
    }
    return subprocess.run(
        [sys.executable, "-m", "runtime", "topics", *arguments],
        capture_output=True, text=True, env=env,
    )  # fmt: skip


def test_a_producer_that_was_first_is_told_of_before_anything_is_created(
    settings: Settings, admin: AdminClient
) -> None:
    make(settings, admin, TRANSACTIONS, 1)
    with pytest.raises(ConfigurationError) as found:
        create_topics(settings)
    line = str(found.value)
    assert "has 1 partition, but FRAUD_PARTITIONS is 4: add partitions with kafka-topics" in line
    assert line.endswith(f"--topic {settings.topic(TRANSACTIONS)} --partitions 4")
    assert names(settings, admin) == {"transactions"}


def test_models_that_would_be_deleted_are_refused(settings: Settings, admin: AdminClient) -> None:
    make(settings, admin, MODELS, 1)
    configure(settings, admin, MODELS, "retention.ms", "60000")
    with pytest.raises(ConfigurationError, match=r"models has cleanup\.policy=delete, so what is"):
        create_topics(settings)
    assert names(settings, admin) == {"models"}
    configure(settings, admin, MODELS, "cleanup.policy", "compact")
    administration = TopicAdministration(settings)
    until(lambda: administration.check(create=True).problems == [], "the remedy has helped")
    assert names(settings, admin) == {spec.name for spec in ALL_TOPICS}


def test_a_replication_that_the_cluster_cannot_have_creates_nothing_and_matters_only_then(
    settings: Settings, admin: AdminClient
) -> None:
    three = settings.model_copy(update={"replication": 3})
    with pytest.raises(ConfigurationError, match="correct FRAUD_REPLICATION, which is 3"):
        create_topics(three)
    assert names(settings, admin) == set()
    create_topics(settings)
    create_topics(three)


def test_topics_are_created_and_checked_by_a_command(
    settings: Settings, admin: AdminClient
) -> None:
    missing = command(settings, "check")
    assert missing.returncode == 2
    assert missing.stderr.count("does not exist: run `python -m runtime topics create`") == 9
    created = command(settings, "create", "--json", "-")
    assert created.returncode == 0, created.stderr
    assert len(json.loads(created.stdout)["created"]) == 9
    fine = command(settings, "check", "--service", "scorer")
    assert (fine.returncode, fine.stderr) == (0, "the topics are as they must be\n")
    configure(settings, admin, TRANSACTIONS, "message.timestamp.type", "CreateTime")
    administration = TopicAdministration(settings)
    until(lambda: administration.check().warnings != [], "the change is known")
    warned = command(settings, "check", "--json", "-")
    assert warned.returncode == 0
    assert "message.timestamp.type=CreateTime" in json.loads(warned.stdout)["warnings"][0]
    unknown = command(settings, "check", "--service", "cook")
    assert unknown.returncode == 2
    assert "--service cook: there are archiver, dashboard" in unknown.stderr


def test_a_broker_that_is_away_is_a_passing_trouble() -> None:
    away = load_settings(bootstrap="127.0.0.1:9")
    with pytest.raises(BrokerUnavailable, match=r"no answer from 127\.0\.0\.1:9 ") as found:
        create_topics(away, timeout_s=0.5)
    assert "FRAUD_BOOTSTRAP" in str(found.value)
