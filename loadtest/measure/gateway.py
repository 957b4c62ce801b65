"""Measures the gateway under load, with the whole pipeline behind it.

The loop is closed: each connection sends its next transaction or batch when the last is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtest.deploy.deployment import Deployment, Services, Target, deploy
from loadtest.deploy.gateway_process import GatewayProcess
from loadtest.deploy.model import prepare_model, publish
from loadtest.deploy.processes import Meter, machine
from loadtest.measure import report
from loadtest.measure.gateway_account import Exchange, GatewayAccount, by_transaction
from loadtest.measure.latency import percentiles_ms
from loadtest.traffic.gateway_rows import GatewayRow, rows, take_rows
from loadtest.traffic.http_load import Connection, connect, request, short_collections
from runtime.kafka.reader import read_all
from schemas.errors import BrokerUnavailable, FatalError
from schemas.topics import DECISIONS

Say = Callable[[str], None]
MADE_AHEAD: Final = 2_500
"""Transactions encoded in advance per second of the run; further ones are encoded on the way."""
SETTLE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRunPlan:
    """Settings of a run.

    `batch` is the number of transactions per batch, or 0 to send them singly; with `deadline_ms`
    None the gateway's own deadline applies.
    """

    target: Target
    connections: int
    seconds: float
    warm_up_s: float = 5.0
    batch: int = 0
    deadline_ms: int | None = None
    customers: int = 20_000
    seed: int = 7
    first_day: int = 20_148
    model: Path | None = None
    no_model: bool = False


def run(plan: GatewayRunPlan, say: Say) -> dict[str, Any]:
    """Start everything, measure, and return the report.

    Raises:
        ConfigurationError: something that the run needs is missing.
        FatalError: a service failed.
    """
    model = plan.model
    if model is None and not plan.no_model:
        say("training a model of the generated world (once, about a minute)")
        model = prepare_model(plan.target.data, plan.seed)
    say("starting Kafka and Redis" if plan.target.bootstrap is None else "connecting")
    with deploy(plan.target) as place:
        model_id = None if model is None else publish(place.settings, model)
        with Services(place) as services:
            say("starting the services")
            services.start()
            services.wait_ready()
            if model_id is not None:
                services.await_model(model_id)
            with GatewayProcess(place) as gateway:
                found = _measured(plan, place, services, gateway, say)
    return found | {"model": model_id}


def _measured(
    plan: GatewayRunPlan, place: Deployment, services: Services, gateway: GatewayProcess, say: Say
) -> dict[str, Any]:
    stream = rows(plan.customers, plan.seed, plan.first_day)
    every = ClosedLoad(plan, gateway, stream)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        say(f"warm-up of {plan.warm_up_s:g} s")
        warm = runner.run(every.run(plan.warm_up_s))
        ahead = 3 if plan.batch else 1
        every.make_ready(int(plan.seconds * MADE_AHEAD * ahead))
        say("measuring")
        meter = Meter({**place.pids, **services.pids(), "gateway-1": gateway.service.pid})
        with short_collections():
            account = runner.run(every.run(plan.seconds))
        processes = meter.read()
    if services.dead() or not gateway.service.running:
        raise FatalError(f"a service ended during the run: see the logs in {place.log_dir}")
    decisions = wait_for_decisions(place, warm.accepted() | account.accepted(), SETTLE_S)
    return build_report(plan, account, decisions, every.seconds, processes)


def build_report(
    plan: GatewayRunPlan,
    account: GatewayAccount,
    decisions: Mapping[str, list[dict[str, Any]]],
    seconds: float,
    processes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report of the exchanges of `account`, which took `seconds`."""
    counts = account.counts(decisions)
    return {
        "command": "gateway",
        **counts._asdict(),
        "throughput_per_s": round(counts.answered / seconds, 1),
        **percentiles_ms(account.latencies()),
        "connections": plan.connections,
        "batch": plan.batch,
        "deadline_ms": plan.deadline_ms,
        "measured": {"seconds": round(seconds, 3)},
        "statuses": account.statuses(),
        "stages": {},
        "processes": processes,
        "machine": machine(),
        "commit": report.commit(),
    }


def wait_for_decisions(
    place: Deployment, accepted: set[str], timeout_s: float
) -> dict[str, list[dict[str, Any]]]:
    """Return the decisions by id once every accepted id has one, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    found: dict[str, list[dict[str, Any]]] = {}
    while True:
        with suppress(BrokerUnavailable):  # the broker may still be starting
            found = by_transaction(read_all(place.settings, place.settings.topic(DECISIONS)))
        if accepted <= found.keys() or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


class ClosedLoad:
    """Sends on several connections at once; `seconds` is how long the last run took."""

    def __init__(
        self, plan: GatewayRunPlan, gateway: GatewayProcess, stream: Iterator[GatewayRow]
    ) -> None:
        self._plan, self._gateway, self._stream = plan, gateway, stream
        self._ready: list[GatewayRow] = []
        self.seconds = 0.0
        headers = {}
        if plan.deadline_ms is not None:
            headers["Request_Timeout_Ms"] = str(plan.deadline_ms)
        self._headers = headers

    def make_ready(self, count: int) -> None:
        """Encode transactions in advance."""
        self._ready = take_rows(self._stream, count)
        self._ready.reverse()

    def _next(self, count: int) -> list[GatewayRow]:
        ready = [self._ready.pop() for _ in range(min(count, len(self._ready)))]
        return ready + take_rows(self._stream, count - len(ready))

    async def run(self, seconds: float) -> GatewayAccount:
        """Send for some time, and return the exchanges.

        Raises:
            FatalError: a batch was refused as a whole.
        """
        account = GatewayAccount()
        opened = [await connect(self._gateway.port) for _ in range(self._plan.connections)]
        began = time.monotonic_ns()
        until = began + int(seconds * 1e9)
        work = self._batches if self._plan.batch else self._singles
        try:
            await asyncio.gather(*(work(each, until, account) for each in opened))
        finally:
            for each in opened:
                each.close()
        self.seconds = (time.monotonic_ns() - began) / 1e9
        return account

    async def _singles(self, connection: Connection, until: int, account: GatewayAccount) -> None:
        key, headers = self._gateway.key, self._headers
        while (asked := time.monotonic_ns()) < until:
            [row] = self._next(1)
            data = request("/score-transaction", key, row.body, **headers)
            asked = time.monotonic_ns()
            reply = await connection.send(data)
            account.exchanges.append(
                Exchange(row.transaction_id, asked, reply.at, reply.status, reply.body)
            )

    async def _batches(self, connection: Connection, until: int, account: GatewayAccount) -> None:
        while time.monotonic_ns() < until:
            chosen = self._next(self._plan.batch)
            body = b"\n".join(row.body for row in chosen)
            data = request("/score-transactions", self._gateway.key, body, **self._headers)
            asked = time.monotonic_ns()
            arrivals: list[tuple[int, int]] = []

            def arrived(piece: bytes, arrivals: list[tuple[int, int]] = arrivals) -> None:
                arrivals.append((piece.count(b"\n"), time.monotonic_ns()))

            connection.on_piece = arrived
            reply = await connection.send(data)
            if reply.status != 200:
                raise FatalError(f"a batch was refused with {reply.status}: {reply.body[:500]!r}")
            account.exchanges += _lines(chosen, asked, reply.body, arrivals)


def _lines(
    chosen: list[GatewayRow], asked: int, body: bytes, arrivals: list[tuple[int, int]]
) -> Iterator[Exchange]:
    """Yield the exchange of each line of a batch; latency counts from the start of the batch."""
    moments = [at for count, at in arrivals for _ in range(count)]
    lines = body.splitlines()
    for row, line, at in zip(chosen, lines, moments, strict=False):
        bad = line.startswith(b'{"line"')
        yield Exchange(row.transaction_id, asked, at, 422 if bad else 200, line)
    for row in chosen[len(lines) :]:
        yield Exchange(row.transaction_id, asked, 0, 0, b"")
