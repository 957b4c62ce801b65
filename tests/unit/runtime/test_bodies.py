"""Bodies that are gzip: inflated in small pieces, and never beyond the limit."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Sequence

import pytest

from runtime.web.asgi import Event, Scope
from runtime.web.bodies import MAX_MEMBERS, PIECE_BYTES, RefusedBody, open_body, read_body

TEXT = bytes(random.Random(7).choices(b"abcdefgh", k=200_000))


class Sent:
    """A `receive` that gives pieces, and counts the largest that a reader was given."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.left = len(self.pieces)

    async def __call__(self) -> Event:
        if not self.pieces:
            return {"type": "http.disconnect"}
        data = self.pieces.pop(0)
        self.left = len(self.pieces)
        return {"type": "http.request", "body": data, "more_body": bool(self.pieces)}


def scope(coding: str, length: int | None = None) -> Scope:
    headers = [(b"content-encoding", coding.encode())] if coding else []
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"headers": headers}


def read(pieces: Sequence[bytes], coding: str = "gzip", most: int = 1_000_000) -> bytes:
    async def reading() -> bytes:
        receive = open_body(scope(coding), Sent(pieces), most)
        return await read_body(receive, max_bytes=most, within_s=60.0)

    return asyncio.run(reading())


@pytest.mark.parametrize("size", [1, 10, 1_000, 1_000_000])
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_body_is_read_however_it_is_cut(size: int, coding: str) -> None:
    text = TEXT[: 2_000 * size]
    packed = gzip.compress(text)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert read(pieces, coding) == text


def test_members_one_after_another_are_one_body() -> None:
    assert read([gzip.compress(b"a") + gzip.compress(b""), gzip.compress(b"b")]) == b"ab"


@pytest.mark.parametrize("coding", ["", "identity"])
def test_a_body_without_encoding_is_left_as_it_is(coding: str) -> None:
    assert read([b"abc", b"def"], coding) == b"abcdef"


@pytest.mark.parametrize("length", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_a_body_that_fills_its_pieces_is_whole(length: int) -> None:
    assert read([gzip.compress(b"x" * length)]) == b"x" * length
    assert len(read([gzip.compress(TEXT[:length])])) == length


def test_a_bomb_is_refused_before_it_has_gone_off() -> None:
    largest = 0

    async def reading() -> None:
        nonlocal largest
        receive = open_body(scope("gzip"), Sent([gzip.compress(bytes(50_000_000))]), 100_000)
        while True:
            event = await receive()
            largest = max(largest, len(event["body"]))

    with pytest.raises(RefusedBody) as refused:
        asyncio.run(reading())
    assert refused.value.status == 413
    assert largest <= PIECE_BYTES


def test_a_header_of_gzip_without_end_is_refused() -> None:
    """Its name of a file may be of any length, and inflates to nothing."""
    begun = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03"
    sent = Sent([begun, *[b"x" * 1_000] * 1_000])

    async def reading() -> bytes:
        receive = open_body(scope("gzip"), sent, 10_000)
        return await read_body(receive, max_bytes=10_000, within_s=60.0)

    with pytest.raises(RefusedBody) as refused:
        asyncio.run(reading())
    assert refused.value.status == 413
    assert sent.left > 980


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (b"plain text", 400),
        (gzip.compress(TEXT)[:-1], 400),
        (gzip.compress(TEXT)[:1_000], 400),
        (b"", 400),
        (gzip.compress(b"x") + b"rest", 400),
        (gzip.compress(b"") * (MAX_MEMBERS + 1), 400),
    ],
    ids=["none", "without its end", "half", "empty", "something after it", "members"],
)
def test_what_is_not_gzip_is_refused(packed: bytes, status: int) -> None:
    for pieces in ([packed], [packed[:5], packed[5:]]):
        with pytest.raises(RefusedBody) as refused:
            read(pieces)
        assert refused.value.status == status


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd", "x" * 500])
def test_another_encoding_is_refused_by_its_name(coding: str) -> None:
    with pytest.raises(RefusedBody) as refused:
        read([b"abc"], coding)
    assert refused.value.status == 415
    assert coding.split(",")[0][:20] in refused.value.reason
    assert len(refused.value.reason) < 150


def test_a_compressed_body_is_refused_by_its_length_before_it_is_read() -> None:
    with pytest.raises(RefusedBody) as refused:
        open_body(scope("gzip", 101), Sent([]), 100)
    assert refused.value.status == 413
