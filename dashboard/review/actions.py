"""Actions of the review queue's buttons. Each is a form that leads to a page, so scripts are not
needed; `case_work` decides whether the action is allowed, and audits it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form
from fastapi.responses import JSONResponse, RedirectResponse, Response

from dashboard.accounts.access import Analyst
from dashboard.parts import InjectedParts
from dashboard.review.queue import CaseId
from database.review import case_work
from database.review.cases import Case, Verdict, read_case
from schemas import card_numbers

router: Final = APIRouter()
MAX_NOTE_LENGTH: Final = 2_000


@router.post("/queue/next")
def take_next(
    person: Analyst, parts: InjectedParts, leave: Annotated[int, Form(ge=0, le=2**53)] = 0
) -> Response:
    """Claim the most urgent free case and open it; `leave` is the case to leave for it."""
    now, claim_ms = parts.clock.now_ms(), parts.settings.case_claim.ms
    with parts.database.begin() as connection:
        case = case_work.claim_next(connection, person.username, now, claim_ms, leave)
    parts.case_counts.forget()
    return _to(case) if case is not None else _refused("none")


@router.post("/queue/{case_id}/claim")
def claim(person: Analyst, parts: InjectedParts, case_id: CaseId) -> Response:
    """Claim a case and open it."""
    now, claim_ms = parts.clock.now_ms(), parts.settings.case_claim.ms
    with parts.database.begin() as connection:
        case = case_work.claim(connection, case_id, person.username, now, claim_ms)
        there = read_case(connection, case_id)
    parts.case_counts.forget()
    if case is not None:
        return _to(case)
    full = there is not None and there.verdict is None and there.holder(now) is None
    return _refused("full" if full else "taken", there)


@router.post("/queue/{case_id}/renew")
def renew(person: Analyst, parts: InjectedParts, case_id: CaseId) -> Response:
    """Extend the claim on a case; the page calls this while its reader is active."""
    now, claim_ms = parts.clock.now_ms(), parts.settings.case_claim.ms
    with parts.database.begin() as connection:
        case = case_work.renew(connection, case_id, person.username, now, claim_ms)
    if case is None:
        return JSONResponse({"detail": "You no longer hold this case."}, 409)
    return JSONResponse({"claimed_until": case.claimed_until, "now": now})


@router.post("/queue/{case_id}/release")
def release(person: Analyst, parts: InjectedParts, case_id: CaseId) -> Response:
    """Give a case back to the queue."""
    now = parts.clock.now_ms()
    with parts.database.begin() as connection:
        case = case_work.release(connection, case_id, person.username, now)
        there = read_case(connection, case_id)
    parts.case_counts.forget()
    return RedirectResponse("/queue", 303) if case is not None else _refused("taken", there)


@router.post("/queue/{case_id}/verdict")
def decide(
    person: Analyst,
    parts: InjectedParts,
    case_id: CaseId,
    verdict: Annotated[Verdict, Form()],
    note: Annotated[str, Form(max_length=MAX_NOTE_LENGTH)] = "",
) -> Response:
    """Record the verdict and open the next case: one already held, or the most urgent free one."""
    now, claim_ms = parts.clock.now_ms(), parts.settings.case_claim.ms
    kept = card_numbers.masked(note.replace("\0", "").strip())
    with parts.database.begin() as connection:
        case = case_work.decide(connection, case_id, person.username, verdict, kept, now)
        if case is None:
            return _refused("verdict", read_case(connection, case_id))
        following = case_work.claim_held(
            connection, person.username, now, claim_ms
        ) or case_work.claim_next(connection, person.username, now, claim_ms)
    parts.case_counts.forget()
    return _to(following) if following is not None else RedirectResponse("/queue", 303)


@router.post("/queue/{case_id}/undo")
def undo(person: Analyst, parts: InjectedParts, case_id: CaseId) -> Response:
    """Take the verdict back and return to the case."""
    settings = parts.settings
    with parts.database.begin() as connection:
        case = case_work.undo(
            connection,
            case_id,
            person.username,
            parts.clock.now_ms(),
            undo_ms=settings.case_undo.ms,
            claim_ms=settings.case_claim.ms,
        )
        there = read_case(connection, case_id)
    parts.case_counts.forget()
    return _to(case) if case is not None else _refused("undo", there)


def _to(case: Case) -> Response:
    return RedirectResponse(f"/queue/{case.case_id}", 303)


def _refused(why: str, case: Case | None = None) -> Response:
    if case is not None and case.settled:
        why = "settled"
    where = "/queue" if case is None else f"/queue/{case.case_id}"
    return RedirectResponse(f"{where}?refused={why}", 303)
