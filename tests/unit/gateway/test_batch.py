"""Batches: what comes in, in which pieces ever, and one line for each in its order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.scoring import score_many
from gateway.scoring.batch_input import Item, batch_input
from gateway.scoring.score_many import WINDOW
from gateway.web.problems import Problem
from schemas.errors import BadMessage
from schemas.records import Transaction
from schemas.validation import decode_json
from tests.support.gateway.stand_ins import Bench, api_key, transaction

MOST = 400
RECORDS = st.lists(
    st.dictionaries(st.text('ab"\\é🜚[]{},\n', max_size=5), st.text(max_size=8), max_size=3),
    max_size=6,
)


def items(data: bytes, size: int, most: int = MOST) -> list[Any]:
    """Feed a body in pieces of `size` bytes; a problem ends it."""
    cuts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    reader = batch_input(cuts[0] if len(data.lstrip()[:1]) and cuts[0].strip() else data, most)

    def read() -> Iterator[Item]:
        try:
            for number, cut in enumerate(cuts, 1):
                yield from reader.feed(cut, last=number == len(cuts))
        except Problem as problem:
            yield problem

    return [decoded(item) if isinstance(item, bytes) else item for item in read()]


def decoded(item: bytes) -> Any:
    try:
        return decode_json(item)
    except BadMessage as error:
        return Problem("bad-request", error.reason)


@settings(deadline=None)
@given(RECORDS, st.integers(1, 50), st.sampled_from([None, 1]))
def test_any_cut_gives_the_same_records(
    records: list[dict[str, str]], size: int, indent: int | None
) -> None:
    lines = "\n".join(json.dumps(record) for record in records).encode()
    array = json.dumps(records, indent=indent, ensure_ascii=False).encode()
    assert items(lines, size) == records
    assert items(array, size) == records


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize(
    ("array", "good"),
    [
        (b'[{"a": 1}, {"a": ', 1),
        (b'[{"a": 1} {"a": 2}]', 1),
        (b'[{"a": 1}] x', 1),
        (b'[{"a": 1},]', 1),
        (b'[{"a": 1}', 1),
        (b"[", 0),
        (b"[,]", 0),
        (b'[{"a": 1}, ]', 1),
        (b'[{"a": "' + b"x" * 500, 0),
        (b'[{"a": 1}}, {"a": 3}]', 1),
        (b'[{"a": 1}, {"a": "\\', 1),
    ],
)
def test_a_broken_array_is_read_up_to_there(array: bytes, good: int, size: int) -> None:
    *before, last = items(array, size)
    assert before == [{"a": 1}] * good
    assert isinstance(last, Problem)
    assert last.status == 400


@pytest.mark.parametrize("size", [1, 1_000])
def test_one_bad_element_does_not_spoil_the_others(size: int) -> None:
    bad = [b"1", b'"x, ]"', b"null", b"[{}]", b'{"a": 1, "a": 2}', b'{"a": "\xff"}', b'{"a": 1]']
    array = b"[" + b", ".join([*bad, b'{"a": "%b"}' % (b"x" * MOST), b'{"a": 3}']) + b"]"
    found = items(array, size)
    assert [item.status for item in found[:-1]] == [400] * len(bad) + [413]
    assert found[-1] == {"a": 3}


def test_a_long_line_does_not_spoil_the_next() -> None:
    long, after = items(b'{"a": "%b"}\n\n{"a": 3}\n' % (b"x" * MOST), 64)
    assert long.status == 413
    assert after == {"a": 3}


def batch(bench: Bench, content: bytes, **headers: str) -> Any:
    return bench.client().post("/score-transactions", content=content, headers=headers)


@pytest.mark.parametrize("form", ["array", "lines"])
def test_answers_come_in_the_order_of_the_input(form: str) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.pipeline.answers = lambda sent: {"score": float(sent["amount"])}
        good = [transaction(number, amount=number) for number in range(40)]
        rows: list[Any] = [*good[:20], {"transaction_id": "bad"}, *good[20:], good[3]]
        if form == "array":
            content = json.dumps(rows).encode()
        else:
            content = "\n".join(json.dumps(row) for row in rows).encode()
        answer = await batch(bench, content)
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        expected = [float(number) for number in range(20)] + [None]
        expected += [float(number) for number in range(20, 40)] + [3.0]
        assert [line.get("score") for line in lines] == expected
        assert (lines[20]["line"], lines[20]["status"]) == (21, 422)
        assert len(bench.pipeline.sent) == 40

    asyncio.run(scenario())


def test_only_a_window_is_under_way_and_a_line_that_is_late_falls_back() -> None:
    async def scenario() -> None:
        bench = Bench(max_waiting=10 * WINDOW, known=10 * WINDOW)
        rows = [{**transaction(n), "attributes": {}} for n in range(300)]
        most = 0
        bench.pipeline.answers = lambda sent: {}

        def noted(heard: Any) -> None:
            nonlocal most
            most = max(most, bench.gateway.waiting)
            if heard[0].identity[0] != b"t-7":
                bench.gateway.decided(heard)

        bench.pipeline.decided = noted
        content = "\n".join(json.dumps(row) for row in rows).encode()
        answer = await batch(bench, content, **{"Request-Timeout-Ms": "50"})
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["transaction_id"] for line in lines] == [row["transaction_id"] for row in rows]
        assert [line["transaction_id"] for line in lines if line["fallback"]] == ["t-7"]
        assert most <= WINDOW

    asyncio.run(scenario())


def test_only_a_window_of_a_batch_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_many, "WINDOW", 5)

    async def scenario() -> None:
        bench = Bench()
        waiting: list[int] = []

        def noted(sent: Transaction) -> dict[str, Any]:
            waiting.append(bench.gateway.waiting)
            return {}

        bench.pipeline.answers = noted
        bench.pipeline.decided = lambda heard: None  # every answer is a fallback
        content = "\n".join(json.dumps(transaction(n)) for n in range(40)).encode()
        answer = await batch(bench, content, **{"Request-Timeout-Ms": "20"})
        assert len(answer.text.splitlines()) == len(waiting) == 40
        assert 5 <= max(waiting) <= 7, "the window, one that is written, one that waits to go in"

    asyncio.run(scenario())


def test_a_batch_is_paced_by_the_rate_of_its_key() -> None:
    async def scenario() -> None:
        bench = Bench(rate=200.0)
        bench.keys = [api_key()]
        bench.pipeline.answers = lambda sent: {}
        loop = asyncio.get_running_loop()
        began = loop.time()
        content = "\n".join(json.dumps(transaction(n)) for n in range(250)).encode()
        answer = await batch(bench, content)
        assert len(answer.text.splitlines()) == 250
        assert loop.time() - began > 0.2, "200 at once, then 200 a second"

    asyncio.run(scenario())


def test_an_empty_batch_is_an_empty_answer() -> None:
    async def scenario() -> None:
        for content in (b"", b"[]", b" \n "):
            answer = await batch(Bench(), content)
            assert (answer.status_code, answer.text) == (200, "")

    asyncio.run(scenario())
