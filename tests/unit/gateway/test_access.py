"""Who gets in, with how much, and what is never told: the gateway's application over ASGI."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from database.accounts.api_keys import ApiKey
from gateway.scoring import gateway
from gateway.scoring.reading import deadline_s
from gateway.scoring.score_many import MAX_BATCHES_PER_KEY, MAX_BATCHES_TOTAL, RESERVED_BATCHES
from gateway.web import middleware
from gateway.web.access import MIN_RELOAD_PAUSE_S, Keyring
from gateway.web.middleware import ROUTES
from gateway.web.problems import Problem
from gateway.web.rates import Bucket, Rates
from runtime.clock import ManualClock
from runtime.logs import configure_logging
from runtime.settings import load_settings
from schemas.errors import DatabaseUnavailable, UnreadableValue
from stream_features.operate.show import EntityState
from tests.support.gateway.stand_ins import (
    KEY,
    MAX_BATCH,
    MAX_BYTES,
    NOW,
    Bench,
    api_key,
    run,
    transaction,
)

PAN = "4111111111111111"
PLACES = [
    (
        "POST" if route.path.startswith("/score") else "GET",
        route.path.translate(str.maketrans("", "", "{}")),
        route.scope,
    )
    for route in ROUTES
]
CLOSED = [place for place in PLACES if place[2] is not None]


@pytest.mark.parametrize(("method", "path", "scope"), CLOSED)
def test_everything_but_health_checks_is_closed(method: str, path: str, scope: str) -> None:
    async def scenario(bench: Bench) -> None:
        bench.keys += [
            api_key("fraud_k2_gone", revoked_at=NOW - 1),
            api_key("fraud_k3_old", expires_at=NOW),
        ]
        wrong = ("fraud_k1_guess", "fraud_k9_unknown", "fraud_k2_gone", "fraud_k3_old",
                 "nonsense", "", KEY + "x", "fraud_k1_" + "s" * 500)  # fmt: skip
        for key in (None, *wrong):
            answer = await bench.client(key).request(method, path)
            assert answer.status_code == 401, key
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")
        basic = {"Authorization": "Basic " + KEY}
        assert (await bench.client(None).request(method, path, headers=basic)).status_code == 401
        assert bench.pipeline.sent == []

    run(scenario)


@pytest.mark.parametrize(("method", "path", "scope"), CLOSED)
def test_a_key_opens_its_scopes_only(method: str, path: str, scope: str) -> None:
    async def scenario(bench: Bench) -> None:
        other = {"score": "read", "read": "score"}.get(scope)
        if other is None:
            return
        bench.keys.append(api_key("fraud_k2_half", scopes=other))
        answer = await bench.client("fraud_k2_half").request(method, path)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:fraud-scoring:forbidden")

    run(scenario)


def test_health_checks_are_open_and_unknown_places_are_not() -> None:
    async def scenario(bench: Bench) -> None:
        for path in ("/healthz", "/readyz"):
            assert (await bench.client(None).get(path)).status_code == 200
        for path in ("/", "/docs", "/redoc", "/nothing", "/decisions", "/cards"):
            assert (await bench.client(None).get(path)).status_code == 401
            assert (await bench.client().get(path)).status_code == 404

    run(scenario)


def test_a_key_made_a_moment_ago_works_and_a_revoked_one_does_not_after_a_refresh() -> None:
    async def scenario(bench: Bench) -> None:
        assert (await bench.client().get("/openapi.json")).status_code == 200
        await asyncio.sleep(0.2)  # the time between two readings for unknown keys
        bench.keys.append(api_key("fraud_k2_new"))
        assert (await bench.client("fraud_k2_new").get("/openapi.json")).status_code == 200
        await asyncio.sleep(0.2)
        bench.keys[:] = [api_key("fraud_k2_new", revoked_at=NOW)]
        await bench.keyring.refresh()
        for key in (KEY, "fraud_k2_new"):
            assert (await bench.client(key).get("/openapi.json")).status_code == 401

    run(scenario)


def test_ids_with_a_slash_are_found() -> None:
    async def scenario(bench: Bench) -> None:
        body = transaction(transaction_id="shop/7/a b", card_id="card/7/features")
        scored = await bench.client().post("/score-transaction", json=body)
        assert scored.status_code == 200
        bench.cards["card/7/features"] = EntityState(
            kind="card", identity="card/7/features", key=b"", size=1, ttl_ms=1, first_seen=1,
            newest=1, exact=1, folded=0, frauds=0, pending=0, given_back=0, windows=(), recent=(),
        )  # fmt: skip
        for id, card in (
            ("shop/7/a b", "card/7/features"),
            ("shop%2F7%2Fa%20b", "card%2F7%2Ffeatures"),
        ):
            found = await bench.client().get(f"/decisions/{id}")
            assert (found.status_code, found.json()["transaction_id"]) == (200, "shop/7/a b")
            state = await bench.client().get(f"/cards/{card}/features")
            assert (state.status_code, state.json()["exact_events"]) == (200, 1)
        assert (await bench.client().get("/decisions/shop/8")).status_code == 404
        assert (await bench.client().get("/cards/card/7")).status_code == 404

    run(scenario)


def test_more_than_the_rate_is_told_to_wait() -> None:
    async def scenario(bench: Bench) -> None:
        bench.keys.append(api_key("fraud_k2_other"))
        statuses = []
        for number in range(5):
            body = json.dumps(transaction(number))
            answer = await bench.client().post("/score-transaction", content=body)
            statuses.append(answer.status_code)
        assert statuses == [200, 200, 200, 429, 429]
        assert int(answer.headers["retry-after"]) >= 1
        other = await bench.client("fraud_k2_other").get("/decisions/t-0")
        assert other.status_code == 200, "each key has a rate of its own"
        assert len(bench.pipeline.sent) == 3

    run(scenario, rate=3.0)


def test_a_quiet_hour_saves_no_more_than_a_second_does() -> None:
    bucket = Bucket(3.0, now=0.0)
    waits = [bucket.take(3_600.0) for _ in range(5)]
    assert waits == [0.0, 0.0, 0.0, pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert bucket.take(3_600.4) == 0.0
    assert bucket.take(3_600.4) > 0.0


def test_a_batch_takes_on_credit_and_is_told_how_long_to_wait() -> None:
    bucket = Bucket(4.0, now=0.0)
    assert [bucket.reserve(60.0) for _ in range(6)] == [0.0, 0.0, 0.0, 0.0, 0.25, 0.5]


def test_unknown_keys_make_the_keys_be_read_five_times_a_second_at_most() -> None:
    async def scenario() -> None:
        now, readings = [100.0], []
        asyncio.get_running_loop().time = lambda: now[0]  # type: ignore[method-assign]

        def load() -> list[ApiKey]:
            readings.append(now[0])
            return [api_key()]

        keyring = Keyring(load, ManualClock(NOW), Rates(1e6, 1e12, 1e6))
        for moment in (100.0, 100.1, 100.19, 100.21):
            now[0] = moment
            for number in range(20):
                with pytest.raises(Problem):
                    await keyring.caller(b"Bearer fraud_k%d_guess" % number)
        assert readings == [100.0, 100.21]

    asyncio.run(scenario())


async def pieces(size: int, each: int = 1_000) -> AsyncIterator[bytes]:
    for _ in range(size // each + 1):
        yield b" " * each


async def stalling(first: bytes) -> AsyncIterator[bytes]:
    yield first
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("path", "most"), [("/score-transaction", MAX_BYTES), ("/score-transactions", MAX_BATCH)]
)
def test_a_large_body_is_refused_with_and_without_its_length(path: str, most: int) -> None:
    async def scenario(bench: Bench) -> None:
        known = await bench.client().post(path, content=b"x" * (most + 1))
        streamed = await bench.client().post(path, content=pieces(most))
        for answer in (known, streamed):
            assert (answer.status_code, answer.headers["connection"]) == (413, "close")
        assert bench.pipeline.sent == []

    run(scenario)


@pytest.mark.parametrize("path", ["/score-transaction", "/score-transactions"])
def test_a_slow_body_is_ended(path: str) -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.client().post(path, content=stalling(b" "))
        assert (answer.status_code, answer.headers["connection"]) == (408, "close")

    run(scenario)


def test_a_batch_that_stalls_is_answered_as_far_as_it_came() -> None:
    async def scenario(bench: Bench) -> None:
        begun = json.dumps(transaction(1)).encode() + b"\n{"
        answer = await bench.client().post("/score-transactions", content=stalling(begun))
        first, last = [json.loads(line) for line in answer.text.splitlines()]
        assert (answer.status_code, first["transaction_id"], last["status"]) == (200, "t-1", 408)

    run(scenario)


async def dripping(data: bytes) -> AsyncIterator[bytes]:
    for byte in data:
        yield bytes([byte])
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("begun", [b" ", b"{"])
def test_a_batch_that_comes_byte_by_byte_is_ended(begun: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.client().post("/score-transactions", content=dripping(begun * 1_000))
        last = json.loads(answer.text.splitlines()[-1])
        assert last["status"] == 408
        assert bench.pipeline.sent == []

    run(scenario)


class Batch:
    """A batch that was begun, over bare ASGI: it sends one transaction, and more when told to."""

    def __init__(self, bench: Bench, key: str = KEY, *, takes: bool = True) -> None:
        self._body: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._takes = takes
        self.sent: list[dict[str, Any]] = []
        self.send(json.dumps(transaction(1)).encode() + b"\n", more=True)
        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/score-transactions",
            "headers": [(b"authorization", b"Bearer " + key.encode())],
        }  # fmt: skip
        self.task = asyncio.create_task(bench.app(scope, self._body.get, self._take))

    def send(self, data: bytes, *, more: bool) -> None:
        self._body.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self._body.put_nowait({"type": "http.disconnect"})

    async def _take(self, event: Any) -> None:
        if not self._takes and event.get("body"):
            await asyncio.Event().wait()
        self.sent.append(dict(event))

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None


async def begun(*batches: Batch) -> list[int | None]:
    """Wait until each has a status."""
    async with asyncio.timeout(30):
        while not all(batch.sent for batch in batches):
            await asyncio.sleep(0.001)
    return [batch.status for batch in batches]


def test_a_key_has_so_many_batches_and_keeps_no_other_key_out() -> None:
    async def scenario(bench: Bench) -> None:
        keys = [f"fraud_k{number}_s" for number in range(2, 9)]
        bench.keys += map(api_key, keys)
        mine = [Batch(bench) for _ in range(MAX_BATCHES_PER_KEY)]
        assert await begun(*mine) == [200] * MAX_BATCHES_PER_KEY
        over = Batch(bench)
        assert await begun(over) == [429]
        free = MAX_BATCHES_TOTAL - RESERVED_BATCHES - MAX_BATCHES_PER_KEY
        others = [Batch(bench, key) for key in keys[:2] for _ in range(free // 2)]
        assert await begun(*others) == [200] * free
        assert await begun(Batch(bench, keys[2])) == [200]
        assert await begun(Batch(bench, keys[2])) == [503], "the last ones are for other keys"
        rest = [Batch(bench, key) for key in keys[3 : 2 + RESERVED_BATCHES]]
        assert await begun(*rest) == [200] * (RESERVED_BATCHES - 1)
        assert await begun(Batch(bench, keys[6])) == [503]
        mine[0].send(b"", more=False)
        await mine[0].task
        assert await begun(Batch(bench, keys[6])) == [200]

    run(scenario, slow_s=30.0)


def test_a_client_that_does_not_take_its_answers_is_given_up() -> None:
    async def scenario(bench: Bench) -> None:
        stuck = [Batch(bench, takes=False) for _ in range(MAX_BATCHES_PER_KEY)]
        for batch in stuck:
            batch.send(b"", more=False)
        async with asyncio.timeout(30):
            await asyncio.gather(*(batch.task for batch in stuck))
        assert await begun(Batch(bench)) == [200]

    run(scenario)


@pytest.mark.parametrize("value", ["0", "-5", "x", "60001", "9" * 5_000, "1.5"])
def test_a_senseless_deadline_is_refused(value: str) -> None:
    async def scenario(bench: Bench) -> None:
        for path in ("/score-transaction", "/score-transactions"):
            headers = {"Request-Timeout-Ms": value}
            answer = await bench.client().post(path, content=b"{}", headers=headers)
            assert answer.status_code == 400
            assert "Request-Timeout-Ms" in answer.json()["detail"]

    run(scenario)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [([], 0.25), ([(b"request-timeout-ms", b"40")], 0.04),
     ([(b"request-timeout-ms", b"60000")], 60.0)],
)  # fmt: skip
def test_a_deadline_is_in_milliseconds(headers: list[tuple[bytes, bytes]], seconds: float) -> None:
    assert deadline_s({"headers": headers}, 250) == seconds


def test_a_card_is_looked_up_by_its_token_and_never_by_its_number() -> None:
    """An address is written into the logs of each proxy."""

    async def scenario(bench: Bench) -> None:
        await bench.client().post("/score-transaction", json=transaction(card_id=PAN))
        [sent] = bench.pipeline.sent
        bench.cards[sent["card_id"]] = state = EntityState(
            kind="card", identity=sent["card_id"], key=b"", size=1, ttl_ms=1, first_seen=1,
            newest=1, exact=1, folded=0, frauds=0, pending=0, given_back=0, windows=(), recent=(),
        )  # fmt: skip
        assert PAN not in state.identity
        answer = await bench.client().get(f"/cards/{sent['card_id']}/features")
        assert (answer.status_code, answer.json()["exact_events"]) == (200, 1)
        grouped = "4111 1111 1111 1111 12/29"
        for place in (
            f"/cards/{PAN}/features", f"/cards/{grouped}/features", f"/decisions/{PAN}",
            f"/decisions/order-{PAN}", f"/decisions/t-1?card_id={PAN}",
        ):  # fmt: skip
            answer = await bench.client().get(place)
            found = (answer.status_code, answer.json()["type"])
            assert found == (400, "urn:fraud-scoring:bad-request"), place
            assert PAN not in answer.text

    run(scenario, pan_key=b"k" * 32)


def test_a_damaged_card_is_a_problem_and_not_the_end() -> None:
    async def scenario(bench: Bench) -> None:
        def damaged(card_id: str) -> EntityState | None:
            raise UnreadableValue("the value of b'c1234' cannot be read: it is cut")

        bench.card = damaged
        with capture_logs() as lines:
            for _ in range(3):
                answer = await bench.client().get("/cards/c/features")
                assert answer.status_code == 503
                assert "starts anew with its next transaction" in answer.json()["detail"]
        [line] = [each for each in lines if "cannot be read" in each["event"]]
        assert "b'c1234'" in line["reason"]

    run(scenario)


def test_all_invalid_fields_are_named_at_once_and_a_card_number_is_masked() -> None:
    async def scenario(bench: Bench) -> None:
        body = transaction(amount=-1, currency="euro", card_id=PAN, colour="red")
        del body["merchant_id"]
        answer = await bench.client().post("/score-transaction", json=body)
        assert answer.status_code == 422
        named = {each["field"] for each in answer.json()["errors"]}
        assert named == {"amount", "currency", "card_id", "colour", "merchant_id"}
        assert PAN not in answer.text

    run(scenario)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a": 1, "a": 2}', b"\xff"])
def test_what_is_not_a_json_object_is_a_bad_request(body: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        answer = await bench.client().post("/score-transaction", content=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:fraud-scoring:bad-request")

    run(scenario)


@pytest.fixture(params=["json", "console"])
def production_logs(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Log as a process does, to standard error."""
    configure_logging(load_settings(log_format=request.param, log_level="DEBUG"), "gateway")
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", True)  # the client's own
    for module in (middleware, gateway):
        monkeypatch.setattr(module, "log", structlog.get_logger())


@pytest.mark.usefixtures("production_logs")
def test_no_key_and_no_card_number_comes_into_the_logs(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(bench: Bench) -> None:
        client = bench.client()
        await client.post("/score-transaction", json=transaction(card_id=PAN))
        await client.post("/score-transaction", json=transaction(amount=PAN))
        await client.get(f"/cards/{PAN}/features")
        bench.pipeline.answers = None
        headers = {"Request-Timeout-Ms": "5"}
        answer = await client.post("/score-transaction", json=transaction(), headers=headers)
        assert answer.json()["fallback"]
        bench.pipeline.decided = lambda heard: None
        bench.cards = None  # type: ignore[assignment]
        bench.gateway.find = None  # type: ignore[assignment,method-assign]
        assert (await client.get("/decisions/t-1")).status_code == 500

    run(scenario)
    told = "".join(capsys.readouterr())
    assert "Traceback" in told
    assert "t-1" in told, "what happened to which transaction is logged"
    for secret in (KEY, "secret", PAN, "card-1"):
        assert secret not in told


def test_keys_are_not_valid_for_ever_while_they_cannot_be_loaded() -> None:
    async def scenario() -> None:
        now, away = [100.0], False
        asyncio.get_running_loop().time = lambda: now[0]  # type: ignore[method-assign]

        def load() -> list[ApiKey]:
            if away:
                raise DatabaseUnavailable("10.0.0.7 does not answer")
            return [api_key()]

        rates = Rates(1e6, 1e12, 1e6)
        keyring = Keyring(load, ManualClock(NOW), rates, offline_s=60.0)
        assert (await keyring.caller(b"Bearer " + KEY.encode())).key_id == "k1"
        away = True
        for moment, status in ((130.0, 200), (160.0, 200), (160.1, 503), (900.0, 503)):
            now[0] = moment
            await keyring.refresh()
            if status == 200:
                assert (await keyring.caller(b"Bearer " + KEY.encode())).key_id == "k1"
                continue
            with pytest.raises(Problem) as caught:
                await keyring.caller(b"Bearer " + KEY.encode())
            assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
            assert "10.0.0.7" not in caught.value.detail
        away = False
        await keyring.refresh()
        now[0] = 901.0
        await keyring.refresh()
        assert (await keyring.caller(b"Bearer " + KEY.encode())).key_id == "k1"

    asyncio.run(scenario())


def test_the_log_tells_once_of_a_key_that_expires_soon() -> None:
    day = 86_400_000

    async def scenario() -> None:
        keys = [
            api_key("fraud_k1_a", expires_at=NOW + 13 * day),
            api_key("fraud_k2_b", expires_at=NOW + 15 * day),
            api_key("fraud_k3_c", expires_at=NOW + day, revoked_at=NOW),
            api_key("fraud_k4_d"),
        ]
        keyring = Keyring(lambda: keys, ManualClock(NOW), Rates(1e6, 1e12, 1e6))
        for _ in range(2):
            await keyring.refresh()
            await asyncio.sleep(MIN_RELOAD_PAUSE_S + 0.01)

    with capture_logs() as logs:
        asyncio.run(scenario())
    assert [(each["key_id"], each["days"]) for each in logs] == [("k1", 13)]


def test_strangers_do_not_learn_why_the_gateway_is_not_ready() -> None:
    async def scenario(bench: Bench) -> None:
        bench.trouble = "ended: watching the gateway: OSError('kafka-3.internal')"
        for path, told in (("/healthz", "not alive\n"), ("/readyz", "not ready\n")):
            answer = await bench.client(None).get(path)
            assert (answer.status_code, answer.text) == (503, told)

    run(scenario)


def test_a_look_up_without_its_store_names_no_server() -> None:
    async def scenario(bench: Bench) -> None:
        def away(*_: object) -> None:
            raise DatabaseUnavailable("db-7.internal does not answer")

        bench._stored = away  # type: ignore[assignment,method-assign]
        bench.app = bench._application(1.0, "")
        answer = await bench.client().get("/decisions/t-1")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "db-7" not in answer.text

    run(scenario)
