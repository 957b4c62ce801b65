"""The pages of the review queue and what their buttons do, without a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dashboard.review.actions import MAX_NOTE_LENGTH
from dashboard.review.label_sender import LabelSender
from dashboard.review.queue import REFUSALS
from database.accounts import audit
from database.core.database import Database
from database.review.case_labels import lease_labels
from database.review.case_work import MAX_HELD, settle
from database.review.cases import Case, read_case
from runtime.kafka.protocols import Producer
from schemas.errors import BrokerUnavailable
from schemas.features import HOUR
from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import Site

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'"


class Desk:
    """Two analysts before one queue."""

    def __init__(self, database: Database) -> None:
        self.site = Site(database)
        self.ann = self.site.person("analyst", "ann")
        self.bob = self.site.person("analyst", "bob")

    def case(self, case_id: int) -> Case:
        with self.site.database.read() as connection:
            case = read_case(connection, case_id)
        assert case is not None
        return case

    def post(self, who: TestClient, path: str, **form: Any) -> str:
        """Press a button; return where it leads."""
        answer = who.post(path, data=form)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def order(text: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr data-case="(\d+)"', text)]


def test_the_list_shows_the_most_urgent_first_with_all_that_matters(desk: Desk) -> None:
    cases = stored(desk.site.database, [review(2), review(9), review(1, waited_ms=4 * HOUR)])
    text = desk.ann.get("/queue").text
    assert order(text) == [case.case_id for case in cases]
    line = next(part for part in text.split("<tr")[2:] if "shop-9" in part)
    for shown in ("900.00 EUR", "720.00 EUR", "80.0%", "Electronics above 500 EUR", "0 s"):
        assert shown in line
    assert ">4 h<" in text
    assert "<b>3</b> free" in text


def test_the_lists_are_of_everyone_free_mine_and_decided(desk: Desk) -> None:
    stored(desk.site.database, [review(n) for n in range(1, 5)])
    assert desk.post(desk.ann, "/queue/next") == "/queue/4"
    assert desk.post(desk.bob, "/queue/next") == "/queue/3"
    desk.post(desk.bob, "/queue/3/verdict", verdict="GENUINE")
    shown = {
        name: order(desk.ann.get(f"/queue/lines?shown={name}").text)
        for name in ("all", "free", "mine", "decided")
    }
    assert shown == {"all": [4, 2, 1], "free": [1], "mine": [4], "decided": [3]}
    held = desk.ann.get("/queue").text
    assert '<span class="badge info">you</span>' in held
    assert '<td class="who">bob</td>' in held
    assert "<html" not in desk.ann.get("/queue/lines").text
    assert desk.ann.get("/queue?shown=theirs").status_code == 422


def test_a_case_is_shown_with_its_evidence(desk: Desk) -> None:
    database = desk.site.database
    stored(database, [review(1, card_id="card-x", decision="APPROVE", reasons=[])])
    stored(database, [review(2, merchant_id="shop-3"), review(4)], device_id="d-7")
    cases = stored(
        database, [review(3, card_id="card-x")], device_id="d-7", ip="192.0.2.7",
        ip_country="BR", attributes={"basket": "two telephones"},
    )  # fmt: skip
    number = next(case.case_id for case in cases if case.transaction_id == "tx-3")
    text = desk.ann.get(f"/queue/{number}").text
    for shown in (
        "300.00 EUR", "card-x", "192.0.2.7", "BR", "two telephones", "d-7", "model-1",
        "The card is well known", "speaks against fraud, 33% of the strongest",
        "Other cases of the same merchant", "Other cases of the same device", "Approve",
        'href="/transactions/tx-3"',
    ):  # fmt: skip
        assert shown in text, shown
    merchant, device = text.split('id="same-')[1:]
    assert "card-2" in merchant
    assert "card-4" not in merchant
    assert "card-2" in device
    assert "card-4" in device


def test_looking_at_a_case_does_not_claim_it(desk: Desk) -> None:
    stored(desk.site.database, [review(1)])
    assert "Take this case" in desk.ann.get("/queue/1").text
    assert desk.case(1).claimed_by is None
    assert desk.ann.get("/queue/99").status_code == 404
    assert desk.ann.get("/queue/99/state").status_code == 404
    assert desk.ann.get(f"/queue/{2**60}").status_code == 422


def test_a_claim_keeps_others_out_and_lasts_while_one_works(desk: Desk) -> None:
    stored(desk.site.database, [review(1), review(2)])
    claim_ms = desk.site.parts.settings.case_claim.ms
    assert desk.post(desk.ann, "/queue/1/claim") == "/queue/1"
    assert desk.post(desk.bob, "/queue/1/claim") == "/queue/1?refused=taken"
    assert REFUSALS["taken"] in desk.bob.get("/queue/1?refused=taken").text
    assert "Held by ann" in desk.bob.get("/queue/1").text
    assert desk.post(desk.bob, "/queue/1/release") == "/queue/1?refused=taken"
    assert desk.post(desk.bob, "/queue/1/verdict", verdict="FRAUD") == "/queue/1?refused=verdict"
    desk.site.clock.advance(claim_ms - 1)
    assert desk.bob.post("/queue/1/renew").status_code == 409
    renewed = desk.ann.post("/queue/1/renew").json()
    assert renewed["claimed_until"] - renewed["now"] == claim_ms
    desk.site.clock.advance(claim_ms - 1)
    assert desk.post(desk.bob, "/queue/1/claim") == "/queue/1?refused=taken"
    before = desk.bob.get("/queue/1/state").json()
    desk.site.clock.advance(1)
    assert desk.bob.get("/queue/1/state").json() != before
    assert desk.post(desk.bob, "/queue/1/claim") == "/queue/1"
    assert desk.post(desk.ann, "/queue/1/verdict", verdict="FRAUD") == "/queue/1?refused=verdict"
    assert desk.case(1).verdict is None


def test_a_verdict_leads_to_the_next_case_and_can_be_undone(desk: Desk) -> None:
    stored(desk.site.database, [review(1), review(2), review(3)])
    desk.post(desk.ann, "/queue/3/claim")
    assert desk.post(desk.ann, "/queue/3/verdict", verdict="FRAUD", note=" known ring ") == (
        "/queue/2"
    )
    case = desk.case(3)
    assert (case.verdict, case.note, case.decided_by) == ("FRAUD", "known ring", "ann")
    assert desk.case(2).claimed_by == "ann"
    for path in ("/queue", "/queue/2", "/queue/1"):
        assert 'action="/queue/3/undo"' in desk.ann.get(path).text
        assert 'action="/queue/3/undo"' not in desk.bob.get(path).text
    assert desk.post(desk.bob, "/queue/3/undo") == "/queue/3?refused=undo"
    assert desk.post(desk.ann, "/queue/3/undo") == "/queue/3"
    assert ">known ring</textarea>" in desk.ann.get("/queue/3").text
    # Back to what she holds already, before what is free.
    assert desk.post(desk.ann, "/queue/3/verdict", verdict="GENUINE") == "/queue/2"
    desk.site.clock.advance(desk.site.parts.settings.case_undo.ms)
    assert 'action="/queue/3/undo"' not in desk.ann.get("/queue").text
    assert desk.post(desk.ann, "/queue/3/undo") == "/queue/3?refused=undo"
    with desk.site.database.begin() as connection:
        (label,) = lease_labels(connection, desk.site.clock.now_ms(), 60_000).values()
    assert label["label"] == "GENUINE"
    with desk.site.database.read() as connection:
        entries = audit.entries(connection, subject="tx-3")
    assert [entry.action for entry in entries] == [
        "verdict", "verdict undone", "verdict", "case claimed",
    ]  # fmt: skip


def test_the_last_verdict_leads_back_to_the_queue(desk: Desk) -> None:
    stored(desk.site.database, [review(1)])
    assert desk.post(desk.ann, "/queue/next") == "/queue/1"
    assert desk.post(desk.ann, "/queue/1/verdict", verdict="FRAUD") == "/queue"
    assert desk.post(desk.ann, "/queue/next") == "/queue?refused=none"
    assert REFUSALS["none"] in desk.ann.get("/queue?refused=none").text


def test_released_a_case_is_free_and_too_many_are_refused(desk: Desk) -> None:
    stored(desk.site.database, [review(n) for n in range(1, MAX_HELD + 2)])
    for number in range(MAX_HELD + 1, 1, -1):
        assert desk.post(desk.ann, "/queue/next") == f"/queue/{number}"
    assert desk.post(desk.ann, "/queue/1/claim") == "/queue/1?refused=full"
    assert REFUSALS["full"] in desk.ann.get("/queue/1?refused=full").text
    assert desk.post(desk.ann, "/queue/next", leave=3) == "/queue/2"
    assert desk.post(desk.ann, "/queue/6/release") == "/queue"
    assert desk.case(6).claimed_by is None
    assert desk.post(desk.bob, "/queue/next") == "/queue/6"


def test_wrong_verdicts_and_notes_are_refused(desk: Desk) -> None:
    stored(desk.site.database, [review(1)])
    desk.post(desk.ann, "/queue/1/claim")
    for form in (
        {}, {"verdict": "MAYBE"}, {"verdict": "FRAUD", "note": "x" * (MAX_NOTE_LENGTH + 1)},
    ):  # fmt: skip
        assert desk.ann.post("/queue/1/verdict", data=form).status_code == 422
    assert desk.case(1).verdict is None
    desk.post(desk.ann, "/queue/1/verdict", verdict="FRAUD", note="a\0b 4111 1111 1111 1111")
    assert desk.case(1).note == "ab **** **** **** 1111"


def test_without_the_token_nothing_is_done(desk: Desk) -> None:
    stored(desk.site.database, [review(1)])
    del desk.ann.headers["X-CSRF-Token"]
    for path in ("next", "1/claim", "1/release", "1/verdict", "1/undo", "1/renew"):
        assert desk.ann.post(f"/queue/{path}", data={"verdict": "FRAUD"}).status_code == 403
    assert desk.case(1).claimed_by is None


def test_what_a_transaction_carries_is_shown_as_text(desk: Desk) -> None:
    database = desk.site.database
    reasons = [{"code": HOSTILE, "text": HOSTILE, "contribution": 1.0}]
    hostile: dict[str, Any] = {
        "transaction_id": HOSTILE, "card_id": HOSTILE, "merchant_id": HOSTILE,
        "reasons": reasons, "model_id": HOSTILE, "degraded": HOSTILE,
    }  # fmt: skip
    inputs = {name: HOSTILE for name in ("device_id", "customer_id", "ip", "ip_country")}
    stored(
        database, [review(1, **hostile), review(2, **hostile | {"transaction_id": "tx-2"})],
        attributes={HOSTILE: HOSTILE}, **inputs,
    )  # fmt: skip
    desk.post(desk.ann, "/queue/1/claim")
    desk.post(desk.ann, "/queue/1/verdict", verdict="FRAUD", note=HOSTILE)
    for path in ("/queue", "/queue?shown=decided", "/queue/lines", "/queue/1", "/queue/2"):
        text = desk.ann.get(path).text
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>alert" not in text
        assert "<img" not in text


def test_without_the_stored_decision_the_case_can_still_be_decided(desk: Desk) -> None:
    stored(desk.site.database, [review(1)])
    with desk.site.database.begin() as connection:
        for table in ("decisions", "vectors"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    assert "The store no longer has the decision" in desk.ann.get("/queue/1").text
    assert order(desk.ann.get("/queue").text) == [1]
    desk.post(desk.ann, "/queue/1/claim")
    assert desk.post(desk.ann, "/queue/1/verdict", verdict="FRAUD") == "/queue"


def test_a_case_that_a_chargeback_settled_says_so(desk: Desk) -> None:
    (case,) = stored(desk.site.database, [review(1)])
    home = f"/queue/{case.case_id}"
    desk.post(desk.ann, f"{home}/claim")
    before = desk.ann.get(f"{home}/state").json()
    label: Any = {
        "transaction_id": "tx-1", "card_id": "card-1", "label": "FRAUD", "source": "CHARGEBACK",
        "transaction_time": case.event_time, "label_time": case.event_time,
    }  # fmt: skip
    with desk.site.database.begin() as connection:
        assert settle(connection, [label], desk.site.clock.now_ms()) == 1
    assert desk.ann.get(f"{home}/state").json() != before, "the page is loaded again"
    for button, form in (("verdict", {"verdict": "GENUINE"}), ("release", {}), ("claim", {})):
        refused = desk.post(desk.ann, f"{home}/{button}", **form)
        assert refused == f"{home}?refused=settled"
        assert REFUSALS["settled"] in desk.ann.get(refused).text
    text = desk.ann.get(home).text
    assert "settled by a <b>chargeback</b>" in text
    assert "none is sent from here" in text
    assert order(desk.ann.get("/queue").text) == []
    assert '<td class="who"><span class="badge">chargeback</span>' in (
        desk.ann.get("/queue?shown=decided").text
    )
    assert "settled by chargeback: fraud" in desk.ann.get("/transactions/tx-1").text


def test_after_a_verdict_comes_a_case_that_is_held_before_a_more_urgent_free_one(
    desk: Desk,
) -> None:
    stored(desk.site.database, [review(1), review(2), review(3)])
    for number in (1, 2):
        desk.post(desk.ann, f"/queue/{number}/claim")
    assert desk.post(desk.ann, "/queue/2/verdict", verdict="FRAUD") == "/queue/1"
    assert desk.post(desk.ann, "/queue/1/verdict", verdict="FRAUD") == "/queue/3"


def test_why_verdicts_wait_is_shown_with_the_queue(desk: Desk) -> None:
    def connect() -> Producer:
        raise BrokerUnavailable("no broker")

    parts = desk.site.parts
    sender = LabelSender(
        parts.database, connect, topic="labels", undo_ms=0, clock=parts.clock,
        metrics=parts.metrics, counts=parts.case_counts,
    )  # fmt: skip
    site = Site(desk.site.database, labels=sender)
    boss = site.person("analyst", "boss")
    for path in ("/queue", "/queue/lines"):
        assert "Verdicts are waiting" not in boss.get(path).text
    sender.trouble = "Verdicts are waiting and none is lost: no broker"
    for path in ("/queue", "/queue/lines"):
        assert "Verdicts are waiting and none is lost: no broker" in boss.get(path).text
