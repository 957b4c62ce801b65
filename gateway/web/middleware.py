"""The middleware of every request: key, scope, rate limit, metrics and problem documents.

Plain ASGI around the framework, because every transaction pays for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.exceptions import HTTPException

from database.accounts.api_keys import DEFAULT_TENANT
from gateway.web.access import Keyring
from gateway.web.problems import Problem, of_body, of_status
from gateway.web.reply import reply_problem
from runtime.metrics import Metrics
from runtime.web.asgi import Application, Event, Receive, Scope, Send, header
from runtime.web.bodies import Disconnected, RefusedBody
from runtime.web.root_path import path_within

log = structlog.get_logger(__name__)
GONE: Final = 499
"""Status of a request whose client disconnected; it appears in metrics only."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route and its access rules.

    `scope` is the scope that a key needs: "" means any valid key, None means no key. If `counted`,
    requests count against the key's rate. If `of_all`, the answer is about all tenants, so the key
    must be of the operator's.
    """

    path: str
    scope: str | None
    counted: bool = True
    of_all: bool = False


SCORE_ONE: Final = Route("/score-transaction", "score")
SCORE_MANY: Final = Route("/score-transactions", "score", counted=False)
DECISION: Final = Route("/decisions/{transaction_id}", "read")
CARD: Final = Route("/cards/{card_id}/features", "read", of_all=True)
HEALTHY: Final = Route("/healthz", None, counted=False)
READY: Final = Route("/readyz", None, counted=False)
METRICS: Final = Route("/metrics", "read", counted=False, of_all=True)
OPENAPI: Final = Route("/openapi.json", "", counted=False)
OTHER: Final = Route("other", "", counted=False)
ROUTES: Final = (SCORE_ONE, SCORE_MANY, DECISION, CARD, HEALTHY, READY, METRICS, OPENAPI)
_EXACT: Final = {route.path: route for route in ROUTES if "{" not in route.path}
_BEGINNING: Final = {route.path.split("/", 2)[1]: route for route in (DECISION, CARD)}


def route_of(path: str) -> Route:
    """Return the route of a path; unknown paths are OTHER, which needs a key, too.

    >>> route_of("/decisions/t-1").path
    '/decisions/{transaction_id}'
    """
    found = _EXACT.get(path)
    if found is None:
        found = _BEGINNING.get(path.split("/", 2)[1] if path.count("/") > 1 else "", OTHER)
    return found


class Middleware:
    """The whole application: `app` behind key, scope, rate limit and metrics.

    This is the only place where errors become problem documents.
    """

    def __init__(self, app: Application, keys: Keyring, metrics: Metrics) -> None:
        self._app, self._keys, self._metrics = app, keys, metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        route = route_of(path_within(scope))
        began = asyncio.get_running_loop().time()
        status = 0

        async def watched(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        self._in_flight += 1
        self._metrics.set("api_in_flight", self._in_flight)
        try:
            await self._admit_and_route(route, scope, receive, watched)
        except Problem as problem:
            if status == 0:
                await reply_problem(watched, problem)
        except RefusedBody as refused:
            if status == 0:
                await reply_problem(watched, of_body(refused))
        except HTTPException as refused:
            answer = of_status(refused.status_code, refused.detail, refused.headers)
            await reply_problem(watched, answer)
        except Disconnected:
            status = status or GONE
        except Exception:
            log.exception("request failed", route=route.path)
            if status == 0:
                await reply_problem(watched, Problem("internal", "see the gateway's log"))
        finally:
            self._in_flight -= 1
            self._metrics.set("api_in_flight", self._in_flight)
            self._metrics.count("api_requests", route=route.path, status=str(status))
            took = asyncio.get_running_loop().time() - began
            self._metrics.observe("api_seconds", took, route=route.path)

    async def _admit_and_route(
        self, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if route.scope is not None:
            caller = await self._keys.caller(header(scope, b"authorization"))
            if route.scope and route.scope not in caller.scopes:
                raise Problem("forbidden", f"this key lacks the scope {route.scope!r}")
            if route.of_all and caller.tenant != DEFAULT_TENANT:
                raise Problem(
                    "forbidden",
                    f"this is about all tenants: it needs a key of the tenant {DEFAULT_TENANT!r}",
                )
            if route.counted:
                caller.admit(asyncio.get_running_loop().time())
            scope["caller"] = caller
        scope["app"] = self._app  # makes routes raise HTTPException instead of answering
        await self._app(scope, receive, send)
