"""What viewers see of a payment, on every page and in the event stream."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.routing import APIRoute

from dashboard.app import ROUTERS
from dashboard.web.redaction import condition
from runtime.kafka.protocols import Message
from schemas.codec import avro
from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import START, Site

INPUTS: dict[str, Any] = {
    "customer_id": "customer-of-ours", "device_id": "device-of-theirs", "ip": "192.0.2.77",
    "latitude": 52.123456, "longitude": 4.654321, "attributes": {"email": "jane@bank.test"},
}  # fmt: skip
CARD = "card-0815-4711"
PERSONAL = ("customer-of-ours", "device-of-theirs", "192.0.2.77", "52.12", "4.654", "jane@bank",
            "0815")  # fmt: skip


def shown(site: Site, role: str) -> str:
    """Return all pages that a role can get, and what a browser of the live page is sent."""
    client = site.person(role)
    paths = {
        route.path
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }
    given = {"{transaction_id:path}": "tx-1", "{case_id}": "1", "{version:path}": "v1"}
    texts = []
    for path in sorted(paths - {"/live/events", "/runbook"}):
        for name, value in given.items():
            path = path.replace(name, value)
        texts.append(client.get(path).text)
    texts.append(client.get("/transactions?id=tx-1").text)
    site.parts.collector.step()
    return "\n".join([*texts, site.parts.collector.snapshot().data])


@pytest.mark.parametrize(("role", "sees"), [("viewer", False), ("analyst", True)])
def test_personal_fields_are_seen_from_the_analyst_on(site: Site, role: str, sees: bool) -> None:
    blocked = review(2, card_id=CARD, decision="BLOCK")
    stored(site.database, [review(1, card_id=CARD)], **INPUTS)
    message = Message("decisions", 0, 0, START, None, avro.encode("Decision", blocked))
    site.parts.collector.topics.decided.take([message])
    text = shown(site, role)
    assert [value in text for value in PERSONAL] == [sees] * len(PERSONAL)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("amount > 500", "amount > 500"),
        ("ip == '192.0.2.7' or mcc == 5411", "ip == '••••' or mcc == 5411"),
        ("'card-1' == card_id", "'••••' == card_id"),
        ("not (device_id in ['a', 'b'])", "not device_id in ['••••', '••••']"),
        ("ip_country in ['GB']", "ip_country in ['GB']"),
    ],
)
def test_conditions_keep_what_is_not_personal(given: str, seen: str) -> None:
    assert condition(given) == seen
