"""Admins look at dead letters and send them again, as a producer would; every one is audited."""

from __future__ import annotations

import json
import re

import pytest
from fastapi.testclient import TestClient

from dashboard.dead_letters import letters as letters_module
from dashboard.dead_letters.letters import LetterFilter
from dashboard.dead_letters.redrive import MAX_LETTERS
from database.accounts import audit
from runtime.kafka.partitioner import partition_of
from runtime.kafka.protocols import TopicPartition
from schemas.dead_letters import MAX_VALUE_BYTES
from tests.support.dashboard.letters import CARD_NUMBER, as_json, encoded, refuse
from tests.support.dashboard.site import Site, page_by_page

KEEPS = TopicPartition("transactions", 1)
"""Where the support puts what was refused; what is sent again comes behind it."""


@pytest.fixture
def admin(site: Site) -> TestClient:
    return site.person("admin")


def numbers(text: str) -> list[int]:
    """Return the letters that a page lists."""
    return [int(found) for found in re.findall(r'href="/dead-letters/(\d+)"', text)]


def sent_again(site: Site, refused: int = 0) -> list[tuple[int, bytes | None, bytes | None]]:
    """Return what was sent to `transactions`: partition, key and value."""
    places = site.broker.places(["transactions"])
    return [
        (each.partition, each.key, each.value)
        for place in places
        for each in site.broker.log(place)[refused if place == KEEPS else 0 :]
    ]


def audited(site: Site) -> list[audit.AuditEntry]:
    with site.database.read() as connection:
        return list(audit.entries(connection, action="dead letter sent again", limit=10_000))


def test_the_page_lists_the_newest_first_page_by_page(site: Site, admin: TestClient) -> None:
    for number in range(120):
        refuse(site.broker, b"card", encoded(number))
    texts = page_by_page(admin, "/dead-letters")
    text = texts[-1]
    seen = [number for each in texts for number in numbers(each)]
    assert seen == list(range(119, -1, -1))
    assert "transactions[1] at 0" in text
    assert "no rate for the currency" in text


def test_the_page_filters_by_service_topic_error_and_field(site: Site, admin: TestClient) -> None:
    refuse(site.broker, b"card", encoded(1))
    refuse(site.broker, b"card", encoded(2), field="ip")
    refuse(site.broker, b"card", encoded(3), topic="labels")
    refuse(site.broker, b"card", encoded(4), topic="features", service="scorer")
    for query, found in (
        ("", [3, 2, 1, 0]),
        ("field=currency", [3, 2, 0]),
        ("topic=labels", [2]),
        ("service=scorer", [3]),
        ("error_class=InvalidField&field=ip", [1]),
        ("error_class=UnknownSchema", []),
    ):
        assert numbers(admin.get(f"/dead-letters?{query}").text) == found, query
    assert "match this filter" in admin.get("/dead-letters?field=x").text


def test_a_rare_letter_is_found_far_back_and_the_search_has_an_end(
    site: Site, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "AT_ONCE", 7)
    monkeypatch.setattr(letters_module, "MAX_SCANNED", 50)
    for number in range(100):
        refuse(site.broker, b"card", encoded(number), field="ip" if number in (20, 60) else "mcc")
    letters = site.parts.redrive.letters
    wanted = LetterFilter(field="ip")
    first = letters.newest(wanted, limit=5)
    assert ([each.offset for each in first.letters], first.older) == ([60], 50)
    second = letters.newest(wanted, limit=5, before=first.older)
    assert ([each.offset for each in second.letters], second.older) == ([20], None)


def test_one_letter_is_shown_with_its_masked_message(site: Site, admin: TestClient) -> None:
    refuse(site.broker, CARD_NUMBER.encode(), encoded(1, card_id=CARD_NUMBER))
    refuse(site.broker, b"card", as_json(2, attributes={"pan": CARD_NUMBER}))
    refuse(site.broker, None, b"\xff\x00<script>alert(1)</script>")
    avro, plain, noise = (admin.get(f"/dead-letters/{number}").text for number in range(3))
    for text in (avro, plain, noise):
        assert CARD_NUMBER not in text
        assert "<script>alert" not in text
    assert "&#34;card_id&#34;: &#34;************1111&#34;" in avro
    assert "&#34;pan&#34;: &#34;************1111&#34;" in plain
    assert "\\xff" in noise
    assert admin.get("/dead-letters/3").status_code == 404


def test_one_is_sent_again_by_its_card_to_the_partition_of_that(
    site: Site, admin: TestClient
) -> None:
    """Its producer may have used another key, or another partitioner."""
    value = encoded(5)
    refuse(site.broker, b"a key of its own", value)
    answer = admin.post("/dead-letters/0/redrive")
    assert answer.status_code == 200
    assert "1 sent again" in answer.text
    where = partition_of(b"card-2", 4)
    assert sent_again(site, refused=1) == [(where, b"card-2", value)]
    [entry] = audited(site)
    assert (entry.who, entry.subject) == ("admin", "dead letter 0 of 1700000000000")
    assert json.loads(entry.after or "") == {
        "topic": "transactions", "partition": 1, "offset": 0, "error_class": "InvalidField",
        "field": "currency",
    }  # fmt: skip
    listed = admin.get("/dead-letters").text
    assert "2026-02-02 02:40:00" in listed
    assert "Send again" in admin.get("/dead-letters/0").text


def test_all_that_match_are_sent_once(site: Site, admin: TestClient) -> None:
    for number in range(250):
        refuse(site.broker, b"k", as_json(number), field="ip" if number % 2 else "currency")
    form = {"below": "200", "field": "currency"}
    assert "100 sent again" in admin.post("/dead-letters/redrive", data=form).text
    sent = [json.loads(value or b"")["transaction_id"] for _, _, value in sent_again(site, 250)]
    assert sorted(sent, key=lambda name: int(name[1:])) == [f"t{n}" for n in range(0, 200, 2)]
    assert len(audited(site)) == 100
    form["below"] = "250"
    assert "25 sent again" in admin.post("/dead-letters/redrive", data=form).text
    assert "0 sent again" in admin.post("/dead-letters/redrive", data=form).text
    assert len(sent_again(site, 250)) == 125


def test_more_than_the_most_go_on_with_the_next_request(
    site: Site, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.dead_letters.redrive.MAX_LETTERS", 10)
    for number in range(25):
        refuse(site.broker, b"k", as_json(number))
    texts = [admin.post("/dead-letters/redrive", data={"below": "25"}).text for _ in range(4)]
    counts = [re.search(r"(\d+) sent again", text) for text in texts]
    assert [found and found[1] for found in counts] == ["10", "10", "5", "0"]
    assert MAX_LETTERS == 1_000


def test_a_masked_or_cut_copy_is_replaced_by_the_message_itself(
    site: Site, admin: TestClient
) -> None:
    masked = encoded(1, card_id=CARD_NUMBER)
    refuse(site.broker, CARD_NUMBER.encode(), masked)
    long = as_json(2, attributes={"text": "x" * MAX_VALUE_BYTES})
    refuse(site.broker, b"card-2", long)
    for number in (0, 1):
        assert "1 sent again" in admin.post(f"/dead-letters/{number}/redrive").text
    values = {value for _, _, value in sent_again(site, refused=2)}
    assert values == {masked, long}


def test_what_kafka_no_longer_has_is_not_sent_in_a_changed_form(
    site: Site, admin: TestClient
) -> None:
    value = encoded(1, card_id=CARD_NUMBER)
    refuse(site.broker, CARD_NUMBER.encode(), value, kept=False)
    refuse(site.broker, b"card", encoded(2))  # now stands where the first one was
    answer = admin.post("/dead-letters/0/redrive")
    assert answer.status_code == 409
    assert "let its producer send it again" in answer.text
    assert "1 could not be sent" in answer.text
    assert sent_again(site, refused=1) == []
    assert audited(site) == []


def test_vectors_are_not_sent_again(site: Site, admin: TestClient) -> None:
    refuse(site.broker, b"card", b"no vector", topic="features", service="scorer")
    refuse(site.broker, b"card", None)
    shown = admin.get("/dead-letters/0").text
    assert "send the transaction again instead" in shown
    assert 'action="/dead-letters/0/redrive"' not in shown
    answer = admin.post("/dead-letters/redrive", data={"below": "9"})
    assert "0 sent again, 2 could not be sent" in answer.text


def test_nothing_is_sent_that_cannot_be_audited(
    site: Site, admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(site.broker, b"card", encoded(1))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(audit, "record", fails)
    with pytest.raises(RuntimeError, match="disk full"):
        admin.post("/dead-letters/0/redrive")
    assert sent_again(site, refused=1) == []


def test_without_kafka_the_page_says_so(site: Site, admin: TestClient) -> None:
    refuse(site.broker, b"card", encoded(1))
    site.broker.available = False
    for answer in (admin.get("/dead-letters"), admin.get("/dead-letters/0")):
        assert answer.status_code == 503
        assert "switched off" in answer.text
    assert admin.post("/dead-letters/0/redrive").status_code == 503
    assert audited(site) == []


def test_only_the_wanted_are_asked_about(site: Site, admin: TestClient) -> None:
    """The buttons ask first, and the form holds what the person saw."""
    refuse(site.broker, b"card", encoded(1))
    refuse(site.broker, b"card", encoded(2), field="ip")
    text = admin.get("/dead-letters?field=currency").text
    assert 'name="below" value="1"' in text
    assert 'name="field" value="currency"' in text
    assert "data-confirm=" in text
    assert "data-confirm=" in admin.get("/dead-letters/0").text
