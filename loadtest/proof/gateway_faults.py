"""Proves that the gateway answers every request while scorer, Redis and Kafka are down in turn.

The load is an open loop at a fixed rate. Some requests are repeated a moment later, to check that
both get the same answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import uvloop

from devstack.service_process import Service
from devstack.stack import Stack
from loadtest.deploy.deployment import READY_S, Deployment, place_on
from loadtest.deploy.gateway_process import GatewayProcess
from loadtest.deploy.processes import machine
from loadtest.measure import report
from loadtest.measure.gateway import Say, wait_for_decisions
from loadtest.measure.gateway_account import Exchange, GatewayAccount
from loadtest.measure.latency import percentiles_ms
from loadtest.traffic.gateway_rows import GatewayRow, rows, take_rows
from loadtest.traffic.http_load import Connection, connect, request, short_collections
from schemas.errors import FatalError

REPEAT_EVERY: Final = 10
REPEAT_AFTER_S: Final = 1.0
UNANSWERED_S: Final = 10.0
SETTLE_S: Final = 180.0
SLOWEST: Final = 20
RECOVERY_S: Final = 15.0
"""Usual time until the pipeline decides again after an outage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Settings of a run.

    Each outage lasts `away_s`, with a pause of `between_s` before and after. `slack_ms` is the time
    that the way to the gateway and back may add to the deadline.
    """

    directory: Path
    rate: float = 200.0
    away_s: float = 20.0
    between_s: float = 5.0
    deadline_ms: int = 100
    slack_ms: int = 50
    customers: int = 2_000
    seed: int = 7

    @property
    def rows(self) -> int:
        """Estimate of the transactions that will be sent."""
        return round(self.rate * (4 * self.between_s + 3 * (self.away_s + RECOVERY_S)))


@dataclass(frozen=True, slots=True)
class Fault:
    """An outage: `away` stops a process and `back` starts it again; both block."""

    name: str
    away: Callable[[], None]
    back: Callable[[], None]


def run(plan: FaultPlan, say: Say) -> dict[str, Any]:
    """Run on a Kafka and a Redis of its own, and return the report."""
    say("starting Kafka and Redis")
    with Stack(plan.directory / "stack") as stack:
        place = place_on(stack)
        services = {
            name: Service(
                name,
                ["-m", package, "run"],
                env={**place.env, "FRAUD_WORKER_ID": name},
                log_dir=place.log_dir,
            )
            for name, package in (("stream-1", "stream_features"), ("scorer-1", "scorer"))
        }
        try:
            say("starting the services")
            for service in services.values():
                service.start()
            for service in services.values():
                service.wait_ready(READY_S)
            with GatewayProcess(place) as gateway:
                return _measured(plan, place, gateway, faults_of(stack, services["scorer-1"]), say)
        finally:
            for service in reversed(services.values()):
                service.kill()


def faults_of(stack: Stack, scorer: Service) -> list[Fault]:
    """Return the outages in their order."""
    return [
        Fault("scorer", scorer.kill, scorer.start),
        Fault("redis", stack.redis.stop, stack.redis.start),
        Fault("kafka", stack.kafka.stop, stack.kafka.start),
    ]


def _measured(
    plan: FaultPlan,
    place: Deployment,
    gateway: GatewayProcess,
    faults: Sequence[Fault],
    say: Say,
) -> dict[str, Any]:
    load = OpenLoad(plan, gateway)
    phases = _through(plan, load, faults, say)
    say("waiting for the decisions of everything that was accepted")
    decisions = wait_for_decisions(place, load.account.accepted(), SETTLE_S)
    counts = load.account.counts(decisions)
    latency = load.account.latencies()
    bound = (plan.deadline_ms + plan.slack_ms) * 1_000_000
    return {
        "command": "gateway faults",
        **counts._asdict(),
        "throughput_per_s": round(plan.rate, 1),
        **percentiles_ms(latency),
        "deadline_ms": plan.deadline_ms,
        "after_deadline": int((latency > bound).sum()),
        "slack_ms": plan.slack_ms,
        "slowest": load.account.slowest(SLOWEST),
        "repeated": load.repeated,
        "statuses": load.account.statuses(),
        "phases": phases,
        "stages": {},
        "processes": {},
        "machine": machine(),
        "commit": report.commit(),
    }


def _through(
    plan: FaultPlan, load: OpenLoad, faults: Sequence[Fault], say: Say
) -> list[dict[str, Any]]:
    """Keep sending through one outage after the other; return the figures of each.

    The load runs on a thread of its own; processes are started on this one, because they end with
    the thread that started them.
    """
    phases = []
    exchanges = load.account.exchanges
    with short_collections(), load:
        time.sleep(plan.between_s)
        for fault in faults:
            say(f"{fault.name} is down for {plan.away_s:g} s")
            fault.away()
            first = len(exchanges)
            time.sleep(plan.away_s)
            last = len(exchanges)
            fault.back()
            recovered_s = load.decided_again()
            during = exchanges[first:last]
            phases.append(
                {
                    "fault": fault.name,
                    "recovered_s": round(recovered_s, 2),
                    "answered": sum(each.status != 0 for each in during),
                    "fallback": sum(is_fallback(each) for each in during),
                    "problems": sum(each.status not in (0, 200) for each in during),
                    "unanswered": sum(each.status == 0 for each in during),
                }
            )
            time.sleep(plan.between_s)
    return phases


def is_fallback(exchange: Exchange) -> bool:
    """Return whether the policy answered in the pipeline's place."""
    return b'"fallback": true' in exchange.body


class OpenLoad:
    """Sends at a fixed rate whether or not answers come; opens connections as needed."""

    def __init__(self, plan: FaultPlan, gateway: GatewayProcess) -> None:
        self._plan, self._gateway = plan, gateway
        stream = rows(plan.customers, plan.seed, 20_148)
        self._stream: Iterator[GatewayRow] = chain(take_rows(stream, plan.rows), stream)
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self._headers = {"Request_Timeout_Ms": str(plan.deadline_ms)}
        self.account = GatewayAccount()
        self.repeated = 0

    def __enter__(self) -> Self:
        """Start sending, on a thread of its own."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending, and wait for the answers to all requests.

        Raises:
            FatalError: the load itself failed, so its figures mean nothing.
        """
        self._stopped.set()
        self._thread.join()
        if self._failures:
            raise FatalError(f"the load failed: {self._failures[0]!r}") from self._failures[0]

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        due = time.monotonic()
        number = 0
        while not self._stopped.is_set():
            row = next(self._stream)
            self._begin(self._ask(row))
            number += 1
            if number % REPEAT_EVERY == 0:
                self.repeated += 1
                self._begin(self._ask(row, REPEAT_AFTER_S))
            due += 1 / self._plan.rate
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._idle:
            connection.close()

    def decided_again(self) -> float:
        """Wait until the pipeline decides again, at most READY_S; return the seconds."""
        began, seen = time.monotonic(), len(self.account.exchanges)
        while time.monotonic() - began < READY_S:
            time.sleep(0.05)
            fresh = self.account.exchanges[seen:]
            if any(each.status == 200 and not is_fallback(each) for each in fresh):
                break
            seen += len(fresh)
        return time.monotonic() - began

    def _begin(self, asking: Any) -> None:
        task = asyncio.get_running_loop().create_task(asking)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := task.exception()) is not None:
            self._failures.append(error)

    async def _ask(self, row: GatewayRow, after_s: float = 0.0) -> None:
        if after_s:
            await asyncio.sleep(after_s)
        data = request("/score-transaction", self._gateway.key, row.body, **self._headers)
        asked = time.monotonic_ns()
        connection = self._kept()
        try:
            async with asyncio.timeout(UNANSWERED_S):
                connection = connection or await connect(self._gateway.port)
                reply = await connection.send(data)
        except OSError:  # refused, broken off or timed out
            self.account.exchanges.append(Exchange(row.transaction_id, asked, 0, 0, b""))
            if connection is not None:
                connection.close()
            return
        self._idle.append(connection)
        self.account.exchanges.append(
            Exchange(row.transaction_id, asked, reply.at, reply.status, reply.body)
        )

    def _kept(self) -> Connection | None:
        """Return an idle connection that the gateway has not closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None
