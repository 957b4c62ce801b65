"""Creates the topics that are missing, if this user may, and verifies the others.

Nothing is created before everything that exists has been verified.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewTopic

from runtime.kafka import errors
from runtime.kafka.access.connection import connection
from runtime.kafka.administration.rights import RIGHTS, lacking, missing_topic_rights
from runtime.kafka.administration.rules import (
    Findings,
    FoundTopic,
    config_of,
    findings,
    partitions_of,
)
from runtime.retries import Retry
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.topics import ALL_TOPICS

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")
_DENIED: Final = frozenset(
    {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
)
_AWAY: Final = frozenset(
    {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
)


def create_topics(settings: Settings, timeout_s: float = 30.0, service: str | None = None) -> None:
    """Create the missing topics and verify the others. Blocks.

    Args:
        service: whose rights are verified, too, by its name in `rights.RIGHTS`. It may start
            without topics that it does not need.

    Raises:
        ConfigurationError: a topic is not what it must be, or is missing and may not be created,
            or a right is missing.
        BrokerUnavailable: Kafka does not answer in time.
    """
    found = TopicAdministration(settings, timeout_s).check(service, create=True)
    for warning in found.warnings:
        log.warning("a topic is not as promised", reason=warning)
    if found.problems:
        raise ConfigurationError("\n  ".join(found.problems))


class _NotYetKnown(BrokerUnavailable):
    """A topic was created, but the broker asked does not know it yet."""


class TopicAdministration:
    """The topics of one installation, as an administrator or a service sees them. Blocks."""

    def __init__(self, settings: Settings, timeout_s: float = 30.0) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._names = {settings.topic(spec): spec for spec in ALL_TOPICS}
        self._refused = ""
        self._admin = AdminClient(connection(settings) | {"error_cb": self._note})
        self.created: list[str] = []
        """Full names of the topics that `check` has created."""

    def check(self, service: str | None = None, *, create: bool = False) -> Findings:
        """Verify what exists; if nothing is wrong and `create` is set, create what is missing.

        Raises:
            BrokerUnavailable: Kafka does not answer in time.
        """
        found, missing = self._look(self._names)
        result = findings(self._settings, found)
        needed, unseen = set(self._names), sorted(self._names.keys() - found.keys() - set(missing))
        if service is not None:
            needed = {self._settings.topic(spec) for spec, _ in RIGHTS[service].topics()}
        if not create:
            result.problems += [
                f"topic {name} does not exist: run `python -m runtime topics create`"
                for name in sorted(needed.intersection(missing))
            ]
        elif missing and not result.problems:
            refused = self._create(missing, needed)
            if self.created:
                found |= self._await(self.created)
                result = findings(self._settings, found)
            result.problems += [
                f"topic {name} does not exist and cannot be created: {reason}"
                for name, reason in sorted(refused.items())
            ]
        if service is None and unseen:
            result.warnings.append(
                f"this user may not see {', '.join(unseen)}, so nothing was verified there: "
                "grant Describe"
            )
        if service is not None and not result.problems:
            result.problems += missing_topic_rights(self._settings, service, found)
            result.problems += self._missing_group_rights(service)
        return result

    def _look(self, names: Collection[str]) -> tuple[dict[str, FoundTopic], list[str]]:
        """Return the topics that this user may see, and the names of those that do not exist."""
        answers = self._admin.describe_topics(
            TopicCollection(list(names)),
            include_authorized_operations=True,
            request_timeout=self._timeout_s,
        )
        seen: dict[str, Any] = {}
        missing = []
        for name, future in answers.items():
            try:
                seen[name] = self._result(future, f"look at topic {name}")
            except _Refused as error:
                if error.code == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    missing.append(name)
        configs = self._configs(list(seen))
        return {
            name: FoundTopic(
                partitions=len(topic.partitions),
                replicas=min((len(each.replicas) for each in topic.partitions), default=1),
                config=configs.get(name),
                rights=_operations(topic.authorized_operations),
            )
            for name, topic in seen.items()
        }, missing

    def _configs(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """Return the configuration of each topic whose configuration this user may read."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        configs: dict[str, Mapping[str, str]] = {}
        for resource, future in answers.items():
            try:
                entries = self._result(future, f"read the configuration of {resource.name}")
            except _Refused:
                continue
            configs[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
        return configs

    def _create(self, missing: Collection[str], needed: Collection[str]) -> dict[str, str]:
        """Create topics unless a needed one is refused; return the reasons of those refused."""
        settings = self._settings
        topics = [
            NewTopic(
                name,
                num_partitions=partitions_of(self._names[name], settings),
                replication_factor=settings.replication,
                config=config_of(self._names[name]),
            )
            for name in missing
        ]
        refused = self._asked_to_create(topics, validate_only=True)
        if not refused.keys() & set(needed):
            topics = [topic for topic in topics if topic.topic not in refused]
            refused |= self._asked_to_create(topics, validate_only=False)
            self.created = [topic.topic for topic in topics if topic.topic not in refused]
        return {name: reason for name, reason in refused.items() if name in needed}

    def _asked_to_create(self, topics: Sequence[NewTopic], validate_only: bool) -> dict[str, str]:
        if not topics:
            return {}
        answers = self._admin.create_topics(
            list(topics),
            operation_timeout=self._timeout_s,
            request_timeout=self._timeout_s,
            validate_only=validate_only,
        )
        refused = {}
        for name, future in answers.items():
            try:
                self._result(future, f"create {name}")
            except _Refused as error:
                if error.code != KafkaError.TOPIC_ALREADY_EXISTS:
                    refused[name] = f"{error}: {self._remedy(error.code)}"
        return refused

    def _remedy(self, code: int) -> str:
        if code == KafkaError.INVALID_REPLICATION_FACTOR:
            return f"correct FRAUD_REPLICATION, which is {self._settings.replication}"
        if code == KafkaError.POLICY_VIOLATION:
            return "correct FRAUD_REPLICATION, or make the topic by hand (docs/kafka.md)"
        return "run `python -m runtime topics create` as a user who may create topics"

    def _await(self, names: Collection[str]) -> dict[str, FoundTopic]:
        """Return the topics once the broker knows them; new topics take a moment to appear."""

        def ask() -> dict[str, FoundTopic]:
            found, missing = self._look(names)
            if missing or not all(topic.partitions for topic in found.values()):
                raise _NotYetKnown(f"topics {missing} did not appear within {self._timeout_s} s")
            return found

        return Retry(errors=_NotYetKnown, max_time_s=self._timeout_s, first_wait_s=0.02)(ask)

    def _missing_group_rights(self, service: str) -> list[str]:
        problems = []
        for name in map(self._settings.group, RIGHTS[service].groups):
            [future] = self._admin.describe_consumer_groups(
                [name], include_authorized_operations=True, request_timeout=self._timeout_s
            ).values()
            try:
                rights = _operations(
                    self._result(future, f"look at group {name}").authorized_operations
                )
            except _Refused as error:
                rights = frozenset() if error.code in _DENIED else None
            if rights is not None and "Read" not in rights:
                problems.append(lacking(self._settings, service, "Read", f"group {name}"))
        return problems

    def _result(self, future: Future[Answer], what: str) -> Answer:
        """Return an answer of the broker.

        Raises:
            _Refused: it answers with an error that stays.
            BrokerUnavailable: it does not answer, or not yet.
        """
        try:
            return future.result(self._timeout_s + 1)
        except TimeoutError as late:
            raise self._away(what) from late
        except KafkaException as failed:
            error: KafkaError = failed.args[0]
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _Refused(error) from failed
            if error.code() in _AWAY:
                raise self._away(what) from failed
            if error.retriable():
                raise BrokerUnavailable(f"cannot {what}: {error.str()}") from failed
            raise _Refused(error) from failed

    def _away(self, what: str) -> BrokerUnavailable:
        self._admin.poll(0)  # reports why the connection fails
        reason = f" ({self._refused})" if self._refused else ""
        return BrokerUnavailable(
            f"cannot {what}: no answer from {self._settings.bootstrap} within {self._timeout_s} s"
            f"{reason}: check that Kafka is running there, or correct FRAUD_BOOTSTRAP and "
            "FRAUD_KAFKA_*"
        )

    def _note(self, error: KafkaError) -> None:
        errors.report(error.name())
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refused = error.str()


class _Refused(Exception):
    """The broker's error for one topic or group."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.str())
        self.code = error.code()


def _operations(found: Sequence[Any] | None) -> frozenset[str] | None:
    """Return the names of operations as Kafka's tools write them, or None if it does not say."""
    if not found:
        return None
    return frozenset(each.name.title().replace("_", "") for each in found)
