"""What can be looked up: a decision, and what the online store holds of a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.scoring.answers import decided
from gateway.scoring.gateway import Gateway
from gateway.web.problems import Problem
from gateway.web.reply import JSON
from schemas.card_numbers import looks_like_pan, tokenised
from schemas.errors import TemporaryError
from schemas.records import Decision
from stream_features.operate.show import EntityState

Found = TypeVar("Found")
Id = Annotated[str, Path(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where look-ups look; the functions block.

    `stored`: the decisions of an id in the store. `card`: the state of a card, None if there is
    none. `pan_key`: as for the stream.
    """

    gateway: Gateway
    stored: Callable[[str], Sequence[Decision]]
    card: Callable[[str], EntityState | None]
    pan_key: bytes | None = None


def lookups(sources: Sources) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/decisions/{transaction_id:path}")
    async def decision(transaction_id: Id) -> Response:
        found = sources.gateway.find(transaction_id)
        if found is None:
            found = await run_in_threadpool(_stored, sources, transaction_id)
        return Response(found, media_type=JSON.decode())

    @router.get("/cards/{card_id:path}/features")
    def card(card_id: Id) -> dict[str, Any]:
        state = _available(lambda: sources.card(_token(card_id, sources.pan_key)))
        if state is None:
            raise Problem("not-found", "the online store holds nothing of this card")
        report = state.report()
        del report["key"]
        return report

    return router


def _stored(sources: Sources, transaction_id: str) -> bytes:
    found = _available(lambda: sources.stored(transaction_id))
    if not found:
        raise Problem(
            "not-found", "no decision of this transaction is known, or not yet: ask again"
        )
    return decided(found[0])


def _available(find: Callable[[], Found]) -> Found:
    try:
        return find()
    except TemporaryError as error:
        raise Problem("unavailable", str(error), headers={"Retry-After": "1"}) from error


def _token(card_id: str, pan_key: bytes | None) -> str:
    """Return the id under which the system knows a card."""
    if not looks_like_pan(card_id):
        return card_id
    if pan_key is None:
        raise Problem("bad-request", "this looks like a card number: send the token")
    return tokenised(card_id, pan_key)
