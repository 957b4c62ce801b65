"""What one key can cost the others: counted in calls, bytes and turns of the loop, not in time."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from gateway.scoring import batch_input as parsing
from gateway.scoring import score_many
from gateway.scoring.batch_body import SLICE_BYTES, BatchBody
from gateway.scoring.batch_input import batch_input
from gateway.scoring.ownership import tenant_of, without_owner
from gateway.scoring.reading import MAX_FIELDS
from gateway.scoring.score_many import MAX_BATCHES_PER_KEY
from gateway.scoring.score_one import LARGE_BYTES
from gateway.web.problems import MAX_ERRORS, Problem
from schemas.codec.transactions_kernel import MAX_ATTRIBUTES
from tests.support.gateway.stand_ins import Bench, api_key, run, transaction
from tests.support.waiting import PATIENCE_S
from tests.unit.gateway.test_access import Batch, begun

UNKNOWN = json.dumps({f"u{number}": number for number in range(4_000)}).encode()
"""48 KB of fields that a transaction does not have."""


def calls(work: Callable[[], object]) -> int:
    """Return how many functions `work` calls."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_48_kb_of_unknown_fields_cost_no_more_than_a_few_transactions() -> None:
    async def scenario(bench: Bench) -> None:
        def refused(body: bytes) -> int:
            def read() -> None:
                with pytest.raises(Problem) as caught:
                    bench.reader.json(body)
                assert caught.value.status == 422
                assert len(caught.value.body()) < 1_000

            return calls(read)

        assert len(UNKNOWN) > 48_000
        good = json.dumps(transaction()).encode()
        ordinary = calls(lambda: bench.reader.json(good))
        assert refused(UNKNOWN) < 3 * ordinary
        long_name = json.dumps(transaction() | {"x" * 48_000: 1}).encode()
        assert refused(long_name) < 3 * ordinary
        crowded = {"attributes": {f"a{number}": "x" for number in range(4_000)}}
        body = json.dumps(transaction() | crowded).encode()
        assert calls(lambda: bench.reader.json(body)) < 3 * ordinary

    run(scenario)


def test_an_answer_names_at_most_twenty_errors_and_repeats_no_long_text() -> None:
    async def scenario(bench: Bench) -> None:
        fields = {f"field-{number}-{'x' * 50}": "y" * 500 for number in range(MAX_FIELDS - 6)}
        with pytest.raises(Problem) as caught:
            bench.reader.record(transaction(amount=[["z" * 500]] * 50) | fields)
        assert len(caught.value.more["errors"]) == MAX_ERRORS == 20
        assert caught.value.detail.endswith(f"and {len(fields) + 1 - MAX_ERRORS} more")
        assert len(caught.value.body()) < 12_000

    run(scenario)


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({f"a{number}": "x" for number in range(MAX_ATTRIBUTES)}, True),
        ({f"a{number}": "x" for number in range(MAX_ATTRIBUTES + 1)}, False),
        ({"x" * 64: "y" * 1_000}, True),
        ({"x" * 65: "y"}, False),
        ({"x": "y" * 1_001}, False),
        ({"gateway:tenant": "somebody-else", "till": "7"}, False),
    ],
)
def test_attributes_beyond_their_bounds_are_missing(attributes: dict[str, str], kept: bool) -> None:
    async def scenario(bench: Bench) -> None:
        body = transaction(attributes=attributes)
        answer = await bench.client().post("/score-transaction", json=body)
        assert answer.status_code == 200
        [sent] = bench.pipeline.sent
        assert without_owner(sent)["attributes"] == (attributes if kept else {})
        assert sent["unread"] == ([] if kept else ["attributes"])
        assert tenant_of(sent) == "default"

    run(scenario)


def test_a_key_is_refused_when_it_has_sent_too_many_bytes_and_others_are_served() -> None:
    async def scenario(bench: Bench) -> None:
        bench.keys.append(api_key("fraud_k2_other"))
        padded = json.dumps(transaction() | {"colour": "x" * 3_000}).encode()
        statuses = []
        for _ in range(5):
            answer = await bench.client().post("/score-transaction", content=padded)
            statuses.append(answer.status_code)
        assert statuses == [422, 422, 422, 429, 429]
        assert "FRAUD_API_RATE_KB" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        other = await bench.client("fraud_k2_other").post("/score-transaction", json=transaction())
        assert other.status_code == 200

    run(scenario, rate_bytes=8_000.0)


def test_a_key_is_refused_when_it_has_used_too_much_time_and_others_are_served() -> None:
    async def scenario(bench: Bench) -> None:
        bench.keys.append(api_key("fraud_k2_other"))
        first = await bench.client().post("/score-transaction", json=transaction())
        second = await bench.client().post("/score-transaction", json=transaction(2))
        assert (first.status_code, second.status_code) == (200, 429)
        assert "FRAUD_API_RATE_MS" in second.json()["detail"]
        other = await bench.client("fraud_k2_other").post("/score-transaction", json=transaction(3))
        assert other.status_code == 200

    run(scenario, rate_seconds=1e-9)


def test_a_batch_is_slowed_down_by_its_bytes() -> None:
    async def scenario(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        content = "\n".join(json.dumps(transaction(number)) for number in range(100)).encode()
        began = loop.time()
        answer = await bench.client().post("/score-transactions", content=content)
        assert len(answer.text.splitlines()) == 100
        assert loop.time() - began > (len(content) - 2 * SLICE_BYTES) / 10_000 - 1

    run(scenario, rate_bytes=10_000.0, slow_s=PATIENCE_S)


@pytest.mark.parametrize(("size", "elsewhere"), [(LARGE_BYTES - 1, False), (LARGE_BYTES, True)])
def test_a_large_body_is_parsed_off_the_loop(size: int, elsewhere: bool) -> None:
    async def scenario(bench: Bench) -> None:
        threads: list[int] = []
        read = bench.reader.json

        class Watched:
            def json(self, data: bytes) -> Any:
                threads.append(threading.get_ident())
                return read(data)

        one = bench.one
        one._max_bytes, one._reader = 2 * LARGE_BYTES, Watched()  # type: ignore[assignment]
        body = json.dumps(transaction()).encode()
        body += b" " * (size - len(body))
        answer = await bench.client().post("/score-transaction", content=body)
        assert answer.status_code == 200
        assert [each != threading.get_ident() for each in threads] == [elsewhere]

    run(scenario)


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize(
    "element",
    [b'{"a": "' + b"\\\\" * 20_000 + b'"}', b"[" * 20_000 + b"]" * 20_000, b"1" * 40_000],
    ids=["text", "brackets", "number"],
)
def test_each_byte_of_an_array_is_looked_at_once_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, size: int, element: bytes
) -> None:
    looked = 0
    end = parsing._end

    def counted(pattern: Any, data: bytes, at: int) -> int:
        nonlocal looked
        found = end(pattern, data, at)
        looked += found - at
        return found

    monkeypatch.setattr(parsing, "_end", counted)
    array = b"[" + element + b"]"
    reader = batch_input(array, 100_000)
    found: list[Any] = []
    for at in range(0, len(array), size):
        found += reader.feed(array[at : at + size], last=at + size >= len(array))
    assert found == [element]
    assert looked <= len(array)


def test_no_more_of_a_long_line_is_kept_than_a_transaction_may_have() -> None:
    reader = batch_input(b"{", 1_000)
    for _ in range(1_000):
        assert list(reader.feed(b"x" * 1_000, last=False)) == []
        assert len(reader._line._data) <= 1_000  # type: ignore[attr-defined]
    [problem] = reader.feed(b"\n", last=False)
    assert isinstance(problem, Problem)
    assert problem.status == 413


@pytest.mark.parametrize("line", [b"\n", b"x\n", b"{}\n"])
def test_others_have_their_turn_while_a_batch_is_parsed(
    monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(score_many, "TURN_S", -1.0)  # every turn has taken long enough
    turns = 0
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal turns
        turns += 1
        await sleep(seconds)

    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(asyncio, "sleep", counted)
        content = b"{}\n" + line * (40_000 // len(line))
        answer = await bench.client().post("/score-transactions", content=content)
        assert answer.status_code == 200
        assert turns >= len(content) // SLICE_BYTES

    run(scenario)


def test_a_batch_has_so_many_transactions_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_many, "MAX_TRANSACTIONS", 3)

    async def scenario(bench: Bench) -> None:
        answer = await bench.client().post("/score-transactions", content=b"{}\n" * 10)
        statuses = [json.loads(line)["status"] for line in answer.text.splitlines()]
        assert statuses == [422, 422, 422, 413]

    run(scenario)


def test_a_batch_ends_with_its_client_and_frees_its_place() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.answers = None  # nothing is decided: every batch would wait
        mine = [Batch(bench) for _ in range(MAX_BATCHES_PER_KEY)]
        assert await begun(*mine) == [200] * MAX_BATCHES_PER_KEY
        for batch in mine[1:]:
            batch.send(b"", more=False)
        assert await begun(Batch(bench)) == [429]
        for batch in mine:  # one has not even sent its body to the end
            batch.leave()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(batch.task for batch in mine))
        assert await begun(Batch(bench)) == [200]

    run(scenario, slow_s=600.0)


def test_what_an_abandoned_batch_has_not_begun_is_not_sent() -> None:
    async def scenario(bench: Bench) -> None:
        batch = Batch(bench)
        lines = [json.dumps(transaction(number)).encode() for number in range(2, 500)]
        batch.send(b"\n".join(lines), more=False)
        assert await begun(batch) == [200]
        batch.leave()
        async with asyncio.timeout(PATIENCE_S):
            await batch.task
        sent = len(bench.pipeline.sent)
        assert sent < 100
        await asyncio.sleep(0)
        assert len(bench.pipeline.sent) == sent

    run(scenario, rate=10.0, slow_s=600.0)


def test_blanks_before_a_batch_are_not_kept() -> None:
    pieces = [b" \n" * 50 for _ in range(1_000)] + [b"[]"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def scenario(bench: Bench) -> None:
        first = await BatchBody({"headers": []}, receive, 10**6, 600.0).first()
        assert first == (b"[]", False)

    run(scenario)
