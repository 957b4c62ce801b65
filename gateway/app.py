"""The web application: its routes behind the middleware."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from gateway.scoring.lookups import LookupSources, lookups
from gateway.scoring.score_many import ScoreMany
from gateway.scoring.score_one import ScoreOne
from gateway.web.access import Keyring
from gateway.web.middleware import (
    HEALTHY,
    METRICS,
    OPENAPI,
    READY,
    SCORE_MANY,
    SCORE_ONE,
    Middleware,
)
from gateway.web.openapi import document
from gateway.web.reply import SAFE
from runtime.metrics import Metrics

_SAFE = {name.decode(): value.decode() for name, value in SAFE}


def application(
    *,
    one: ScoreOne,
    many: ScoreMany,
    sources: LookupSources,
    keys: Keyring,
    metrics: Metrics,
    ready: Callable[[], str],
    alive: Callable[[], str],
) -> Middleware:
    """Return the whole application. `ready` and `alive` return "", or the reason why not."""

    async def healthy(_: Request) -> Response:
        return _check(alive())

    async def is_ready(_: Request) -> Response:
        return _check(ready())

    def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    description = JSONResponse(document())

    async def described(_: Request) -> Response:
        return description

    routes = [
        Route(SCORE_ONE.path, one, methods=["POST"]),
        Route(SCORE_MANY.path, many, methods=["POST"]),
        *lookups(sources),
        Route(HEALTHY.path, healthy),
        Route(READY.path, is_ready),
        Route(METRICS.path, exposition),
        Route(OPENAPI.path, described),
    ]
    return Middleware(Router(routes, redirect_slashes=False), keys, metrics)


def _check(reason: str) -> Response:
    return PlainTextResponse((reason or "ok") + "\n", 503 if reason else 200, _SAFE)
