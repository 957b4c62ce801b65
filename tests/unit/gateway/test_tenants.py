"""Keys of one tenant share transactions; those of another tenant neither meet nor see them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from database.decisions.decisions import StoredDecision
from gateway.scoring import gateway as module
from gateway.scoring.gateway import FoundDecision
from gateway.scoring.ownership import KEY, TENANT
from gateway.scoring.stored import StoredDecisions
from gateway.web.middleware import ROUTES
from schemas.records import Transaction
from tests.support.gateway import stand_ins
from tests.support.gateway.stand_ins import Bench, api_key, decision, heard, transaction
from tests.support.waiting import PATIENCE_S

MINE, TWIN, OTHER, OPERATOR = (f"fraud_k{number}_s" for number in range(2, 6))


def run(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    async def with_tenants(bench: Bench) -> None:
        tenants = {MINE: "shop-a", TWIN: "shop-a", OTHER: "shop-b", OPERATOR: "default"}
        bench.keys += [api_key(key, tenant=tenant) for key, tenant in tenants.items()]
        await scenario(bench)

    stand_ins.run(with_tenants, **options)


async def scored(bench: Bench, key: str, number: int = 1, **changes: Any) -> Any:
    body = transaction(number, **changes)
    return await bench.client(key).post("/score-transaction", json=body)


def test_an_id_that_another_tenant_has_used_is_free() -> None:
    async def scenario(bench: Bench) -> None:
        first = await scored(bench, MINE, card_id="a-1", amount=100)
        second = await scored(bench, OTHER, card_id="b-1", amount=200)
        assert (first.status_code, second.status_code) == (200, 200)
        assert len(bench.pipeline.sent) == 2
        again = await scored(bench, MINE, card_id="a-1", amount=999)
        assert again.status_code == 409, "but within a tenant it is not"

    run(scenario)


def test_an_id_is_unique_on_its_card_only() -> None:
    async def scenario(bench: Bench) -> None:
        """As terminals count: 000001 on each card."""
        for card in ("a-1", "a-2", "a-3"):
            answer = await scored(bench, MINE, transaction_id="000001", card_id=card)
            assert (answer.status_code, answer.json()["card_id"]) == (200, card)
        assert len(bench.pipeline.sent) == 3
        client = bench.client(MINE)
        assert (await client.get("/decisions/000001")).json()["card_id"] == "a-3"
        for card in ("a-1", "a-2"):
            found = await client.get(f"/decisions/000001?card_id={card}")
            assert found.json()["card_id"] == card
        assert (await client.get("/decisions/000001?card_id=a-4")).status_code == 404
        assert (await client.get("/decisions/000001?card_id=" + "x" * 65)).status_code == 422

    run(scenario)


def test_the_keys_of_a_tenant_get_one_answer() -> None:
    async def scenario(bench: Bench) -> None:
        first, second = [await scored(bench, key) for key in (MINE, TWIN)]
        assert first.json() == second.json()
        [sent] = bench.pipeline.sent
        assert sent["attributes"] == {TENANT: "shop-a", KEY: "k2"}

    run(scenario)


def test_the_record_and_the_log_say_whose_transaction_it_was() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.answers = lambda sent: {"decision": "BLOCK"}
        await scored(bench, MINE, attributes={"till": "7"})
        [sent] = bench.pipeline.sent
        assert sent["attributes"] == {"till": "7", TENANT: "shop-a", KEY: "k2"}

    with capture_logs() as logs:
        run(scenario)
    [line] = [each for each in logs if each["event"] == "decision"]
    assert (line["tenant"], line["key_id"]) == ("shop-a", "k2")


@pytest.mark.parametrize("where", ["memory", "store"])
def test_a_key_reads_the_decisions_of_its_tenant_only(where: str) -> None:
    async def scenario(bench: Bench) -> None:
        await scored(bench, MINE)
        if where == "store":
            [sent] = bench.pipeline.sent
            found = FoundDecision(decision(sent, 0), sent)
            fresh = Bench()
            fresh.keys, fresh.stored["t-1", "card-1"] = bench.keys, found
            bench = fresh
        read = {
            key: (await bench.client(key).get("/decisions/t-1")).status_code
            for key in (MINE, TWIN, OTHER, OPERATOR)
        }
        assert read == {MINE: 200, TWIN: 200, OTHER: 404, OPERATOR: 404}

    run(scenario)


def test_what_came_over_kafka_belongs_to_the_operator() -> None:
    async def scenario(bench: Bench) -> None:
        sent = bench.reader.record(transaction())
        owned: Any = {**sent, "attributes": {TENANT: "shop-a"}}
        found = [
            StoredDecision(decision(owned, 3), vector(owned)),
            StoredDecision(decision(sent, 2), vector(sent)),
        ]
        stored = StoredDecisions(None)  # type: ignore[arg-type]
        stored._find = lambda *names: found  # type: ignore[method-assign,assignment]
        offsets = {}
        for tenant in ("shop-a", "default", "shop-b"):
            answer = stored.find("t-1", tenant, None)
            offsets[tenant] = None if answer is None else answer["source_offset"]
        assert offsets == {"shop-a": 3, "default": 2, "shop-b": None}
        found[:] = [StoredDecision(decision(sent, 4), None)]
        assert stored.find("t-1", "default", None) == decision(sent, 4)
        assert stored.find("t-1", "shop-b", None) is None

    run(scenario)


def vector(sent: Transaction) -> Any:
    return {"transaction": sent}


def test_a_decision_that_was_only_heard_is_for_those_who_know_its_transaction() -> None:
    async def scenario(bench: Bench) -> None:
        sent = bench.reader.record(transaction())
        bench.gateway.decided([heard(decision(sent, 9))])
        assert (await bench.client(OPERATOR).get("/decisions/t-1")).status_code == 404
        answer = await scored(bench, MINE)
        assert answer.json()["position"]["offset"] == 9
        assert bench.pipeline.sent == []
        assert (await bench.client(MINE).get("/decisions/t-1")).status_code == 200
        assert (await bench.client(OTHER).get("/decisions/t-1")).status_code == 404

    run(scenario)


@pytest.mark.parametrize("path", [route.path for route in ROUTES if route.of_all])
def test_what_is_about_all_tenants_is_for_the_operator(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        place = path.replace("{card_id}", "card-1")
        assert (await bench.client(MINE).get(place)).status_code == 403
        assert (await bench.client(OPERATOR).get(place)).status_code in (200, 404)

    run(scenario)


def test_the_original_of_a_duplicate_may_have_been_sent_by_another_key() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.answers = None
        sent = bench.reader.record(transaction())
        original: Any = {**sent, "attributes": {TENANT: "shop-a", KEY: "k-before"}}
        found = FoundDecision(decision(original, 2, decision="BLOCK"), original)
        bench.stored["t-1", "card-1"] = found
        future = bench.score(sent, PATIENCE_S, "shop-a")
        bench.pipeline.decide(bench.pipeline.sent[0], 800, duplicate=True)
        assert b'"offset": 2' in await future

    run(scenario)


def test_duplicates_are_looked_up_a_few_at_a_time_and_not_after_their_deadline() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.answers = None
        under_way = most = asked = 0
        free = asyncio.Event()

        async def slow(sent: Transaction) -> None:
            nonlocal under_way, most, asked
            under_way, asked = under_way + 1, asked + 1
            most = max(most, under_way)
            await free.wait()
            under_way -= 1

        bench.gateway._original = slow
        sent = [bench.reader.record(transaction(number)) for number in range(50)]
        futures = [bench.score(each, 0.05) for each in sent]
        for offset, each in enumerate(bench.pipeline.sent):
            bench.pipeline.decide(each, offset, duplicate=True)
        answers = await asyncio.gather(*futures)
        assert all(b'"fallback": true' in answer for answer in answers)
        free.set()
        while bench.gateway._searches:
            await asyncio.sleep(0.001)
        assert (most, asked) == (module.MAX_SEARCHES, module.MAX_SEARCHES)

    run(scenario)


def test_fallbacks_do_not_flood_the_log() -> None:
    async def scenario(bench: Bench) -> None:
        bench.pipeline.answers = None
        futures = [bench.score(bench.reader.record(transaction(n)), 0.001) for n in range(60)]
        await asyncio.gather(*futures)

    with capture_logs() as logs:
        run(scenario)
    assert len([each for each in logs if each["event"] == "fallback"]) == 1
