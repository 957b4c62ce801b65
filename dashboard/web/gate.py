"""The gate in front of every page, closed by default.

A request needs, in this order: an open path or a session; a password that the person chose; for a
change, an Origin of this site and the session's CSRF token. An event stream ends with its session.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.web.failures import AWAY, answer
from database.accounts.sessions import Session
from runtime.repeated_lines import RepeatedLines
from runtime.web.bodies import SLOW_S, Disconnected, RefusedBody, open_body, read_body, replay
from runtime.web.root_path import path_within
from schemas.errors import TemporaryError

log = structlog.get_logger(__name__)
OPEN: Final = frozenset(
    {"/healthz", "/readyz", "/login", "/static/style.css", "/static/theme.js", "/static/icon.svg"}
)
"""Exact paths that are served without a log-in."""
FIRST_PASSWORD: Final = frozenset({"/password", "/logout"})
"""Paths that are also served while the password is a one-time password."""
SAFE: Final = frozenset({"GET", "HEAD"})
FORM: Final = "application/x-www-form-urlencoded"
MAX_BYTES: Final = 64 * 1024
"""Limit of a request's body; pages send only forms."""
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf"
SESSION_CHECK_S: Final = 2.0
"""Interval between checks of an open event stream's session."""
_SHOWN: Final = 100
"""Characters of a foreign header that a refusal repeats."""
_PORTS: Final = {"http": 80, "https": 443}

FindSession = Callable[[str], Session | None]


def cookie_name(request: Request) -> str:
    """Return the name of the session cookie."""
    return _guarded(request, "session")


def device_cookie_name(request: Request) -> str:
    """Return the name of the cookie by which a browser is known after a log-in."""
    return _guarded(request, "device")


def cookie_path(request: Request) -> str:
    """Return the path of the cookies: other applications of this host do not get them."""
    return request.scope.get("root_path") or "/"


def _guarded(request: Request, name: str) -> str:
    """Return a cookie's name with the prefix by which browsers guard it under TLS.

    A cookie named `__Host-…` belongs to the whole host, so under a sub-path it is `__Secure-…`.
    """
    if request.scope["scheme"] != "https":
        return name
    return f"__Secure-{name}" if request.scope.get("root_path") else f"__Host-{name}"


class Gate:
    """ASGI middleware that puts the Session into the scope as `session`.

    Args:
        find: returns the session of a token, None without one; may block.
    """

    def __init__(self, app: ASGIApp, *, find: FindSession) -> None:
        self._app, self._find = app, find
        self._lines = RepeatedLines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        token = request.cookies.get(cookie_name(request), "")
        try:
            session = await run_in_threadpool(self._find, token) if token else None
        except TemporaryError as error:
            path = path_within(scope)
            if (more := self._lines.due("session")) is not None:
                log.warning("session not looked up", path=path, reason=str(error), more=more)
            if path not in OPEN:
                await answer(request, 503, AWAY)(scope, receive, send)
                return
            session = None
        scope["session"] = session
        refusal = (
            _without_session(request) if session is None else _first_password(request, session)
        )
        if refusal is None and request.method not in SAFE:
            try:
                body = await read_body(
                    open_body(scope, receive, MAX_BYTES), max_bytes=MAX_BYTES, within_s=SLOW_S
                )
            except Disconnected:
                return
            except RefusedBody as error:
                refusal = answer(request, error.status, str(error))
                refusal.headers["Connection"] = "close"
            else:
                receive = replay(body, receive)
                refusal = _foreign(request, session, body)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        stream = _Watched(send, lambda: self._find(token)) if session is not None else None
        await self._app(scope, receive, stream or send)


class _Watched:
    """A `send` that ends an event stream when its session has ended.

    The server then reports a disconnected client to the handler. A handler that goes on sending
    gets the same error as from a broken connection.
    """

    def __init__(self, send: Send, find: Callable[[], Session | None]) -> None:
        self._send, self._find = send, find
        self._events = self._over = False
        self._looked = time.monotonic()

    async def __call__(self, message: Message) -> None:
        if self._over:
            raise OSError("the session has ended")
        if message["type"] == "http.response.start":
            self._events = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message.get("headers", ())
            )
        elif self._events and time.monotonic() - self._looked >= SESSION_CHECK_S:
            self._over = await run_in_threadpool(self._find) is None
            self._looked = time.monotonic()
            if self._over:
                message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)


def _without_session(request: Request) -> Response | None:
    path = path_within(request.scope)
    if path in OPEN:
        return None
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        query = request.scope["query_string"].decode("latin-1")
        path = quote(path) + (f"?{query}" if query else "")
        return RedirectResponse(f"/login?next={quote(path, safe='')}", 303)
    return answer(request, 401, "log in first")


def _first_password(request: Request, session: Session) -> Response | None:
    path = path_within(request.scope)
    if not session.must_change or path in OPEN or path in FIRST_PASSWORD:
        return None
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/password", 303)
    return answer(request, 403, "choose your own password first")


def _foreign(request: Request, session: Session | None, body: bytes) -> Response | None:
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    here = f"{request.scope['scheme']}://{host}"
    if _site(origin) is None or _site(origin) != _site(here):
        return answer(
            request,
            403,
            f"the request comes from Origin {origin[:_SHOWN] or '(none)'}, but this site is "
            f"{here[:_SHOWN]} by its Host header: open the dashboard by its own address, and let a "
            "proxy pass on Host and X-Forwarded-Proto and be one of FRAUD_TRUSTED_PROXIES",
        )
    if session is None or path_within(request.scope) in OPEN:
        return None  # a log-in, perhaps from a tab opened earlier
    given = request.headers.get(CSRF_HEADER)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given is None and kind == FORM:
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=100)
        except ValueError:
            return answer(request, 400, "the form has more than 100 fields")
        given = fields.get(CSRF_FIELD, [""])[0]
    if not hmac.compare_digest((given or "").encode(), session.csrf.encode()):
        return answer(request, 403, "wrong or missing CSRF token: load the page again")
    return None


def _site(origin: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin, or None; a default port may be left out.

    >>> _site("https://Fraud.example") == _site("https://fraud.example:443")
    True
    """
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    bare = f"{parts.scheme}://{parts.netloc}" == origin and "@" not in parts.netloc
    return (parts.scheme, parts.hostname, port) if bare and parts.hostname and port else None
