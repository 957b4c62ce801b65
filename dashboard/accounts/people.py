"""The page /people: who may do what; for admins. The same as `python -m dashboard people`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from dashboard.accounts.access import Admin
from dashboard.parts import Parts, TheParts
from dashboard.web.pages import page
from database.accounts import attempts, people
from database.accounts.roles import ROLES
from schemas.errors import ConfigurationError

router: Final = APIRouter()


@router.get("/people")
def show(request: Request, person: Admin, parts: TheParts, changed: str = "") -> Response:
    """Show everybody, and the forms that change them."""
    return _page(request, parts, changed=changed)


@router.post("/people")
def add(
    request: Request,
    person: Admin,
    parts: TheParts,
    username: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "viewer",
) -> Response:
    """Add a person; the answer shows the one-time password, once."""
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
    parts: TheParts,
    role: Annotated[str, Form()] = "",
) -> Response:
    """Give a person another role."""
    return _changed(request, parts, username, people.set_role, username, role, by=person.username)


@router.post("/people/{username}/password")
def reset_password(request: Request, username: str, person: Admin, parts: TheParts) -> Response:
    """Give a person a new one-time password; the answer shows it, once."""
    password, hashed = parts.passwords.one_time()
    return _changed(
        request, parts, username, people.reset_password, username, hashed,
        by=person.username, password=password,
    )  # fmt: skip


@router.post("/people/{username}/disable")
def disable(request: Request, username: str, person: Admin, parts: TheParts) -> Response:
    """Keep a person out."""
    return _changed(
        request, parts, username, people.set_disabled, username, True, by=person.username
    )


@router.post("/people/{username}/enable")
def enable(request: Request, username: str, person: Admin, parts: TheParts) -> Response:
    """Let a disabled person in again."""
    return _changed(
        request, parts, username, people.set_disabled, username, False, by=person.username
    )


@router.post("/people/{username}/unlock")
def unlock(request: Request, username: str, person: Admin, parts: TheParts) -> Response:
    """Let a locked person try again."""
    return _changed(request, parts, username, people.unlock, username, by=person.username)


def _changed(
    request: Request,
    parts: Parts,
    username: str,
    change: Callable[..., None],
    *values: object,
    by: str,
    password: str = "",
) -> Response:
    """Make a change in one transaction; show the page, or why it was refused."""
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
    parts: Parts,
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
