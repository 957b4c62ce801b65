"""Tokens for SASL OAUTHBEARER, by OAuth's client credentials grant (RFC 6749, section 4.4).

One source serves both kinds of clients: librdkafka asks it by a callback, aiokafka by a provider.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Final, Self
from urllib.parse import urlencode

from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 100_000
DEFAULT_LIFE_S: Final = 300.0
"""The life of a token whose answer does not say it."""


class TokenSource:
    """Fetches an access token each time it is asked. Blocks."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        scope: str | None = None,
    ) -> None:
        self._url = url
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
        }
        self._form = urlencode(form | ({"scope": scope} if scope else {})).encode()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the source that the settings name.

        Raises:
            ConfigurationError: a setting that OAUTHBEARER needs is missing.
        """
        url, secret = settings.kafka_token_url, settings.kafka_password
        if not (url and settings.kafka_username and secret):
            raise ConfigurationError(
                "FRAUD_KAFKA_SASL_MECHANISM=OAUTHBEARER needs FRAUD_KAFKA_TOKEN_URL, the client id "
                "in FRAUD_KAFKA_USERNAME and its secret in FRAUD_KAFKA_PASSWORD"
            )
        return cls(
            url, settings.kafka_username, secret.get_secret_value(), settings.kafka_token_scope
        )

    def token(self) -> tuple[str, float]:
        """Return a token, and when it expires (seconds since the epoch).

        Raises:
            BrokerUnavailable: the token server does not answer, or gives none; without a token
                Kafka is as good as away.
        """
        headers = {"Accept": "application/json"}
        request = urllib.request.Request(self._url, data=self._form, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                found: Any = json.loads(answer.read(MAX_BYTES))
            return str(found["access_token"]), time.time() + float(
                found.get("expires_in", DEFAULT_LIFE_S)
            )
        except urllib.error.HTTPError as error:
            error.close()
            remedy = (
                ": correct FRAUD_KAFKA_USERNAME, FRAUD_KAFKA_PASSWORD and FRAUD_KAFKA_TOKEN_SCOPE"
                if error.code < 500
                else ""
            )
            raise BrokerUnavailable(
                f"no token for Kafka: {self._url} answers {error.code}{remedy}"
            ) from error
        except (OSError, HTTPException) as error:
            raise BrokerUnavailable(
                f"no token for Kafka: {self._url} does not answer: {error}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BrokerUnavailable(
                f"no token for Kafka: {self._url} does not answer as a token server does: "
                "correct FRAUD_KAFKA_TOKEN_URL"
            ) from error
