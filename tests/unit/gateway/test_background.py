"""What runs beside the requests goes on, or the gateway knows that it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from database.accounts.api_keys import ApiKey
from gateway.background import Background
from gateway.web.access import MIN_RELOAD_PAUSE_S, Keyring
from gateway.web.problems import Problem
from gateway.web.rates import Rates
from runtime.clock import ManualClock
from schemas.errors import ConfigurationError, DatabaseUnavailable
from tests.support.gateway.stand_ins import KEY, NOW, api_key

HEADER = b"Bearer " + KEY.encode()


@pytest.mark.parametrize(
    "error",
    [DatabaseUnavailable("away"), ConfigurationError("authentication failed"), ValueError("bug")],
)
def test_a_key_is_revoked_though_reading_failed_in_between(error: Exception) -> None:
    async def scenario() -> None:
        keys = [api_key()]
        failures: list[Exception] = []
        readings = 0
        again = asyncio.Event()
        loop = asyncio.get_running_loop()

        def load() -> Sequence[ApiKey]:
            nonlocal readings
            readings += 1
            if readings > 3:
                loop.call_soon_threadsafe(again.set)
            if failures:
                raise failures.pop()
            return list(keys)

        keyring = Keyring(
            load, ManualClock(NOW), Rates(1e6, 1e12, 1e6), refresh_s=MIN_RELOAD_PAUSE_S
        )
        await keyring.refresh()
        failures += [error, error]
        keeping = asyncio.create_task(keyring.keep_fresh())
        while readings < 2:
            await asyncio.sleep(0.01)
        assert (await keyring.caller(HEADER)).key_id == "k1", "those read last hold"
        keys[:] = [api_key(revoked_at=NOW)]
        async with asyncio.timeout(30):
            await again.wait()
            refused = False
            while not refused:
                await asyncio.sleep(0.01)
                with suppress(Problem):
                    await keyring.caller(HEADER)
                    continue
                refused = True
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize("raised", [True, False])
def test_a_task_that_ends_is_a_failure(raised: bool) -> None:
    async def scenario() -> None:
        told = asyncio.Event()
        background = Background(ended=told.set)

        async def work() -> None:
            if raised:
                raise ValueError("broken")

        background.start("wait", asyncio.Event().wait())  # type: ignore[arg-type]
        assert background.failed == ""
        background.start("read the keys", work())
        async with asyncio.timeout(30):
            await told.wait()
        assert "read the keys" in background.failed
        assert ("broken" in background.failed) == raised
        await background.stop()

    asyncio.run(scenario())


def test_tasks_that_are_stopped_have_not_failed() -> None:
    async def scenario() -> None:
        background = Background(ended=lambda: None)
        background.start("wait", asyncio.Event().wait())  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await background.stop()
        assert background.failed == ""

    asyncio.run(scenario())
