"""The gateway's server on a port: TLS, slow clients. The pipeline behind it is in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from gateway.client import FraudClient, GatewayUnreachable
from gateway.scoring.score_many import MAX_BATCHES_PER_KEY
from gateway.web.protocol import GatewayProtocol
from runtime.settings import load_settings
from runtime.web.server import bind_to, web_config
from tests.support.certificates import self_signed
from tests.support.gateway.stand_ins import KEY, Bench, transaction
from tests.support.waiting import PATIENCE_S


class Hasty(GatewayProtocol):
    head_s = 1.0
    read_s = 0.5


def serve(
    scenario: Callable[[int], Awaitable[None]], *, decided: bool = True, **settings: Any
) -> None:
    """Run a scenario beside a gateway, which it finds on a port of 127.0.0.1."""

    async def run() -> None:
        bench = Bench(slow_s=PATIENCE_S)
        if decided:
            bench.pipeline.answers = lambda sent: {"decision": "BLOCK"}
        await bench.keyring.refresh()
        with bind_to("127.0.0.1", 0, "FRAUD_API_PORT") as bound:
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # they are full soon
                bound.setsockopt(socket.SOL_SOCKET, buffer, 16_384)
            config = web_config(
                bench.app,
                load_settings(**settings),
                protocol=Hasty,
                metrics=bench.metrics,
                keep_alive_s=75,
                stop_s=10,
                lifespan=False,
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            try:
                while not server.started:
                    await asyncio.sleep(0.01)
                async with asyncio.timeout(PATIENCE_S):
                    await scenario(bound.getsockname()[1])
            finally:
                server.should_exit = True
                await serving

    asyncio.run(run())


def test_with_a_certificate_it_speaks_https_and_nothing_else(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    trusted = ssl.create_default_context(cafile=certificate)

    def calls(port: int) -> None:
        url = f"https://localhost:{port}"
        assert httpx.get(f"{url}/healthz", verify=trusted).status_code == 200
        with FraudClient(url, KEY, ca_file=certificate, deadline_ms=30_000) as client:
            answer = client.score(transaction())
            assert (answer["decision"], answer["fallback"]) == ("BLOCK", False)
            [same] = client.score_many([transaction()])
            assert same == answer
        untrusting = FraudClient(url, KEY, attempts=1)
        unverified = pytest.raises(GatewayUnreachable, match="CERTIFICATE_VERIFY_FAILED")
        with untrusting as client, unverified:
            client.score(transaction())
        plain = FraudClient(f"http://localhost:{port}", KEY, attempts=1)
        with plain as client, pytest.raises(GatewayUnreachable):
            client.score(transaction())
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/" not in raw.recv(1_000)

    async def scenario(port: int) -> None:
        await asyncio.to_thread(calls, port)

    serve(scenario, tls_certificate=certificate, tls_key=key)


HEAD = b"POST /score-transaction HTTP/1.1\r\nHost: localhost\r\nX-Long: "
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("whole", "dripped", "then"),
    [(b"", HEAD, b"x"), (WHOLE, HEAD, b"x"), (WHOLE, b"", b"\r\n")],
    ids=["at first", "after a request", "empty lines"],
)
def test_a_head_that_comes_byte_by_byte_ends_and_others_are_served(
    whole: bytes, dripped: bytes, then: bytes
) -> None:
    async def drip(port: int) -> float:
        """Send for ever; return after how long the gateway hung up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if whole:
            writer.write(whole)
            assert b"200" in await reader.readuntil(b"ok\n")
        began, closed = time.monotonic(), asyncio.create_task(reader.read())
        for byte in itertools.chain(dripped, itertools.cycle(then)):
            if closed.done():
                break
            with contextlib.suppress(ConnectionError):
                writer.write(bytes([byte]))
                await writer.drain()
            await asyncio.wait([closed], timeout=0.01)
        took = time.monotonic() - began
        with contextlib.suppress(ConnectionError):
            assert await closed == b""
        writer.close()
        return took

    async def scenario(port: int) -> None:
        dripping = asyncio.create_task(drip(port))
        headers = {"Authorization": f"Bearer {KEY}"}
        served = 0
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE_S
        ) as client:
            while not dripping.done():
                answer = await client.post("/score-transaction", json=transaction(served))
                assert answer.json()["decision"] == "BLOCK"
                served += 1
        assert await dripping > Hasty.head_s / 2
        assert served

    serve(scenario)


def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"

    async def ask_for_ever(raw: socket.socket) -> None:
        while True:  # until the buffers of both sides are full
            await asyncio.get_running_loop().sock_sendall(raw, ask % KEY.encode())

    async def scenario(port: int) -> None:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
            with pytest.raises(ConnectionError):
                await ask_for_ever(raw)

    serve(scenario)


async def answer_to(port: int, request: bytes, *, close: bool = True) -> tuple[bytes, Any]:
    """Return what comes back on a connection of its own, and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(request)
        await writer.drain()
    found = b""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        found = await reader.readuntil(b"\r\n\r\n")
    if close:
        writer.close()
    return found, writer


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"connections_by_address": 3}, True),
        ({"connections": 3}, True),
        ({"connections_by_address": 3, "trusted_proxies": "127.0.0.0/8"}, False),
    ],
)
def test_connections_beyond_the_limit_are_refused_before_any_request(
    settings: dict[str, Any], refused: bool
) -> None:
    async def scenario(port: int) -> None:
        kept = [await answer_to(port, WHOLE, close=False) for _ in range(3)]
        assert all(head.startswith(b"HTTP/1.1 200") for head, _ in kept)
        head, _ = await answer_to(port, b"")  # without a byte of a request
        if not refused:
            assert head == b"", "it waits for a head"
            return
        assert head.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in head
        kept[0][1].close()
        while True:
            head, _ = await answer_to(port, WHOLE)
            if head.startswith(b"HTTP/1.1 200"):
                return

    serve(scenario, **settings)


def test_head_has_no_body_and_the_connection_goes_on() -> None:
    async def scenario(port: int) -> None:
        head = WHOLE.replace(b"GET", b"HEAD")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE)
        second = await reader.readuntil(b"\r\n\r\n")
        assert [each.splitlines()[0] for each in (first, second)] == [b"HTTP/1.1 200 OK"] * 2
        assert await reader.readexactly(3) == b"ok\n"
        writer.close()

    serve(scenario)


def test_a_batch_whose_client_has_gone_frees_its_place() -> None:
    """uvicorn tells of it only to those who ask."""
    begun = (
        b"POST /score-transactions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
        b"Request-Timeout-Ms: 60000\r\nContent-Length: %d\r\n\r\n%b"
    )
    lines = b"\n".join(json.dumps(transaction(number)).encode() for number in range(50))
    request = begun % (KEY.encode(), len(lines), lines)

    async def scenario(port: int) -> None:
        kept = [await answer_to(port, request, close=False) for _ in range(MAX_BATCHES_PER_KEY)]
        assert all(head.startswith(b"HTTP/1.1 200") for head, _ in kept)
        head, _ = await answer_to(port, request)
        assert head.startswith(b"HTTP/1.1 429")
        for _, writer in kept:
            writer.transport.abort()
        while True:
            head, _ = await answer_to(port, request)
            if head.startswith(b"HTTP/1.1 200"):
                return

    serve(scenario, decided=False)


@pytest.mark.parametrize(
    "begun", [b"GET /", b"GET / HTTP/1.1\r\nX-Long: ", b"GET / HTTP/1.1\r\nA: b\r\n"]
)
def test_a_head_without_end_is_refused(begun: bytes) -> None:
    more = b"A: b\r\n" if begun.endswith(b"\n") else b"x"

    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and sent < 50_000_000:
                writer.write(more * (10_000 // len(more)))
                sent += 10_000
                await writer.drain()
        assert sent < 5_000_000
        writer.close()
        head, _ = await answer_to(port, WHOLE)
        assert head.startswith(b"HTTP/1.1 200")

    serve(scenario)


def test_a_long_head_in_one_piece_and_a_long_body_are_served() -> None:
    long = b"X-Long: " + b"x" * 30_000 + b"\r\n\r\n"

    async def scenario(port: int) -> None:
        head, _ = await answer_to(port, WHOLE[:-2] + long)
        assert head.startswith(b"HTTP/1.1 200")
        body = b" " * 60_000
        asked = b"POST /score-transactions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        asked = asked % KEY.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        head, _ = await answer_to(port, asked)
        assert head.startswith(b"HTTP/1.1 200")

    serve(scenario)


@pytest.mark.parametrize(("size", "status"), [(1, b"400"), (20, b"400"), (40, b"200")])
def test_a_body_of_very_many_very_small_chunks_is_refused(size: int, status: bytes) -> None:
    chunk = b"%x\r\n%b\r\n" % (size, b" " * size)
    request = b"POST /score-transactions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
    request = request % KEY.encode() + b"Transfer-Encoding: chunked\r\n\r\n"

    async def scenario(port: int) -> None:
        few = request + 800 * chunk + b"0\r\n\r\n"
        head, _ = await answer_to(port, few)
        assert head.startswith(b"HTTP/1.1 200")
        many = request + 1_500 * chunk + b"0\r\n\r\n"
        head, _ = await answer_to(port, many)
        assert head.split()[1] == status

    serve(scenario)
