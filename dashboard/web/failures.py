"""Answers for errors: a page for people, JSON for scripts, never a traceback or a query."""

from __future__ import annotations

from typing import Final

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from dashboard.accounts.access import session_of
from dashboard.web.headers import HEADERS
from dashboard.web.pages import page
from runtime.web.root_path import path_within
from schemas.errors import ConfigurationError, FraudError, TemporaryError

log = structlog.get_logger(__name__)
AWAY: Final = (
    "The dashboard cannot answer at the moment. Try again in a minute; the log has the details."
)
"""What people are told who are not logged in: no address of a server, no text of an exception."""


def answer(request: Request, status: int, text: str) -> Response:
    """Return an error as a page if the client accepts HTML, else as JSON."""
    if "text/html" in request.headers.get("accept", ""):
        return page(request, "failure.html", status=status, code=status, text=text)
    return JSONResponse({"detail": text}, status)


def install(app: FastAPI) -> None:
    """Register the error handlers with the application."""

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, AnyHTTPException) else 500
        detail = error.detail if isinstance(error, AnyHTTPException) else ""
        return answer(
            request, status, "This page does not exist." if status == 404 else str(detail)
        )

    async def invalid(request: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        wrong = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in found)
        return answer(request, 422, f"The request is invalid: {wrong}")

    async def ours(request: Request, error: Exception) -> Response:
        status = 400 if isinstance(error, ConfigurationError) else 500
        if isinstance(error, TemporaryError):
            status = 503
        path = path_within(request.scope)
        log.warning("request refused", path=path, status=status, reason=str(error))
        text = AWAY if session_of(request) is None else str(error)
        return answer(request, status, text)

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request failed", path=path_within(request.scope), exc_info=error)
        response = answer(request, 500, "Something went wrong. The log has the details.")
        response.headers.update({**HEADERS, "Cache-Control": "no-store"})
        return response

    app.add_exception_handler(AnyHTTPException, http)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(FraudError, ours)
    app.add_exception_handler(Exception, unexpected)
