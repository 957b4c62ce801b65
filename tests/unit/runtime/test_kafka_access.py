"""How clients of confluent-kafka are told to log in, and what a token server may answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from runtime.kafka.access.connection import connection
from runtime.kafka.access.tokens import DEFAULT_LIFE_S, TokenSource
from runtime.settings import load_settings
from schemas.errors import BrokerUnavailable
from tests.support.certificates import self_signed
from tests.support.http_server import Answer, Asked, serving

CONNECTION = {
    "bootstrap.servers", "security.protocol", "reconnect.backoff.ms", "reconnect.backoff.max.ms",
    "logger", "error_cb",
}  # fmt: skip


class TokenServer:
    """Answers every request with `status` and `body`."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.asked: list[dict[str, list[str]]] = []
        self.url = ""

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(parse_qs(asked.body.decode()))
        return Answer(self.status, self.body)


@pytest.fixture
def server() -> Iterator[TokenServer]:
    made = TokenServer()
    with serving(made.answer) as address:
        made.url = f"{address}/token"
        yield made


def test_without_a_log_in_nothing_is_sent() -> None:
    assert set(connection(load_settings())) == CONNECTION


def test_a_client_certificate_is_given_with_its_key(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    found = connection(
        load_settings(
            kafka_security="SSL",
            kafka_ca=certificate,
            kafka_certificate=certificate,
            kafka_key=key,
            kafka_key_password="open sesame",
        )
    )
    assert {name: value for name, value in found.items() if name not in CONNECTION} == {
        "ssl.ca.location": str(certificate),
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
        "ssl.key.password": "open sesame",
    }


def test_a_token_is_asked_for_by_the_client_credentials_grant(server: TokenServer) -> None:
    server.body = json.dumps({"access_token": "abc", "expires_in": "60"}).encode()
    found = connection(
        load_settings(
            kafka_security="SASL_SSL",
            kafka_sasl_mechanism="OAUTHBEARER",
            kafka_username="client",
            kafka_password="a secret",
            kafka_token_url=server.url,
            kafka_token_scope="kafka",
        )
    )
    assert found["sasl.mechanism"] == "OAUTHBEARER"
    token, until = found["oauth_cb"]("")
    assert token == "abc"
    assert 0 < until - time.time() <= 60
    assert server.asked == [
        {
            "grant_type": ["client_credentials"],
            "client_id": ["client"],
            "client_secret": ["a secret"],
            "scope": ["kafka"],
        }
    ]


def test_a_token_without_a_life_is_asked_for_again_soon(server: TokenServer) -> None:
    server.body = b'{"access_token": "abc"}'
    _, until = TokenSource(server.url, "client", "secret").token()
    assert 0 < until - time.time() <= DEFAULT_LIFE_S


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, b"", "answers 401: correct FRAUD_KAFKA_USERNAME"),
        (503, b"", "answers 503$"),
        (200, b"<html>", "correct FRAUD_KAFKA_TOKEN_URL"),
        (200, b"[]", "correct FRAUD_KAFKA_TOKEN_URL"),
        (200, b'{"token": "abc"}', "correct FRAUD_KAFKA_TOKEN_URL"),
        (200, b'{"access_token": "abc", "expires_in": "soon"}', "correct FRAUD_KAFKA_TOKEN_URL"),
    ],
)
def test_a_server_that_gives_no_token_passes_and_is_named(
    server: TokenServer, status: int, body: bytes, text: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(BrokerUnavailable, match=text) as found:
        TokenSource(server.url, "client", "a secret").token()
    assert server.url in str(found.value)
    assert "a secret" not in str(found.value)


def test_a_token_server_that_is_away_passes() -> None:
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        TokenSource("http://127.0.0.1:9/token", "client", "secret").token()
