"""How Faust is told to log in to Kafka."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from stream_features.host.app import credentials
from tests.support.certificates import self_signed


def auth(**settings: object) -> dict[str, object]:
    return dict(credentials_to_aiokafka_auth(credentials(load_settings(**settings)), None))


def test_plain_text() -> None:
    assert auth() == {"security_protocol": "PLAINTEXT"}


def test_tls() -> None:
    found = auth(kafka_security="SSL")
    assert found["security_protocol"] == "SSL"
    context = found["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl(protocol: str, mechanism: str) -> None:
    found = auth(
        kafka_security=protocol,
        kafka_sasl_mechanism=mechanism,
        kafka_username="me",
        kafka_password="secret",
    )
    assert found["security_protocol"] == protocol
    assert found["sasl_mechanism"] == mechanism
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("me", "secret")
    assert (found["ssl_context"] is not None) is (protocol == "SASL_SSL")


def test_certificates_that_are_not_there() -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_KAFKA_CA"):
        auth(kafka_security="SSL", kafka_ca=Path("/nowhere.pem"))


def test_a_client_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    found = auth(kafka_security="SSL", kafka_certificate=certificate, kafka_key=key)
    assert found["security_protocol"] == "SSL"
    assert isinstance(found["ssl_context"], ssl.SSLContext)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    key.write_text("no key")
    with pytest.raises(ConfigurationError, match=r"FRAUD_KAFKA_CERTIFICATE .* FRAUD_KAFKA_KEY"):
        auth(kafka_security="SSL", kafka_certificate=certificate, kafka_key=key)


OAUTH = {
    "kafka_security": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
    "kafka_username": "client",
    "kafka_password": "secret",
    "kafka_token_url": "https://login.example/token",
}


def test_tokens() -> None:
    found = auth(**OAUTH)
    assert found["security_protocol"] == "SASL_SSL"
    assert found["sasl_mechanism"] == "OAUTHBEARER"
    assert found["sasl_oauth_token_provider"] is not None


@pytest.mark.parametrize("missing", ["kafka_username", "kafka_password", "kafka_token_url"])
def test_tokens_need_their_settings(missing: str) -> None:
    given = {name: value for name, value in OAUTH.items() if name != missing}
    with pytest.raises(ConfigurationError, match=f"FRAUD_{missing.upper()}"):
        auth(**given)
