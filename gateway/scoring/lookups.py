"""Look-ups: a decision by transaction_id, and the online store's state of a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.scoring.answers import decided
from gateway.scoring.gateway import Gateway
from gateway.web.problems import Problem, invalid
from gateway.web.reply import JSON
from runtime.repeated_lines import RepeatedLines
from schemas.card_numbers import card_number, number_in
from schemas.errors import InvalidField, TemporaryError, UnreadableValue
from schemas.records import Decision
from stream_features.operate.show import EntityState

log = structlog.get_logger(__name__)
Found = TypeVar("Found")
MAX_ID_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class LookupSources:
    """The sources of look-ups; the functions block.

    `stored` returns the stored decision on a transaction_id of a tenant, if given on a card; `card`
    returns the state of a card. Both may return None.
    """

    gateway: Gateway
    stored: Callable[[str, str, str | None], Decision | None]
    card: Callable[[str], EntityState | None]


def lookups(sources: LookupSources) -> list[Route]:
    """Return the routes of look-ups; an id may contain slashes."""
    lines = RepeatedLines()

    async def decision(request: Request) -> Response:
        transaction_id, caller = _id(request, "transaction_id"), request.scope["caller"]
        if number_in(transaction_id) is not None:
            raise _numbers_are_logged("transaction_id")
        card_id = request.query_params.get("card_id")
        if card_id is not None:
            card_id = _card(_bounded(card_id, "card_id"))
        names = transaction_id, caller.tenant, card_id
        found = sources.gateway.find(*names)
        if found is None:
            found = await run_in_threadpool(_stored, sources, *names)
        return Response(found, media_type=JSON.decode())

    def card(request: Request) -> Response:
        card_id = _card(_id(request, "card_id"))
        try:
            state = _available(lambda: sources.card(card_id))
        except UnreadableValue as error:
            if lines.due("unreadable") is not None:
                log.error("a card's stored value cannot be read", reason=str(error))
            raise Problem(
                "unavailable",
                "the online store's value of this card is damaged: the card starts anew with its "
                "next transaction",
            ) from error
        if state is None:
            raise Problem("not-found", "the online store does not know this card")
        report = state.report()
        del report["key"]
        return JSONResponse(report)

    return [
        Route("/decisions/{transaction_id:path}", decision),
        Route("/cards/{card_id:path}/features", card),
    ]


def _id(request: Request, name: str) -> str:
    return _bounded(request.path_params[name], name)


def _bounded(given: str, name: str) -> str:
    if not 1 <= len(given) <= MAX_ID_LENGTH:
        raise invalid([InvalidField(f"must have 1 to {MAX_ID_LENGTH} characters", field=name)])
    return given


def _stored(sources: LookupSources, transaction_id: str, tenant: str, card_id: str | None) -> bytes:
    found = _available(lambda: sources.stored(transaction_id, tenant, card_id))
    if found is None:
        raise Problem("not-found", "there is no decision on this transaction yet: ask again later")
    return decided(found)


def _available(find: Callable[[], Found]) -> Found:
    try:
        return find()
    except TemporaryError as error:
        log.warning("look-up failed", reason=str(error))
        raise Problem(
            "unavailable",
            "the store that has the answer is away: ask again later",
            headers={"Retry-After": "1"},
        ) from error


def _card(card_id: str) -> str:
    if card_number(card_id) is not None:
        raise _numbers_are_logged("card_id")
    return card_id


def _numbers_are_logged(name: str) -> Problem:
    return Problem(
        "bad-request",
        f"{name} looks like a card number, which must not stand in an address, because proxies log "
        "it: send the id that the decision names",
    )
