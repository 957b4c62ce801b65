"""The pages /queue, with the cases, and /queue/{case_id}, with one case. Both only read."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse

from dashboard.accounts.access import Analyst
from dashboard.parts import InjectedParts
from dashboard.review import case_view
from dashboard.web.pages import page
from dashboard.web.redaction import Redaction
from database.decisions.decisions import find, history
from database.review.case_evidence import decisions_of, neighbours, similar_cases, verdicts_of
from database.review.case_work import MAX_HELD, undoable
from database.review.cases import Shown, list_cases, read_case
from schemas.words.quantities import duration

router: Final = APIRouter()
CaseId = Annotated[int, Path(ge=1, le=2**53)]
MAX_LINES: Final = 100
MAX_HISTORY: Final = 12
TABS: Final[tuple[tuple[Shown, str], ...]] = (
    ("all", "Open"),
    ("free", "Free"),
    ("mine", "Mine"),
    ("decided", "Decided"),
)
REFUSALS: Final = {
    "taken": "Somebody else was quicker: this case is no longer free.",
    "full": f"You already hold {MAX_HELD} cases. Decide or release one first.",
    "undo": "Too late: the verdict has been sent and can no longer be undone.",
    "verdict": "You do not hold this case, so your verdict was not accepted.",
    "settled": "A chargeback has settled this case, so there is nothing left to decide.",
    "none": "No case is free at the moment. New cases appear here automatically.",
}
"""Messages of refused actions, by the name in the query."""


@router.get("/queue")
def show_queue(
    request: Request, person: Analyst, parts: InjectedParts, shown: Shown = "all", refused: str = ""
) -> HTMLResponse:
    """Show the cases, most urgent first; the page refreshes itself from /queue/lines."""
    values = _lines(person, parts, shown)
    return page(request, "queue.html", refusal=REFUSALS.get(refused, ""), **values)


@router.get("/queue/lines")
def show_lines(
    request: Request, person: Analyst, parts: InjectedParts, shown: Shown = "all"
) -> HTMLResponse:
    """Return the part of the page that changes, as HTML."""
    return page(request, "queue_lines.html", **_lines(person, parts, shown))


@router.get("/queue/{case_id}")
def show_case(
    request: Request, person: Analyst, parts: InjectedParts, case_id: CaseId, refused: str = ""
) -> HTMLResponse:
    """Show one case, without claiming it."""
    now, settings = parts.clock.now_ms(), parts.settings
    base = settings.base_currency
    with parts.database.read() as connection:
        case = read_case(connection, case_id)
        if case is None:
            raise HTTPException(404)
        stored = find(connection, case.transaction_id, case.card_id)
        past = history(connection, case.card_id, MAX_HISTORY + 1)
        verdicts = verdicts_of(connection, case.card_id)
        alike = {
            "merchant": similar_cases(connection, case, "merchant_id"),
            "device": similar_cases(connection, case, "device_id"),
        }
        decided = decisions_of(connection, [one for found in alike.values() for one in found])
        before, after = neighbours(connection, case)
        undo = undoable(connection, person.username, now, settings.case_undo.ms)
    decision = stored[0].decision if stored else None
    vector = stored[0].vector if stored else None
    return page(
        request,
        "case.html",
        line=case_view.line(case, decision, now, base),
        decision=decision,
        whys=case_view.reasons(decision) if decision else [],
        inputs=case_view.inputs(vector["transaction"] if vector else None, Redaction.of(person)),
        past=case_view.past(past, case, verdicts)[:MAX_HISTORY],
        similar={
            name: [case_view.line(one, decided.get(one.case_id), now, base) for one in found]
            for name, found in alike.items()
        },
        before=before,
        after=after,
        undo=case_view.line(undo, None, now, base) if undo else None,
        state=case_view.state(case, now, settings.case_undo.ms),
        refusal=REFUSALS.get(refused, ""),
        now=now,
        claim_ms=settings.case_claim.ms,
        undo_ms=settings.case_undo.ms,
    )


@router.get("/queue/{case_id}/state")
def show_state(_person: Analyst, parts: InjectedParts, case_id: CaseId) -> dict[str, str]:
    """Return the state of a case; the page loads itself again when it changes."""
    with parts.database.read() as connection:
        case = read_case(connection, case_id)
    if case is None:
        raise HTTPException(404)
    return {"state": case_view.state(case, parts.clock.now_ms(), parts.settings.case_undo.ms)}


def _lines(person: Analyst, parts: InjectedParts, shown: Shown) -> dict[str, Any]:
    now, settings = parts.clock.now_ms(), parts.settings
    with parts.database.read() as connection:
        found = list_cases(connection, now, shown, person.username, MAX_LINES)
        decided = decisions_of(connection, found)
        undo = undoable(connection, person.username, now, settings.case_undo.ms)
    counters = parts.case_counts.get(parts.database, now)
    base = settings.base_currency
    return {
        "lines": [case_view.line(one, decided.get(one.case_id), now, base) for one in found],
        "max_lines": MAX_LINES,
        "counters": counters,
        "median_age": duration(counters.median_age_ms),
        "shown": shown,
        "tabs": TABS,
        "undo": case_view.line(undo, None, now, base) if undo else None,
        "undo_ms": settings.case_undo.ms,
        "trouble": parts.labels.trouble if parts.labels is not None else "",
        "now": now,
    }
