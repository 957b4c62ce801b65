"""The librdkafka settings with which every client of confluent-kafka connects."""

from __future__ import annotations

from typing import Any

import structlog

from runtime.kafka import errors
from runtime.kafka.access.tokens import TokenSource
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable

log = structlog.get_logger(__name__)


def connection(settings: Settings) -> dict[str, Any]:
    """Return the librdkafka settings that every client and the admin client connect with."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.kafka_security,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "logger": _Quiet(),
        "error_cb": lambda error: errors.report(error.name()),
    }
    if settings.kafka_ca:
        config["ssl.ca.location"] = str(settings.kafka_ca)
    if settings.kafka_certificate:
        config["ssl.certificate.location"] = str(settings.kafka_certificate)
    if settings.kafka_key:
        config["ssl.key.location"] = str(settings.kafka_key)
    if settings.kafka_key_password:
        config["ssl.key.password"] = settings.kafka_key_password.get_secret_value()
    if settings.kafka_security.startswith("SASL"):
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        if settings.kafka_sasl_mechanism == "OAUTHBEARER":
            source = TokenSource.from_settings(settings)
            config["oauth_cb"] = lambda _: _token(source)
        else:
            password = settings.kafka_password
            config["sasl.username"] = settings.kafka_username or ""
            config["sasl.password"] = password.get_secret_value() if password else ""
    return config


def _token(source: TokenSource) -> tuple[str, float]:
    """Return a token; librdkafka tells nobody why its callback failed, and asks again."""
    try:
        return source.token()
    except BrokerUnavailable as error:
        log.warning("waiting", reason=str(error))
        raise


class _Quiet:
    """Logs librdkafka's own lines at debug level; important events also arrive as errors."""

    def log(self, _level: int, text: str, *values: object) -> None:
        log.debug("librdkafka", text=text % values if values else text)
