"""The page /dead-letters, on which admins look at dead letters and send their messages again.

It does what `python -m dashboard dead-letters` does.
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Form, HTTPException, Path, Query, Request
from fastapi.responses import Response

from dashboard.accounts.access import Admin
from dashboard.dead_letters.letters import Letter, LetterFilter
from dashboard.dead_letters.redrive import MAX_LETTERS, Redriven
from dashboard.dead_letters.words import readable
from dashboard.parts import DashboardParts, InjectedParts
from dashboard.web.pages import page
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.topics import FEATURES, LABELS, TRANSACTIONS

log = structlog.get_logger(__name__)
router: Final = APIRouter()
PAGE: Final = 50
"""Letters per page."""
SHOWN_REFUSALS: Final = 20
SERVICES: Final = ("stream_features", "scorer")
FilterText = Annotated[str, Query(max_length=300)]
FormText = Annotated[str, Form(max_length=300)]
Offset = Annotated[int, Path(ge=0, lt=1 << 62)]


@router.get("/dead-letters")
def show(
    request: Request,
    _person: Admin,
    parts: InjectedParts,
    service: FilterText = "",
    topic: FilterText = "",
    error_class: FilterText = "",
    field: FilterText = "",
    before: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
) -> Response:
    """Show the letters that match the filter, newest first, PAGE at a time."""
    wanted = _filter(service, topic, error_class, field)
    return _list(request, parts, wanted, before=before)


@router.post("/dead-letters/redrive")
def send_all(
    request: Request,
    person: Admin,
    parts: InjectedParts,
    below: Annotated[int, Form(ge=0, lt=1 << 62)],
    service: FormText = "",
    topic: FormText = "",
    error_class: FormText = "",
    field: FormText = "",
) -> Response:
    """Send again what matches the filter, at most MAX_LETTERS, but not what was sent before.

    `below` is the offset behind the newest letter that the person saw.
    """
    wanted = _filter(service, topic, error_class, field)
    found = parts.redrive.matching(wanted, before=below)
    done = parts.redrive.send([letter.offset for letter in found], by=person.username)
    log.info("dead letters sent again", who=person.username, sent=done.sent)
    return _list(request, parts, wanted, done=done)


@router.get("/dead-letters/{offset}")
def show_one(request: Request, _person: Admin, parts: InjectedParts, offset: Offset) -> Response:
    """Show one letter with its message, in which card numbers are masked."""
    return _one(request, parts, _letter(parts, offset))


@router.post("/dead-letters/{offset}/redrive")
def send_one(request: Request, person: Admin, parts: InjectedParts, offset: Offset) -> Response:
    """Send the message of one letter again, even if that was done before."""
    letter = _letter(parts, offset)
    done = parts.redrive.send([offset], by=person.username, again=True)
    log.info("dead letters sent again", who=person.username, sent=done.sent)
    return _one(request, parts, letter, done=done)


def _filter(service: str, topic: str, error_class: str, field: str) -> LetterFilter:
    return LetterFilter(
        service=service.strip(),
        topic=topic.strip(),
        error_class=error_class.strip(),
        field=field.strip(),
    )


def _letter(parts: DashboardParts, offset: int) -> Letter:
    found = parts.redrive.letters.at(offset)
    if found is None:
        raise HTTPException(404)
    return found


def _list(
    request: Request,
    parts: DashboardParts,
    wanted: LetterFilter,
    *,
    before: int | None = None,
    done: Redriven | None = None,
) -> Response:
    given = {
        name: value
        for name in ("service", "topic", "error_class", "field")
        if (value := getattr(wanted, name))
    }
    values: dict[str, Any] = {"letters": [], "sent": {}, "older": None, "away": "", "below": 0}
    try:
        found = parts.redrive.letters.newest(wanted, limit=PAGE, before=before)
        values["letters"], values["sent"] = (
            found.letters,
            parts.redrive.sent_before(found.letters),
        )
        if found.letters:
            values["below"] = found.letters[0].offset + 1
        if found.older is not None:
            values["older"] = f"/dead-letters?{urlencode({**given, 'before': found.older})}"
    except BrokerUnavailable as error:
        values["away"] = str(error)
    return page(
        request,
        "dead_letters.html",
        status=503 if values["away"] else 409 if done is not None and done.refused else 200,
        **values,
        wanted=wanted,
        filtered=bool(given),
        newest=f"/dead-letters?{urlencode(given)}" if before is not None else None,
        services=SERVICES,
        topics=[parts.settings.topic(spec) for spec in (TRANSACTIONS, LABELS, FEATURES)],
        done=done,
        refusals=_refusals(done),
        max_letters=MAX_LETTERS,
    )


def _one(
    request: Request, parts: DashboardParts, letter: Letter, *, done: Redriven | None = None
) -> Response:
    try:
        parts.redrive.message(letter)
        hindrance = ""
    except ConfigurationError as error:
        hindrance = str(error)
    return page(
        request,
        "dead_letter.html",
        status=409 if done is not None and done.refused else 200,
        letter=letter,
        key=readable(letter.record["key"]),
        value=readable(letter.record["value"]),
        sent=parts.redrive.sent_before([letter]).get(letter.offset),
        hindrance=hindrance,
        done=done,
        refusals=_refusals(done),
    )


def _refusals(done: Redriven | None) -> list[str]:
    return [] if done is None else list(done.refused.values())[:SHOWN_REFUSALS]
