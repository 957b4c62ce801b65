"""The live page and its event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from dashboard.accounts.access import Viewer
from dashboard.live.collector import Collector
from dashboard.parts import InjectedParts
from dashboard.web.pages import page

router = APIRouter()
SEND_TIMEOUT_S = 10.0
"""A browser that takes longer to receive one message is disconnected."""


@router.get("/")
def live(request: Request, person: Viewer) -> HTMLResponse:
    """Return the page; its content comes through the event stream."""
    return page(request, "live.html")


@router.get("/live/events")
async def events(request: Request, person: Viewer, parts: InjectedParts) -> EventSourceResponse:
    """Stream the whole state first, then the changes every second.

    A browser that reconnects with the id of its last event gets only the points that it missed.
    """
    seen = request.headers.get("last-event-id", "")
    return EventSourceResponse(
        _messages(parts.collector, seen), ping=15, send_timeout=SEND_TIMEOUT_S
    )


async def _messages(collector: Collector, seen: str) -> AsyncIterator[dict[str, str]]:
    queue = collector.hub.join()  # before the snapshot, so that no event is missed
    whole = await run_in_threadpool(collector.snapshot, seen)
    yield {"id": whole.identity, "event": whole.kind, "data": whole.data}
    async for event in collector.hub.listen(queue):
        yield {"id": event.identity, "event": event.kind, "data": event.data}
