"""The pages /login, /logout and /password."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from dashboard.accounts import authentication
from dashboard.accounts.access import Viewer, person_of
from dashboard.accounts.authentication import Client, LogInRefusal
from dashboard.parts import DashboardParts, InjectedParts
from dashboard.web.gate import cookie_name, cookie_path, device_cookie_name
from dashboard.web.pages import page
from database.accounts import audit, devices, passwords, sessions
from schemas.errors import ConfigurationError

router: Final = APIRouter()
_OURS: Final = re.compile(r"/(?:[A-Za-z0-9._~=?&%:+-][A-Za-z0-9._~=?&%:+/-]*)?")
"""A path on this site; `//host` would lead to another site."""
_WRONG: Final = "Username or password is wrong."
_EXPIRED: Final = (
    "This one-time password has expired. Ask an admin for a new one (People, New password), "
    "or run on the server: python -m dashboard people password NAME"
)


@router.get("/login")
def show_login(request: Request, next: str = "/") -> Response:
    """Ask for name and password; redirect people who are logged in already."""
    if person_of(request) is not None:
        return RedirectResponse(_local(next), 303)
    return page(request, "login.html", next=_local(next), username="", problem="")


@router.post("/login")
def log_in(
    request: Request,
    parts: InjectedParts,
    username: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Log in; the cookie always gets a new token, against session fixation."""
    client = Client(
        address=_address(request),
        session=request.cookies.get(cookie_name(request)),
        device=request.cookies.get(device_cookie_name(request)),
    )
    made = authentication.log_in(parts, username, password, client)
    if isinstance(made, LogInRefusal):
        answer = page(
            request,
            "login.html",
            status=429 if made.reason == "locked" else 401,
            next=_local(next),
            username=username[:64],
            problem=_problem(made, _WRONG),
        )
        if made.wait_s:
            answer.headers["Retry-After"] = str(made.wait_s)
        return answer
    opened = _with_session(request, parts, RedirectResponse(_local(next), 303), made.session)
    return _with_cookie(request, opened, device_cookie_name(request), made.device, devices.LASTS_MS)


@router.post("/logout")
def log_out(request: Request, person: Viewer, parts: InjectedParts) -> Response:
    """End the session."""
    with parts.database.begin() as connection:
        sessions.end(connection, request.cookies[cookie_name(request)])
        audit.record(
            connection,
            who=person.username,
            action="log-out",
            subject=person.username,
            now_ms=parts.clock.now_ms(),
        )
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(
        cookie_name(request),
        path=cookie_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get("/password")
def show_password(request: Request, _person: Viewer) -> Response:
    """Ask for a new password."""
    return page(request, "password.html", problem="", shortest=passwords.MIN_LENGTH)


@router.post("/password")
def change_password(
    request: Request,
    person: Viewer,
    parts: InjectedParts,
    old: Annotated[str, Form()] = "",
    new: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Change the person's own password; all their other sessions end."""
    problem, status = "", 400
    if new != again:
        problem = "The two new passwords differ."
    else:
        try:
            made = authentication.change_password(
                parts, person.username, old, new, address=_address(request)
            )
        except ConfigurationError as error:
            problem = f"{error}."
        else:
            if not isinstance(made, LogInRefusal):
                return _with_session(request, parts, RedirectResponse("/", 303), made)
            status = 429 if made.reason == "locked" else 401
            problem = _problem(made, "The current password is wrong.")
    return page(
        request, "password.html", status=status, problem=problem, shortest=passwords.MIN_LENGTH
    )


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


def _with_session(
    request: Request, parts: DashboardParts, answer: Response, token: str
) -> Response:
    return _with_cookie(request, answer, cookie_name(request), token, parts.settings.session_for.ms)


def _with_cookie(
    request: Request, answer: Response, name: str, token: str, lasts_ms: int
) -> Response:
    """Set a cookie. It is lax, not strict, so that links in alerts open without a new log-in."""
    answer.set_cookie(
        name,
        token,
        max_age=lasts_ms // 1000,
        path=cookie_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


def _problem(refused: LogInRefusal, wrong: str) -> str:
    """Return the refusal in words; `wrong` is the text for a wrong password."""
    if refused.reason == "wrong":
        return wrong
    if refused.reason == "expired":
        return _EXPIRED
    minutes = -(-refused.wait_s // 60)
    return f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}."


def _local(path: str) -> str:
    return path if _OURS.fullmatch(path) else "/"
