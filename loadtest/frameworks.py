"""Measures the cost of a web framework per request: one endpoint, built in four ways, no network.

Each application takes the JSON of one transaction and answers with a small JSON document. The four
take turns, so that a machine that slows down affects all of them, and the medians are compared.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from statistics import median
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

Event = MutableMapping[str, Any]
Application = Callable[
    [Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]
]
PATH: Final = "/score-transaction"
BODY: Final = json.dumps(
    {
        "transaction_id": "t-1", "event_time": "2026-05-01T12:00:00Z", "card_id": "c-1",
        "merchant_id": "m-1", "amount": 1250, "currency": "EUR", "channel": "ECOM", "mcc": 5411,
        "card_country": "DE", "merchant_country": "DE", "ip_country": "DE", "ip": "203.0.113.7",
        "device_id": "d-1", "latitude": 52.5, "longitude": 13.4, "customer_id": "k-1",
    }
).encode()  # fmt: skip
ANSWER: Final = b'{"decision": "APPROVE"}'
BATCH: Final = 500


class TransactionModel(BaseModel):
    """The fields of a transaction as a pydantic model, which FastAPI documents and validates."""

    transaction_id: str
    event_time: str
    card_id: str
    merchant_id: str
    amount: int
    currency: str
    channel: str | None = None
    mcc: int | None = None
    card_country: str | None = None
    merchant_country: str | None = None
    ip_country: str | None = None
    ip: str | None = None
    device_id: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    customer_id: str | None = None


async def plain(scope: Event, receive: Any, send: Any) -> None:
    """Answer a request with nothing but ASGI."""
    json.loads((await receive())["body"])
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


class _Plain:
    """`plain` as an object, because Starlette would take the function for a request handler."""

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        await plain(scope, receive, send)


async def _by_request(request: Request) -> Response:
    json.loads(await request.body())
    return Response(ANSWER, media_type="application/json")


def _fastapi() -> FastAPI:
    app = FastAPI()

    @app.post(PATH)
    async def score(transaction: TransactionModel) -> dict[str, str]:
        return {"decision": "APPROVE"}

    return app


def applications() -> dict[str, Any]:
    """Return the applications by name, with the least framework first."""
    return {
        "ASGI alone": plain,
        "Starlette's router": Router([Route(PATH, _Plain(), methods=["POST"])]),
        "Starlette": Starlette(routes=[Route(PATH, _by_request, methods=["POST"])]),
        "FastAPI with a model": _fastapi(),
    }


async def _batch(app: Any) -> float:
    """Return the processor time per request, in µs."""
    status = 0

    async def receive() -> Event:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(event: Event) -> None:
        nonlocal status
        status = event.get("status", status)

    began = time.process_time()
    for _ in range(BATCH):
        await app(
            {
                "type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(),
                "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
                "headers": [(b"content-type", b"application/json")], "app": app,
                "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 50000),
            },
            receive,
            send,
        )  # fmt: skip
    took = time.process_time() - began
    if status != 200:
        raise RuntimeError(f"the application answered with status {status}")
    return took / BATCH * 1e6


def measure(rounds: int) -> dict[str, float]:
    """Return the median processor time per request (µs) over `rounds`, by application."""
    apps = applications()
    found: dict[str, list[float]] = {name: [] for name in apps}

    async def run() -> None:
        for _ in range(rounds):
            for name, app in apps.items():
                found[name].append(await _batch(app))

    asyncio.run(run())
    return {name: round(median(figures), 1) for name, figures in found.items()}
