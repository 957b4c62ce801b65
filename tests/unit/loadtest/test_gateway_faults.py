"""The load that goes on while the gateway does not: what is refused counts as unanswered."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from devstack.ports import free_port
from loadtest.measure.gateway_account import Exchange, GatewayAccount
from loadtest.proof import gateway_faults
from loadtest.proof.gateway_faults import FaultPlan, OpenLoad
from schemas.errors import FatalError
from tests.support.waiting import PATIENCE_S


class Away:
    """A gateway that nobody runs."""

    key = "fraud_k_s"

    def __init__(self) -> None:
        self.port = free_port()


def load() -> OpenLoad:
    plan = FaultPlan(directory=Path(), rate=100.0, away_s=0.1, between_s=0.1, customers=20)
    return OpenLoad(plan, Away())  # type: ignore[arg-type]


def test_a_refused_connection_is_an_unanswered_request() -> None:
    deadline = time.monotonic() + PATIENCE_S
    with load() as made:
        while len(made.account.exchanges) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    counts = made.account.counts({})
    assert counts.unanswered == counts.sent >= 5


def test_a_load_that_fails_itself_is_not_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(port: int) -> None:
        raise ValueError("a bug")

    def loaded() -> None:
        deadline = time.monotonic() + PATIENCE_S
        with load() as made:
            while not made._failures and time.monotonic() < deadline:
                time.sleep(0.01)

    monkeypatch.setattr(gateway_faults, "connect", fails)
    with pytest.raises(FatalError, match="a bug"):
        loaded()


def test_the_slowest_are_told_with_their_moments() -> None:
    asked = [(5.0, 0.1, 200), (6.0, 0.3, 200), (9.0, 0.0, 0), (7.5, 0.2, 503)]
    account = GatewayAccount(
        [
            Exchange(str(number), int(at * 1e9), int((at + took) * 1e9), status, b"")
            for number, (at, took, status) in enumerate(asked)
        ]
    )
    assert account.slowest(2) == [(1.0, 300.0), (2.5, 200.0)]
    assert GatewayAccount().slowest(2) == []
