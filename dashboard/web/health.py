"""/healthz (alive) and /readyz (serving), without a log-in. Metrics are on FRAUD_HEALTH_PORT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from dashboard.parts import Parts, TheParts
from schemas.errors import FraudError

router: Final = APIRouter()
LOOK_S: Final = 5.0
"""How often the metric `ready` is set."""


@router.get("/healthz")
async def healthz() -> PlainTextResponse:
    """Answer as long as the process does."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def readyz(parts: TheParts) -> PlainTextResponse:
    """Answer 200 when people can log in, else 503; the reason is logged, not told to strangers."""
    return PlainTextResponse("not ready\n", 503) if unready(parts) else PlainTextResponse("ok\n")


def unready(parts: Parts) -> str:
    """Return why nobody can log in, "" if people can; the metric `ready` says the same."""
    reason = ""
    try:
        with parts.database.read():
            pass
    except FraudError as error:
        reason = str(error)
    parts.metrics.set("ready", 0 if reason else 1)
    return reason


@asynccontextmanager
async def watch(parts: Parts) -> AsyncIterator[None]:
    """Look every LOOK_S whether people can log in, from now until left; a service of the app."""

    async def look() -> None:
        while True:
            await run_in_threadpool(unready, parts)
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
