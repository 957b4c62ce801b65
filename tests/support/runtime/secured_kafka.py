"""A Kafka as companies run it: an authoriser, and a listener for each way to log in."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from devstack.ports import free_port
from devstack.servers.kafka import Kafka
from tests.support.certificates import self_signed
from tests.support.waiting import PATIENCE_S

PASSWORD: Final = "a password of tests"
Right = tuple[str, str, str]
"""(operation, kind of resource, its full name), like ("Read", "topic", "labels")."""
_KINDS: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
_OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Create": AclOperation.CREATE,
}


class SecuredKafka(Kafka):
    """`bootstrap` is for the administrator, who may do everything; `listeners` for all others."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kafka", folder / "logs", 4)
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = self_signed(folder)
        self._both = folder / "both.pem"
        self._both.write_text(self.key.read_text() + self.certificate.read_text())
        self.listeners = {name: f"127.0.0.1:{free_port()}" for name in ("SCRAM", "OAUTH", "TLS")}

    def properties(self) -> dict[str, object]:
        """Return the properties of the base class, with listeners and authoriser."""
        usual = super().properties()
        addresses = {"PLAINTEXT": self.bootstrap, **self.listeners}
        told = ",".join(f"{name}://{address}" for name, address in addresses.items())
        controller = str(usual["listeners"]).partition(",")[2]
        login = "org.apache.kafka.common.security"
        return usual | {
            "listeners": f"{told},{controller}",
            "advertised.listeners": told,
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_PLAINTEXT,"
                "OAUTH:SASL_PLAINTEXT,TLS:SSL"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": (
                f"{login}.scram.ScramLoginModule required;"
            ),
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.oauth.oauthbearer.sasl.jaas.config": (
                f"{login}.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "listener.name.tls.ssl.client.auth": "required",
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": self._both,
            "listener.name.tls.ssl.truststore.type": "PEM",
            "listener.name.tls.ssl.truststore.location": self.certificate,
        }

    @cached_property
    def administrator(self) -> AdminClient:
        """An admin client that may do everything."""
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def add_user(self, name: str) -> None:
        """Let a user log in by SCRAM with PASSWORD."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, PASSWORD.encode())
        for done in self.administrator.alter_user_scram_credentials([change]).values():
            done.result(PATIENCE_S)

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        """Give a user rights."""
        bindings = [AclBinding(*_pattern(user, right)) for right in rights]
        for done in self.administrator.create_acls(bindings).values():
            done.result(PATIENCE_S)

    def withdraw(self, user: str, right: Right) -> None:
        """Take a right from a user."""
        chosen = AclBindingFilter(*_pattern(user, right))
        for done in self.administrator.delete_acls([chosen]).values():
            assert len(done.result(PATIENCE_S)) == 1


def _pattern(user: str, right: Right) -> tuple[Any, ...]:
    operation, kind, name = right
    return (
        _KINDS[kind],
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        _OPERATIONS[operation],
        AclPermissionType.ALLOW,
    )
