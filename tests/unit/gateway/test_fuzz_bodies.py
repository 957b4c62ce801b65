"""Bodies that nobody thought of: each gets a short answer of the list, and the gateway goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.web.problems import KINDS
from runtime.web.asgi import Event
from schemas.records import Transaction
from tests.support.fuzzing import fuzzed
from tests.support.gateway.stand_ins import KEY, NOW, Bench, transaction

PAN: Final = "4111111111111111"
MAX_ANSWER: Final = 12_000
STATUSES: Final = {200, *(status for kind, (status, _) in KINDS.items() if kind != "internal")}
FIELDS: Final = sorted(Transaction.__annotations__)
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=80)
    | st.sampled_from(
        (NOW, str(NOW), PAN, f"x{PAN}", "EUR", "JPY", "T1", "XK", "ECOM", "192.0.2.7", "::1",
         "2025-03-01T12:00:00Z", "2025-02-30", "0001-01-01T00:00:00+23:59", "9" * 5_000, "\x00",
         "\ud800", "é" * 64, 1e308, 10**400, -0.0, 2**63, "gateway:tenant", "", " ")
    )
)  # fmt: skip
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=70), inner, max_size=5)
    ),
    max_leaves=20,
)
NAMES: Final = st.sampled_from(FIELDS) | st.text(max_size=70)
CHANGES: Final = st.dictionaries(NAMES, VALUES, max_size=60)
JSONS: Final = CHANGES.map(lambda changes: text(transaction() | changes)) | VALUES.map(
    lambda value: text(value)
)
BROKEN: Final = st.builds(
    lambda body, at, noise: body[: at % (len(body) + 1)] + noise + body[at % (len(body) + 1) :],
    JSONS,
    st.integers(0, 10_000),
    st.binary(max_size=8) | st.sampled_from((b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n")),
)
BODIES: Final = st.binary(max_size=300) | JSONS | BROKEN


def text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


class Exchange:
    """One request over bare ASGI, its body in the given pieces."""

    def __init__(self, bench: Bench, path: str, pieces: Sequence[bytes], **headers: str) -> None:
        self._bench, self._pieces = bench, list(pieces) or [b""]
        self._scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [
                (b"authorization", b"Bearer " + KEY.encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
        }
        self.status, self.body, self._ended = 0, b"", asyncio.Event()

    async def _receive(self) -> Event:
        if not self._pieces:
            await self._ended.wait()
            return {"type": "http.disconnect"}
        data = self._pieces.pop(0)
        return {"type": "http.request", "body": data, "more_body": bool(self._pieces)}

    async def _send(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
        else:
            self.body += event["body"]

    async def run(self) -> None:
        """Serve it, and check what holds of every answer."""
        async with asyncio.timeout(60):
            await self._bench.app(self._scope, self._receive, self._send)
        assert self.status in STATUSES
        for line in self.body.splitlines():
            answer = json.loads(line)
            assert answer.get("status", 200) in STATUSES
            assert len(line) <= MAX_ANSWER
        assert PAN.encode() not in self.body.replace(b" ", b"")


def answered(path: str, pieces: Sequence[bytes], **headers: str) -> Exchange:
    """Return the answer of a gateway, which must still serve a good transaction afterwards."""

    async def scenario() -> Exchange:
        bench = Bench(slow_s=30.0)
        bench.pipeline.answers = lambda sent: {}
        exchange = Exchange(bench, path, pieces, **headers)
        await exchange.run()
        after = Exchange(bench, "/score-transaction", [text(transaction(999_999))])
        await after.run()
        assert after.status == 200
        return exchange

    return asyncio.run(scenario())


@fuzzed(examples=60)
@given(BODIES)
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b'{"amount": ' + b"9" * 4_000 + b"}")
@example(b'{"amount": 1e400}')
@example(b'{"attributes": {"a": {"b": []}}}')
def test_any_body_of_one_transaction_gets_an_answer(body: bytes) -> None:
    answered("/score-transaction", [body])


@fuzzed(examples=60)
@given(
    st.lists(BODIES, max_size=8),
    st.sampled_from((b"\n", b",", b", ", b"")),
    st.booleans(),
    st.integers(1, 2_000),
    st.booleans(),
)
def test_any_batch_in_any_pieces_gets_its_answers(
    bodies: list[bytes], between: bytes, array: bool, size: int, packed: bool
) -> None:
    content = between.join(bodies)
    content = b"[" + content + b"]" if array else content
    headers = {"content-encoding": "gzip"} if packed else {}
    content = gzip.compress(content) if packed else content
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    answered("/score-transactions", pieces, **headers)


@fuzzed(examples=60)
@given(CHANGES)
def test_an_array_and_lines_give_the_same_answers(changes: dict[str, Any]) -> None:
    rows = [text(transaction(1) | changes).replace(b"\n", b" "), text(transaction(2))]
    by_lines = answered("/score-transactions", [b"\n".join(rows)])
    by_array = answered("/score-transactions", [b"[" + b",".join(rows) + b"]"])
    assert by_lines.body == by_array.body


@pytest.mark.parametrize("path", ["/score-transaction", "/score-transactions"])
@fuzzed(examples=60)
@given(st.binary(max_size=200), st.booleans())
def test_any_gzip_gets_an_answer(path: str, data: bytes, begun: bool) -> None:
    body = gzip.compress(b"{}")[:10] + data if begun else data
    assert answered(path, [body], **{"content-encoding": "gzip"}).status in (200, 400, 413)
