"""/healthz (alive) and /readyz (serving), without a log-in. Metrics are on FRAUD_HEALTH_PORT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from dashboard.parts import DashboardParts, InjectedParts
from schemas.errors import FraudError

router: Final = APIRouter()
CHECK_EVERY_S: Final = 5.0
"""Interval between updates of the metric `ready`."""


@router.get("/healthz")
async def healthz() -> PlainTextResponse:
    """Answer 200 as long as the process is alive."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def readyz(parts: InjectedParts) -> PlainTextResponse:
    """Answer 200 when people can log in, else 503; the reason is kept from strangers."""
    return PlainTextResponse("not ready\n", 503) if unready(parts) else PlainTextResponse("ok\n")


def unready(parts: DashboardParts) -> str:
    """Return why nobody can log in, "" if people can; also set the metric `ready`."""
    reason = ""
    try:
        with parts.database.read():
            pass
    except FraudError as error:
        reason = str(error)
    parts.metrics.set("ready", 0 if reason else 1)
    return reason


@asynccontextmanager
async def watch(parts: DashboardParts) -> AsyncIterator[None]:
    """Update the metric `ready` every CHECK_EVERY_S; a service for `create_app`."""

    async def look() -> None:
        while True:
            await run_in_threadpool(unready, parts)
            await asyncio.sleep(CHECK_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
