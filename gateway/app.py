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
from runtime.web.root_path import RootPath

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
    root_path: str = "",
) -> RootPath:
    """Return the whole application under `root_path`.

    `ready` and `alive` return "", or the reason why not. Strangers do not get the reason: it is in
    the log, and in the answers of FRAUD_HEALTH_PORT.
    """

    async def healthy(_: Request) -> Response:
        return _check("not alive" if alive() else "")

    async def is_ready(_: Request) -> Response:
        return _check("not ready" if ready() else "")

    def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    description = JSONResponse(document(root_path))

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
    app = Middleware(Router(routes, redirect_slashes=False), keys, metrics)
    return RootPath(app, root_path)


def _check(reason: str) -> Response:
    return PlainTextResponse((reason or "ok") + "\n", 503 if reason else 200, _SAFE)
