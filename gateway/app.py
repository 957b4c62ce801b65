"""The web application: routes, and problems for what the framework itself refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from gateway.scoring.lookups import Sources, lookups
from gateway.scoring.score_many import ScoreMany
from gateway.scoring.score_one import ScoreOne
from gateway.web.access import Keyring
from gateway.web.middleware import SCORE_MANY, SCORE_ONE, Door
from gateway.web.openapi import document
from gateway.web.problems import MEDIA_TYPE, Problem, invalid, of_status
from gateway.web.reply import SAFE, Application
from runtime.metrics import Metrics
from schemas.errors import InvalidField


def application(
    *,
    one: ScoreOne,
    many: ScoreMany,
    sources: Sources,
    keys: Keyring,
    metrics: Metrics,
    ready: Callable[[], str],
    alive: Callable[[], str],
) -> Door:
    """Return the whole application. `ready` and `alive` return "" or why not."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    direct: dict[str, Application] = {SCORE_ONE.path: one, SCORE_MANY.path: many}
    for path, endpoint in direct.items():  # other methods are refused by the framework
        app.add_route(path, endpoint, methods=["POST"])  # type: ignore[arg-type]
    app.include_router(lookups(sources))

    @app.get("/healthz")
    async def healthy() -> Response:
        return _check(alive())

    @app.get("/readyz")
    async def is_ready() -> Response:
        return _check(ready())

    @app.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    @app.get("/openapi.json")
    async def described() -> dict[str, Any]:
        return document()

    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    return Door(app, keys, metrics, direct)


def _check(reason: str) -> Response:
    return PlainTextResponse((reason or "ok") + "\n", 503 if reason else 200, _SAFE)


_SAFE = {name.decode(): value.decode() for name, value in SAFE}


def _answer(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, _SAFE | problem.headers, MEDIA_TYPE)


async def _problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return _answer(error)


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _answer(of_status(error.status_code, str(error.detail), error.headers))


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [InvalidField(each["msg"], field=str(each["loc"][-1])) for each in error.errors()]
    return _answer(invalid(found))
