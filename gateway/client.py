"""A typed client of the REST gateway, for payment engineers; needs the extra `client` (httpx).

    with FraudClient("https://fraud.example", key) as client:
        answer = client.score({"transaction_id": "t-1", ...})
        if answer["decision"] == "BLOCK": ...

A request is repeated if the gateway did not accept it or the connection broke; the transaction_id
makes that harmless.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypedDict, cast
from urllib.parse import quote

import httpx

RETRIED: Final = frozenset((429, 503))
MARGIN_S: Final = 2.0
"""Time beyond a request's deadline after which the connection counts as broken."""


class Reason(TypedDict):
    """One reason why a transaction was not approved; `contribution` is in log-odds."""

    code: str
    text: str
    contribution: float | None


class Position(TypedDict):
    """Position of the transaction on its topic."""

    partition: int
    offset: int


class Answer(TypedDict):
    """The gateway's answer; times are in ms since the epoch. See /openapi.json."""

    transaction_id: str
    card_id: str
    decision: Literal["APPROVE", "REVIEW", "BLOCK"]
    score: float | None
    anomaly_score: float | None
    reasons: list[Reason]
    rule_hits: list[str]
    model_id: str | None
    model_role: Literal["NONE", "CHAMPION", "CANARY"]
    policy_version: str
    duplicate: bool
    late: bool
    degraded: str | None
    kind: Literal["PURCHASE", "REFUND", "REVERSAL", "VERIFICATION"]
    unread: list[str]
    position: Position | None
    received_at: int | None
    decided_at: int
    fallback: bool
    recorded: bool


class GatewayError(Exception):
    """The gateway answered with a problem (RFC 9457); `errors` names fields and reasons."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{problem['status']} {problem['title']}: {problem['detail']}")
        self.status = int(problem["status"])
        self.kind = str(problem["type"]).rsplit(":", 1)[-1]
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        self.line: int | None = problem.get("line")


class GatewayUnreachable(Exception):
    """There was no answer, or one that did not come from a gateway."""


class FraudClient:
    """A client of one gateway with a pool of connections. Thread-safe.

    Args:
        attempts: how many times a request is sent before its failure is raised.
        ca_file: PEM certificates to trust for https instead of the system's.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        deadline_ms: int = 100,
        attempts: int = 3,
        ca_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._deadline_ms, self._attempts = deadline_ms, attempts
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=deadline_ms / 1000 + MARGIN_S,
            verify=True if ca_file is None else ssl.create_default_context(cafile=ca_file),
            transport=transport,
        )

    def score(self, transaction: Mapping[str, Any]) -> Answer:
        """Return the decision on a transaction, or the fallback.

        Raises:
            GatewayError: the transaction was refused; the text says why.
            GatewayUnreachable: no attempt was answered; send it again later under the same id.
        """
        headers = {"Request-Timeout-Ms": str(self._deadline_ms)}
        return cast(
            Answer,
            self._call("POST", "/score-transaction", json=dict(transaction), headers=headers),
        )

    def score_many(
        self, transactions: Iterable[Mapping[str, Any]], *, timeout_s: float = 60.0
    ) -> Iterator[Answer | GatewayError]:
        """Yield the answer to each transaction, in order; a refused one yields its GatewayError.

        Raises:
            GatewayError: the whole batch was refused.
            GatewayUnreachable: the connection broke; send the rest again.
        """
        body = "\n".join(json.dumps(dict(each)) for each in transactions).encode()
        try:
            with self._client.stream(
                "POST", "/score-transactions", content=body, timeout=timeout_s
            ) as response:
                if response.status_code != 200:
                    response.read()
                    raise _error(response)
                for line in response.iter_lines():
                    found = json.loads(line)
                    yield GatewayError(found) if "status" in found else cast(Answer, found)
        except httpx.TransportError as error:
            raise GatewayUnreachable(str(error)) from error

    def decision(self, transaction_id: str) -> Answer:
        """Return the decision on a transaction; raises as `score` (404 if there is none yet)."""
        return cast(Answer, self._call("GET", f"/decisions/{quote(transaction_id, safe='')}"))

    def card(self, card_id: str) -> dict[str, Any]:
        """Return the online store's state of a card; raises as `score`."""
        found: dict[str, Any] = self._call("GET", f"/cards/{quote(card_id, safe='')}/features")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def _call(self, method: str, path: str, **options: Any) -> Any:
        failure: Exception = GatewayUnreachable("no attempt was made")
        for attempt in range(max(self._attempts, 1)):
            if attempt:
                time.sleep(_pause_s(failure, attempt))
            try:
                response = self._client.request(method, path, **options)
            except httpx.TransportError as error:
                failure = GatewayUnreachable(f"{type(error).__name__}: {error}")
                continue
            if response.status_code == 200:
                return response.json()
            failure = _error(response)
            if response.status_code not in RETRIED:
                break
        raise failure


def _pause_s(failure: Exception, attempt: int) -> float:
    """Return the pause: short after a broken connection, else longer after each attempt."""
    return 0.05 if isinstance(failure, GatewayUnreachable) else min(0.1 * 2**attempt, 1.0)


def _error(response: httpx.Response) -> Exception:
    try:
        return GatewayError(response.json())
    except (ValueError, KeyError, TypeError):
        return GatewayUnreachable(f"status {response.status_code} without a problem document")
