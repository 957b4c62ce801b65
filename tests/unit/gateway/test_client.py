"""The Python client: answers, errors, and what it sends again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.client import Answer, FraudClient, GatewayError, GatewayUnreachable
from gateway.web.openapi import ANSWER
from gateway.web.problems import Problem
from tests.support.gateway.stand_ins import transaction


def client(handle: Callable[[httpx.Request], httpx.Response]) -> FraudClient:
    return FraudClient(
        "http://gateway", "fraud_k_s", deadline_ms=70, transport=httpx.MockTransport(handle)
    )


def problem(kind: str, **more: Any) -> httpx.Response:
    made = Problem(kind, "because", **more)
    return httpx.Response(made.status, content=made.body())


def test_the_answer_has_every_field_that_the_gateway_sends() -> None:
    assert set(Answer.__annotations__) == set(ANSWER)


def test_a_transaction_is_sent_with_key_and_deadline() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer fraud_k_s"
        assert request.headers["request-timeout-ms"] == "70"
        return httpx.Response(200, json=ANSWER)

    with client(handle) as calling:
        assert calling.score(transaction())["decision"] == "BLOCK"


def test_what_was_not_taken_is_sent_again() -> None:
    calls: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        if len(calls) == 1:
            raise httpx.ReadError("broken")
        return problem("unavailable") if len(calls) == 2 else httpx.Response(200, json=ANSWER)

    assert client(handle).score(transaction()) == ANSWER
    assert len(calls) == 3


@pytest.mark.parametrize("kind", ["invalid-transaction", "conflict", "unauthorized"])
def test_a_refusal_is_raised_at_once(kind: str) -> None:
    calls: list[str] = []
    errors = [{"field": "amount", "reason": "amount = -1 is out of range"}]

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return problem(kind, errors=errors)

    with pytest.raises(GatewayError, match="because") as caught:
        client(handle).score(transaction())
    assert (caught.value.kind, caught.value.errors, len(calls)) == (kind, errors, 1)


def test_no_answer_at_all_is_told() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text="<html>a proxy</html>")

    with pytest.raises(GatewayUnreachable, match="502"):
        client(handle).score(transaction())


def test_a_batch_gives_answers_and_errors_in_order() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.content.count(b"\n") == 1
        bad = Problem("invalid-transaction", "no", line=2).body()
        return httpx.Response(200, content=httpx.Response(200, json=ANSWER).content + b"\n" + bad)

    good, bad = client(handle).score_many([transaction(1), transaction(2)])
    assert good == ANSWER
    assert isinstance(bad, GatewayError)
    assert (bad.status, bad.line) == (422, 2)


def test_ids_are_quoted() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/decisions/a%2Fb%3Fc"
        return httpx.Response(200, json=ANSWER)

    client(handle).decision("a/b?c")
