"""The gateway's promises: one answer for an id, deadlines, fallbacks, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest

from gateway.scoring.gateway import FoundDecision, RefusedTransaction
from gateway.web.problems import Problem
from schemas.records import Transaction
from tests.support.gateway import stand_ins
from tests.support.gateway.stand_ins import NOW, Bench, decision, heard, transaction
from tests.support.waiting import PATIENCE_S

run = partial(stand_ins.run, answering=False)


def read(bench: Bench, number: int = 1, **changes: Any) -> Transaction:
    return bench.reader.record(transaction(number, **changes))


async def answered(future: asyncio.Future[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await asyncio.wait_for(future, PATIENCE_S))
    return found


def test_the_answer_is_the_decision_of_the_pipeline() -> None:
    async def scenario(bench: Bench) -> None:
        future = bench.score(read(bench), PATIENCE_S)
        [sent] = bench.pipeline.sent
        reasons = [{"code": "r-1", "text": "too much", "contribution": None}]
        bench.pipeline.decide(sent, 7, decision="BLOCK", reasons=reasons, rule_hits=["r-1"])
        answer = await answered(future)
        assert (answer["decision"], answer["score"]) == ("BLOCK", 0.125)
        assert (answer["reasons"], answer["rule_hits"]) == (reasons, ["r-1"])
        assert answer["position"] == {"partition": 0, "offset": 7}
        assert (answer["model_id"], answer["policy_version"]) == ("m-1", "default")
        assert (answer["fallback"], answer["recorded"]) == (False, True)
        assert bench.gateway.waiting == 0

    run(scenario)


def test_a_repeat_joins_what_is_under_way_and_is_sent_once() -> None:
    async def scenario(bench: Bench) -> None:
        both = [bench.score(read(bench), PATIENCE_S) for _ in range(2)]
        assert len(bench.pipeline.sent) == 1
        bench.pipeline.decide(bench.pipeline.sent[0], 0)
        first, second = [await future for future in both]
        assert first == second == await bench.score(read(bench), PATIENCE_S)
        assert len(bench.pipeline.sent) == 1
        assert bench.counted("fraud_api_answers_total", source="decision") == 1

    run(scenario)


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("field", ["amount", "device_id"])
def test_the_same_id_with_other_content_is_refused(field: str, decided: bool) -> None:
    async def scenario(bench: Bench) -> None:
        future = bench.score(read(bench), PATIENCE_S)
        if decided:
            bench.pipeline.decide(bench.pipeline.sent[0], 0)
            await future
        other: dict[str, Any] = {"amount": 5, "device_id": "d-2"}
        with pytest.raises(Problem) as caught:
            bench.score(read(bench, 1, **{field: other[field]}), PATIENCE_S)
        assert (caught.value.status, caught.value.kind) == (409, "conflict")
        assert len(bench.pipeline.sent) == 1

    run(scenario)


def test_at_the_deadline_the_policy_answers_and_the_late_decision_is_there_afterwards() -> None:
    async def scenario(bench: Bench) -> None:
        answer = await answered(bench.score(read(bench), 0.01))
        assert (answer["decision"], answer["fallback"], answer["recorded"]) == (
            "REVIEW", True, True,
        )  # fmt: skip
        assert bench.find("t-1") is None
        bench.pipeline.decide(bench.pipeline.sent[0], 3)
        again = await answered(bench.score(read(bench), PATIENCE_S))
        assert again == answer, "an answer once given stays"
        final = json.loads(bench.find("t-1") or b"{}")
        assert (final["decision"], final["fallback"]) == ("APPROVE", False)
        assert bench.counted("fraud_api_fallbacks_total", reason="deadline") == 1
        assert bench.counted("fraud_api_answers_total", source="fallback") == 1
        assert bench.counted("fraud_api_answers_total") == 1, "once for each transaction"
        assert bench.counted("fraud_api_late_total") == 1
        assert len(bench.pipeline.sent) == 1

    run(scenario)


def test_without_kafka_the_answer_says_that_it_is_not_recorded_yet() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.away = True
        answer = await answered(bench.score(read(bench), 0.01))
        assert (answer["fallback"], answer["recorded"]) == (True, False)
        assert bench.counted("fraud_api_fallbacks_total", reason="kafka") == 1
        assert bench.pipeline.flush(0.0) == 1, "it is held"

    run(scenario)


def test_what_is_not_taken_is_not_an_answer() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.full = True
        with pytest.raises(Problem) as caught:
            bench.score(read(bench), PATIENCE_S)
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        bench.pipeline.full = False
        future = bench.score(read(bench), PATIENCE_S)
        bench.pipeline.decide(bench.pipeline.sent[0], 0)
        assert (await answered(future))["fallback"] is False

    run(scenario)


def test_only_so_many_wait_at_one_time() -> None:
    async def scenario(bench: Bench) -> None:
        def refused(number: int, tenant: str) -> int:
            with pytest.raises(Problem) as caught:
                bench.score(read(bench, number), PATIENCE_S, tenant)
            return caught.value.status

        for number in range(4):
            bench.score(read(bench, number), PATIENCE_S, "shop-a")
        assert refused(4, "shop-a") == 503, "two thirds are enough for one tenant"
        for number in range(5, 7):
            bench.score(read(bench, number), PATIENCE_S, "shop-b")
        assert refused(7, "shop-b") == 503
        bench.pipeline.decide(bench.pipeline.sent[0], 0)
        bench.score(read(bench, 7), PATIENCE_S, "shop-b")
        assert refused(8, "shop-a") == 503

    run(scenario, max_waiting=6)


@pytest.mark.parametrize("deadlines", [(600.0, 0.01), (0.01, 600.0)])
def test_the_earlier_of_two_deadlines_holds_for_both(deadlines: tuple[float, float]) -> None:
    async def scenario(bench: Bench) -> None:
        first, second = [bench.score(read(bench), each) for each in deadlines]
        answer = await answered(first)
        assert answer == await answered(second)
        assert answer["fallback"]

    run(scenario)


def test_the_first_decision_of_a_transaction_counts() -> None:
    """Another gateway sent the same: both read the same partition, so both see the same first."""

    async def scenario(bench: Bench) -> None:
        future = bench.score(read(bench), PATIENCE_S)
        sent = bench.pipeline.sent[0]
        bench.pipeline.decide(sent, 4, decision="BLOCK")
        bench.pipeline.decide(sent, 5, decision="APPROVE", duplicate=True)
        assert (await answered(future))["position"]["offset"] == 4
        assert json.loads(bench.find("t-1") or b"{}")["decision"] == "BLOCK"

    run(scenario)


def test_a_decision_that_another_gateway_asked_for_is_answered_without_sending() -> None:
    async def scenario(bench: Bench) -> None:
        sent = read(bench)
        bench.gateway.decided([heard(decision(sent, 9))])
        answer = await answered(bench.score(sent, PATIENCE_S))
        assert answer["position"]["offset"] == 9
        assert bench.pipeline.sent == []

    run(scenario)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("amount", 77),
        ("merchant_id", "shop-4"),
        ("event_time", NOW - 2_000),
        ("currency", "USD"),
    ],
)
def test_what_another_gateway_asked_for_is_not_an_answer_to_other_content(
    field: str, other: object
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.gateway.decided([heard(decision(read(bench), 9, **{field: other}))])
        with pytest.raises(Problem) as caught:
            bench.score(read(bench), PATIENCE_S)
        assert (caught.value.status, caught.value.kind) == (409, "conflict")
        assert bench.pipeline.sent == []

    run(scenario)


def test_an_id_that_another_transaction_got_first_is_a_conflict() -> None:
    async def scenario(bench: Bench) -> None:
        future = bench.score(read(bench), PATIENCE_S)
        bench.gateway.decided([heard(decision(read(bench, amount=9), 1))])
        with pytest.raises(Problem, match="other content"):
            await future
        assert bench.counted("fraud_api_answers_total", source="conflict") == 1
        for _ in range(2):
            with pytest.raises(Problem, match="other content"):
                bench.score(read(bench), PATIENCE_S)
        winner = await answered(bench.score(read(bench, amount=9), PATIENCE_S))
        assert winner["position"]["offset"] == 1
        assert len(bench.pipeline.sent) == 1

    run(scenario)


def test_the_same_id_on_another_card_is_another_transaction() -> None:
    async def scenario(bench: Bench) -> None:
        future = bench.score(read(bench), PATIENCE_S)
        bench.gateway.decided([heard(decision(read(bench, card_id="card-9"), 1))])
        assert not future.done()
        bench.pipeline.decide(bench.pipeline.sent[0], 2)
        assert (await answered(future))["position"]["offset"] == 2

    run(scenario)


def test_kind_and_unread_context_are_sent_on_and_in_every_answer() -> None:
    async def scenario(bench: Bench) -> None:
        said: dict[str, Any] = {"kind": "refund", "ip": "somewhere", "mcc": "x"}
        first = read(bench, **said)
        assert (first["kind"], first["unread"], first["ip"]) == ("REFUND", ["mcc", "ip"], None)
        future = bench.score(first, PATIENCE_S)
        bench.pipeline.decide(bench.pipeline.sent[0], 1)
        late = bench.score(read(bench, 2, **said), 0.01)
        for answer in (await answered(future), await answered(late)):
            assert (answer["kind"], answer["unread"]) == ("REFUND", ["mcc", "ip"])
        with pytest.raises(Problem, match="other content"):
            await bench.score(read(bench, **said | {"kind": "PURCHASE"}), PATIENCE_S)

    run(scenario)


@pytest.mark.parametrize("same", [True, False])
def test_a_duplicate_older_than_memory_is_answered_from_the_store(same: bool) -> None:
    async def scenario(bench: Bench) -> None:
        sent = read(bench)
        original = sent if same else read(bench, device_id="d-9")
        found = FoundDecision(decision(original, 2, decision="BLOCK"), original)
        bench.stored[sent["transaction_id"], sent["card_id"]] = found
        future = bench.score(sent, PATIENCE_S)
        bench.pipeline.decide(sent, 800, duplicate=True)
        if same:
            answer = await answered(future)
            assert (answer["decision"], answer["position"]["offset"]) == ("BLOCK", 2)
        else:
            with pytest.raises(Problem, match="other content"):
                await future

    run(scenario)


def test_a_dead_letter_of_ours_is_a_problem_and_may_be_sent_again() -> None:
    async def scenario(bench: Bench) -> None:
        future = bench.score(read(bench), PATIENCE_S)
        bench.gateway.refused(
            [RefusedTransaction((b"t-1", b"card-1"), (0, 99), "amount", "somebody else's")]
        )
        assert not future.done()
        bench.gateway.refused(
            [RefusedTransaction((b"t-1", b"card-1"), (0, 0), "amount", "cannot be")]
        )
        with pytest.raises(Problem) as caught:
            await future
        assert caught.value.status == 422
        assert bench.counted("fraud_api_answers_total", source="refused") == 1
        assert caught.value.more["errors"] == [{"field": "amount", "reason": "cannot be"}]
        bench.score(read(bench), PATIENCE_S)
        assert len(bench.pipeline.sent) == 2

    run(scenario)


def test_memory_is_bounded_and_keeps_what_is_under_way() -> None:
    async def scenario(bench: Bench) -> None:
        waiting = bench.score(read(bench, 1_000), PATIENCE_S)
        bench.pipeline.answers = lambda sent: {}
        for number in range(50):
            await bench.score(read(bench, number), PATIENCE_S)
        assert bench.find("t-0") is None
        assert bench.find("t-49") is not None
        bench.pipeline.decide(bench.pipeline.sent[0], 0)
        answer = await answered(waiting)
        assert (answer["transaction_id"], answer["fallback"]) == ("t-1000", False)

    run(scenario, known=10)
