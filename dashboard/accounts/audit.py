"""The page /audit: actions of people with the values before and after, newest first."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from dashboard.accounts.access import Admin
from dashboard.parts import InjectedParts
from dashboard.web.pages import page
from database.accounts import audit

router: Final = APIRouter()
FilterText = Annotated[str, Query(max_length=audit.MAX_NAME_LENGTH)]


@router.get("/audit")
def show(
    request: Request,
    _person: Admin,
    parts: InjectedParts,
    who: FilterText = "",
    action: FilterText = "",
    subject: FilterText = "",
    older_than: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
) -> HTMLResponse:
    """Show the entries that match the filter, PAGE at a time."""
    wanted = {"who": who.strip(), "action": action, "subject": subject.strip()}
    with parts.database.read() as connection:
        found = audit.entries(
            connection,
            who=wanted["who"] or None,
            action=wanted["action"] or None,
            subject=wanted["subject"] or None,
            older_than=older_than,
            limit=audit.PAGE + 1,
        )
    shown = found[: audit.PAGE]
    given = {name: value for name, value in wanted.items() if value}
    older = {**given, "older_than": str(shown[-1].entry_id)} if len(found) > audit.PAGE else None
    return page(
        request,
        "audit.html",
        entries=[
            (entry, changes(entry.before, entry.after), TONES.get(entry.action, ""))
            for entry in shown
        ],
        actions=audit.ACTIONS,
        wanted=wanted,
        older=None if older is None else f"/audit?{urlencode(older)}",
        newest=f"/audit?{urlencode(given)}" if older_than is not None else None,
    )


TONES: Final = {
    "log-in failed": "warn",
    "log-in locked": "bad",
    "password change failed": "warn",
    "person disabled": "bad",
    "model rolled back": "bad",
    "model promoted": "good",
}
"""Colours of the actions that stand out."""


def changes(before: str | None, after: str | None) -> list[tuple[str, str | None, str | None]]:
    """Return each value of an entry as name, before and after."""
    old, new = _values(before), _values(after)
    return [
        (name, _text(old.get(name)), _text(new.get(name)))
        for name in sorted(old.keys() | new.keys())
    ]


def _values(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text is not None else {}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
