"""How Faust is told to log in to Kafka."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from stream_features.host.app import credentials


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
