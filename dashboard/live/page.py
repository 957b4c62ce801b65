"""The live page and its event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from dashboard.accounts.access import Viewer
from dashboard.live.collector import Collector
from dashboard.parts import TheParts
from dashboard.web.pages import page

router = APIRouter()
SLOWEST_S = 10.0
"""A browser that takes longer for one message is let go."""


@router.get("/")
def live(request: Request, person: Viewer) -> HTMLResponse:
    """Return the page; what it shows comes by the event stream."""
    return page(request, "live.html")


@router.get("/live/events")
async def events(request: Request, person: Viewer, parts: TheParts) -> EventSourceResponse:
    """Stream everything at first, then each second what changed.

    A browser that comes back with the id of its last event gets only the points that it missed.
    """
    seen = request.headers.get("last-event-id", "")
    return EventSourceResponse(_messages(parts.collector, seen), ping=15, send_timeout=SLOWEST_S)


async def _messages(collector: Collector, seen: str) -> AsyncIterator[dict[str, str]]:
    queue = collector.hub.join()  # before the snapshot: nothing may fall between the two
    whole = await run_in_threadpool(collector.snapshot, seen)
    yield {"id": whole.identity, "event": whole.kind, "data": whole.data}
    async for event in collector.hub.listen(queue):
        yield {"id": event.identity, "event": event.kind, "data": event.data}
