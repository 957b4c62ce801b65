"""The gateway behind proxies and before clients of every kind: gzip, a byte order mark, HEAD, a
sub-path."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.client import FraudClient
from tests.support.gateway.stand_ins import KEY, MAX_BATCH, MAX_BYTES, Bench, run, transaction

GZIP = {"Content-Encoding": "gzip"}
ONE, MANY = "/score-transaction", "/score-transactions"
ROWS = [transaction(number) for number in range(30)]
LINES = "\n".join(json.dumps(row) for row in ROWS).encode()
ARRAY = json.dumps(ROWS).encode()


async def in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def names(answer: httpx.Response) -> list[str]:
    return [json.loads(line)["transaction_id"] for line in answer.text.splitlines()]


def test_bodies_may_be_compressed() -> None:
    async def scenario(bench: Bench) -> None:
        client = bench.client()
        one = gzip.compress(json.dumps(transaction(99)).encode())
        assert (await client.post(ONE, content=one, headers=GZIP)).status_code == 200
        for size in (1, 7, 100_000):
            for body in (LINES, ARRAY):
                content = in_pieces(gzip.compress(body), size)
                answer = await client.post(MANY, content=content, headers=GZIP)
                assert names(answer) == [row["transaction_id"] for row in ROWS]

    run(scenario)


@pytest.mark.parametrize(("path", "most"), [(ONE, MAX_BYTES), (MANY, MAX_BATCH)])
def test_bombs_and_other_encodings_are_refused(path: str, most: int) -> None:
    async def scenario(bench: Bench) -> None:
        client = bench.client()
        bomb = gzip.compress(b" " * (100 * most))
        assert len(bomb) < most
        refused = await client.post(path, content=bomb, headers=GZIP)
        assert (refused.status_code, refused.headers["connection"]) == (413, "close")
        refused = await client.post(path, content=b"{}", headers=GZIP)
        assert refused.status_code == 400
        refused = await client.post(path, content=b"{}", headers={"Content-Encoding": "zstd"})
        assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip")
        assert refused.json()["type"] == "urn:fraud-scoring:unsupported-encoding"
        assert bench.pipeline.sent == []

    run(scenario)


@pytest.mark.parametrize("size", [1, 2, 100_000])
def test_a_byte_order_mark_is_passed_over(size: int) -> None:
    async def scenario(bench: Bench) -> None:
        client, mark = bench.client(), codecs.BOM_UTF8
        one = mark + json.dumps(transaction(99)).encode()
        assert (await client.post(ONE, content=in_pieces(one, size))).status_code == 200
        for body in (LINES, ARRAY):
            answer = await client.post(MANY, content=in_pieces(mark + body, size))
            assert names(answer) == [row["transaction_id"] for row in ROWS]
        for content in (mark, mark[:2], b""):
            answer = await client.post(MANY, content=in_pieces(content, size))
            assert answer.status_code == 200

    run(scenario)


def test_head_is_answered_wherever_get_is() -> None:
    async def scenario(bench: Bench) -> None:
        client = bench.client()
        await client.post(ONE, json=transaction(1))
        for path in ("/decisions/t-1", "/decisions/t-2", "/healthz", "/openapi.json", "/metrics"):
            got, head = await client.get(path), await client.head(path)
            assert head.status_code == got.status_code
            assert head.headers["content-type"] == got.headers["content-type"]
        assert (await client.head(ONE)).status_code == 405
        assert (await bench.client(None).head("/decisions/t-1")).status_code == 401

    run(scenario)


@pytest.mark.parametrize("kept", ["/scoring", ""], ids=["kept by the proxy", "cut off"])
def test_the_gateway_lives_under_a_sub_path(kept: str) -> None:
    async def scenario(bench: Bench) -> None:
        client = bench.client()
        assert (await client.post(f"{kept}{ONE}", json=transaction(1))).status_code == 200
        assert (await client.get(f"{kept}/decisions/t-1")).status_code == 200
        assert (await client.get(f"{kept}/healthz")).status_code == 200
        assert (await bench.client(None).get(f"{kept}/decisions/t-1")).status_code == 401
        described = (await client.get(f"{kept}/openapi.json")).json()
        assert described["servers"] == [{"url": "/scoring"}]
        assert (await client.get("/scoringx/healthz")).status_code == 404
        routes = {"/decisions/{transaction_id}", ONE, "/healthz", "/openapi.json", "other"}
        assert {route for route in routes if bench.counted("fraud_api_requests_total", route=route)}

    run(scenario, root_path="/scoring")


def test_the_client_finds_a_gateway_under_a_sub_path() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/scoring/decisions/t-1"
        return httpx.Response(200, json={"transaction_id": "t-1"})

    transport = httpx.MockTransport(handle)
    with FraudClient("https://tools.example/scoring", KEY, transport=transport) as client:
        assert client.decision("t-1")["transaction_id"] == "t-1"
