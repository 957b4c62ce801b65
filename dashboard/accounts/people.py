"""The page /people, on which admins manage accounts, as with `python -m dashboard people`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from dashboard.accounts.access import Admin
from dashboard.parts import DashboardParts, InjectedParts
from dashboard.web.pages import page
from database.accounts import attempts, people
from database.accounts.roles import ROLES
from schemas.errors import ConfigurationError

router: Final = APIRouter()


@router.get("/people")
def show(request: Request, person: Admin, parts: InjectedParts, changed: str = "") -> Response:
    """Show all people, with the forms that change them."""
    return _page(request, parts, changed=changed)


@router.post("/people")
def add(
    request: Request,
    person: Admin,
    parts: InjectedParts,
    username: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "viewer",
) -> Response:
    """Add a person; the answer shows the one-time password, only once."""
    name = username.strip().lower()
    password, hashed = parts.passwords.one_time()
    return _changed(
        request, parts, name, people.add, name, role, hashed, by=person.username, password=password
    )


@router.post("/people/{username}/role")
def set_role(
    request: Request,
    username: str,
    person: Admin,
    parts: InjectedParts,
    role: Annotated[str, Form()] = "",
) -> Response:
    """Give a person another role."""
    return _changed(request, parts, username, people.set_role, username, role, by=person.username)


@router.post("/people/{username}/password")
def reset_password(
    request: Request, username: str, person: Admin, parts: InjectedParts
) -> Response:
    """Give a person a new one-time password; the answer shows it, only once."""
    password, hashed = parts.passwords.one_time()
    return _changed(
        request, parts, username, people.reset_password, username, hashed,
        by=person.username, password=password,
    )  # fmt: skip


@router.post("/people/{username}/disable")
def disable(request: Request, username: str, person: Admin, parts: InjectedParts) -> Response:
    """Lock a person out for good."""
    return _changed(
        request, parts, username, people.set_disabled, username, True, by=person.username
    )


@router.post("/people/{username}/enable")
def enable(request: Request, username: str, person: Admin, parts: InjectedParts) -> Response:
    """Let a disabled person log in again."""
    return _changed(
        request, parts, username, people.set_disabled, username, False, by=person.username
    )


@router.post("/people/{username}/unlock")
def unlock(request: Request, username: str, person: Admin, parts: InjectedParts) -> Response:
    """Let a locked-out person try again at once."""
    return _changed(request, parts, username, people.unlock, username, by=person.username)


def _changed(
    request: Request,
    parts: DashboardParts,
    username: str,
    change: Callable[..., None],
    *values: object,
    by: str,
    password: str = "",
) -> Response:
    """Make a change in one transaction; show the page, or the reason of a refusal."""
    try:
        with parts.database.begin() as connection:
            change(connection, *values, by=by, now_ms=parts.clock.now_ms())
    except ConfigurationError as error:
        return _page(request, parts, status=409, problem=str(error))
    if password:
        return _page(request, parts, changed=username, password=password)
    return RedirectResponse(f"/people?{urlencode({'changed': username})}", 303)


def _page(
    request: Request,
    parts: DashboardParts,
    *,
    status: int = 200,
    changed: str = "",
    problem: str = "",
    password: str = "",
) -> Response:
    now_ms = parts.clock.now_ms()
    with parts.database.read() as connection:
        found = people.accounts(connection)
        locked = attempts.locked(connection, now_ms=now_ms)
    rows: list[dict[str, Any]] = [
        {"account": each, "state": people.state(each, locked, now_ms)} for each in found
    ]
    known = changed in {each.username for each in found}
    return page(
        request,
        "people.html",
        status=status,
        rows=rows,
        roles=ROLES,
        changed=changed if known else "",
        problem=problem,
        password=password,
        days=people.ONE_TIME_MS // 86_400_000,
    )
