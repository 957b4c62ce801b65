"""The page of one transaction: everything that explains its decision, even a year later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from dashboard.accounts.access import Person, Viewer
from dashboard.parts import DashboardParts, InjectedParts
from dashboard.transactions import view
from dashboard.transactions.norm import FeatureLine, lines
from dashboard.web.pages import page
from dashboard.web.redaction import Redaction
from database.decisions import decisions
from database.decisions.decisions import StoredDecision
from database.decisions.transaction_evidence import Past, card_around, case_of, vectors_before
from database.review.cases import Case
from schemas.currency import amount
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.records import Decision, FeatureVector

router: Final = APIRouter()
EARLIER: Final = 50
"""Earlier transactions of the card that define its usual values."""
BEFORE, AFTER = 30, 10
"""Transactions of the card in the drawing, up to this one and after it."""
Vector = npt.NDArray[np.float32]


@router.get("/transactions")
def search(
    request: Request, person: Viewer, parts: InjectedParts, id: str = "", of: int = 0
) -> HTMLResponse:
    """Return the page of the requested transaction, or one that says there is no such."""
    return _shown(request, id.strip(), person, parts, of, without=200)


@router.get("/transactions/{transaction_id:path}")
def show(
    request: Request, transaction_id: str, person: Viewer, parts: InjectedParts, of: int = 0
) -> HTMLResponse:
    """Return the page of a transaction; `of` chooses among cards with the same transaction id."""
    return _shown(request, transaction_id, person, parts, of, without=404)


def _shown(
    request: Request,
    transaction_id: str,
    person: Person,
    parts: DashboardParts,
    of: int,
    *,
    without: int,
) -> HTMLResponse:
    found = _read(parts, transaction_id, of)
    if found is None:
        return page(request, "transaction_none.html", status=without, transaction_id=transaction_id)
    return page(request, "transaction.html", **_values(parts, found, person), of=of)


@dataclass(frozen=True, slots=True)
class _Found:
    """The stored transaction, the number with the same id, and its surroundings."""

    stored: StoredDecision
    alike: int
    history: list[Past]
    earlier: list[FeatureVector]
    case: Case | None


def _read(parts: DashboardParts, transaction_id: str, of: int) -> _Found | None:
    with parts.database.read() as connection:
        stored = decisions.find(connection, transaction_id)
        if not stored:
            return None
        if not 0 <= of < len(stored):
            raise HTTPException(404, f"there are {len(stored)} transactions with that id")
        card, when = stored[of].decision["card_id"], stored[of].decision["event_time"]
        return _Found(
            stored[of],
            len(stored),
            card_around(connection, card, when, before=BEFORE, after=AFTER),
            vectors_before(connection, card, when, EARLIER),
            case_of(connection, transaction_id, card),
        )


def _values(parts: DashboardParts, found: _Found, person: Person) -> dict[str, Any]:
    decision, vector = found.stored.decision, found.stored.vector
    transaction = None if vector is None else vector["transaction"]
    redaction = Redaction.of(person)
    features, whole = _features(parts, found)
    with parts.collector.topics.lock:
        label = parts.collector.topics.labels.find(decision["transaction_id"], decision["card_id"])
    return {
        "decision": decision,
        "alike": found.alike,
        "case": found.case,
        "label": label,
        "inputs": view.inputs(decision, transaction, redaction),
        "card": redaction.text("card_id", decision["card_id"]),
        "kind": view.KIND_WORDS.get(decision["kind"], ""),
        "unread": view.unread(decision),
        "timings": view.timings(decision),
        "groups": view.groups(features),
        "bars": view.bars(features),
        "whole": whole,
        "earlier": len(found.earlier),
        "history": found.history,
        "listed": view.listed(found.history, decision),
        "drawing": view.drawing(found.history, decision),
        "amount": amount,
    }


def _features(parts: DashboardParts, found: _Found) -> tuple[list[FeatureLine], bool]:
    """Return the features in words, and whether their contributions are known."""
    vector = _array(found.stored.vector)
    if vector is None:
        return [], False
    earlier = [row for row in map(_array, found.earlier) if row is not None]
    matrix = np.stack(earlier) if earlier else np.empty((0, VECTOR_SIZE), np.float32)
    decision = found.stored.decision
    contributions = _contributions(parts, decision, vector)
    made = lines(vector, matrix, contributions, decision["anomaly_score"])
    return made, contributions is not None


def _array(record: FeatureVector | None) -> Vector | None:
    """Return a vector as float32[70], None without a vector of the present catalogue."""
    if record is None or record["fingerprint"] != FINGERPRINT:
        return None
    return np.frombuffer(record["vector"], "<f4").astype(np.float32)


def _contributions(
    parts: DashboardParts, decision: Decision, vector: Vector
) -> npt.NDArray[np.float64] | None:
    """Return the contributions of the 71 inputs from the deciding bundle; None without it."""
    collector = parts.collector
    with collector.topics.lock:
        state = collector.topics.journal.states.get(decision["model_id"] or "")
    model = None if state is None else collector.bundles.get(state.event)
    return None if model is None else model.contributions(model.inputs(vector[None, :]))[0]
