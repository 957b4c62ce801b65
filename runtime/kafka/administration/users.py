"""Makes one Kafka user for each service, with the rights of `rights.RIGHTS`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from runtime.kafka.access.connection import connection
from runtime.kafka.administration.rights import RIGHTS
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.topics import ALL_TOPICS

_TIMEOUT_S: Final = 30.0
_ITERATIONS: Final = 8192
_OPERATIONS: Final = {
    "Describe": AclOperation.DESCRIBE,
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
}


def create_users(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Let each service log in by SCRAM-SHA-512 under its name, and grant what it needs. Blocks.

    Call it as a user who may alter users and rights. It can be repeated: passwords are replaced,
    and rights are added. Rights that somebody else granted stay.

    Args:
        passwords: by service; each of `RIGHTS` must have one.

    Raises:
        ConfigurationError: a service has no password, or this user may not do that.
        BrokerUnavailable: Kafka does not answer.
    """
    missing = [service for service in RIGHTS if not passwords.get(service)]
    if missing:
        raise ConfigurationError(f"no password is given for {', '.join(missing)}")
    admin = AdminClient(connection(settings))
    login = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(service, login, passwords[service].encode())
        for service in RIGHTS
    ]
    rights = [binding for service in RIGHTS for binding in _bindings(settings, service)]
    try:
        for asked in (
            admin.alter_user_scram_credentials(users, request_timeout=_TIMEOUT_S),
            admin.create_acls(rights, request_timeout=_TIMEOUT_S),
        ):
            for done in asked.values():
                done.result(_TIMEOUT_S)
    except TimeoutError as late:
        raise BrokerUnavailable(
            f"no answer from {settings.bootstrap} within {_TIMEOUT_S} s: check that Kafka is "
            "running there, or correct FRAUD_BOOTSTRAP and FRAUD_KAFKA_*"
        ) from late
    except KafkaException as refused:
        raise ConfigurationError(
            f"Kafka makes no users: {refused.args[0].str()}: log in as an administrator, on a "
            "broker with an authoriser"
        ) from refused


def _bindings(settings: Settings, service: str) -> Iterator[AclBinding]:
    rights = RIGHTS[service]
    for spec, operation in rights.topics():
        yield _allow(service, ResourceType.TOPIC, settings.topic(spec), _OPERATIONS[operation])
    for spec in ALL_TOPICS:
        topic = settings.topic(spec)
        yield _allow(service, ResourceType.TOPIC, topic, AclOperation.DESCRIBE_CONFIGS)
    for group in rights.groups:
        yield _allow(service, ResourceType.GROUP, settings.group(group), AclOperation.READ)
    for spec in rights.writers:
        writer = f"{settings.topic(spec)}-writer"
        yield _allow(service, ResourceType.TRANSACTIONAL_ID, writer, AclOperation.WRITE)


def _allow(user: str, kind: ResourceType, name: str, operation: AclOperation) -> AclBinding:
    return AclBinding(
        kind,
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
