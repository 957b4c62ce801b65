"""The web application of the dashboard, assembled from its pages.

How to add a page:

1. Write a module with `router = APIRouter()`, say `queue.py`, and add its router to ROUTERS below.
2. Each handler names the lowest role that may use it, by an argument with a type of access.py:
   `def queue(request: Request, person: Analyst, parts: InjectedParts) -> HTMLResponse`. A test
   fails for any route without one. Handlers that use the database are plain `def`, which FastAPI
   runs on a thread: `with parts.database.read() as connection: ...`.
3. The handler returns `page(request, "queue.html", cases=...)`. The template starts with
   `{% extends "base.html" %}` and fills the blocks `title`, `main`, `styles` and `scripts`
   (`<script type="module" src="{{ root }}/static/queue.js"></script>`): every address in a template
   begins with `{{ root }}`, and in a script with `onSite` of static/paths.js, because a proxy may
   serve the dashboard under a sub-path; redirects do not (see runtime/web/root_path.py). Inline
   scripts, `on…` attributes and `style="…"` have no effect: the Content-Security-Policy forbids
   them. Pass values to scripts in `data-…` attributes or
   `<script type="application/json">{{ values | tojson }}</script>`.
   The top of static/style.css lists colours and classes. Charts are redrawn on the document's
   event `themechange`.
4. An entry in `pages.NAVIGATION` puts the page into the header.
5. Every change is a POST. A form carries `<input type="hidden" name="csrf" value="{{ csrf }}">`;
   scripts use `send` of static/send.js, and may send JSON with the header. The gate checks the
   token and the Origin. Record each change in the audit, in the same transaction:
   `audit.record(connection, who=person.username, ...)`.
6. Anything else that a page needs becomes a field of `DashboardParts`. A background task, such as
   a poller, is an async context manager given to `create_app` as a service.

An event stream is an ordinary GET handler; the gate ends it together with the person's session. The
errors of schemas/errors.py become a page or, for scripts, JSON with `detail`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from dashboard.accounts import audit, login, people
from dashboard.dead_letters import page as dead_letters
from dashboard.live import page as live
from dashboard.models import page as models
from dashboard.parts import DashboardParts
from dashboard.policies import page as policies
from dashboard.review import actions, queue
from dashboard.transactions import page as transactions
from dashboard.web import failures, health, runbook
from dashboard.web.gate import Gate
from dashboard.web.head import HeadAsGet
from dashboard.web.headers import SecurityHeaders
from dashboard.web.pages import STATIC
from database.accounts import sessions
from database.accounts.sessions import Session
from runtime.web.root_path import RootPath

ROUTERS: Final[tuple[APIRouter, ...]] = (
    health.router,
    login.router,
    models.router,
    audit.router,
    people.router,
    dead_letters.router,
    queue.router,
    actions.router,
    live.router,
    transactions.router,
    policies.router,
    runbook.router,
)
Service = Callable[[], AbstractAsyncContextManager[object]]


def create_app(parts: DashboardParts, *, services: Sequence[Service] = ()) -> FastAPI:
    """Return the application; `services` run from its start-up to its shutdown."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            for service in services:
                await running.enter_async_context(service())
            yield

    def find(token: str) -> Session | None:
        with parts.database.read() as connection:
            return sessions.find(connection, token, now_ms=parts.clock.now_ms())

    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.parts = parts
    app.state.paths = frozenset(
        route.path for router in ROUTERS for route in router.routes if isinstance(route, Route)
    )
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    failures.install(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Gate, find=find)
    app.add_middleware(SecurityHeaders)  # around the gate, so that its refusals carry them too
    app.add_middleware(RootPath, root=parts.settings.dashboard_root_path)
    return app
