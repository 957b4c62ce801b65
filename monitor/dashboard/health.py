"""/healthz (alive) and /readyz (serving), without a log-in. Metrics are on FRAUD_HEALTH_PORT."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from monitor.dashboard.parts import Parts, TheParts
from schemas.errors import FraudError

router: Final = APIRouter()


@router.get("/healthz")
async def healthz() -> PlainTextResponse:
    """Answer as long as the process does."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def readyz(parts: TheParts) -> PlainTextResponse:
    """Answer 200 when people can log in, else 503; the reason is logged, not told to strangers."""
    return PlainTextResponse("not ready\n", 503) if unready(parts) else PlainTextResponse("ok\n")


def unready(parts: Parts) -> str:
    """Return why nobody can log in, "" if people can."""
    try:
        with parts.database.read():
            return ""
    except FraudError as error:
        return str(error)
