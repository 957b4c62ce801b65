"""Amounts read alike on every page, in the decimals of their currency."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import Site


@pytest.mark.parametrize(("currency", "text"), [("KWD", "1,234.567 KWD"), ("RWF", "1,234,567 RWF")])
def test_the_transaction_and_its_case_show_the_same_amount(
    site: Site, currency: str, text: str
) -> None:
    [case] = stored(site.database, [review(1, amount=1_234_567, currency=currency)])
    ann = site.person("analyst")
    assert text in ann.get("/transactions/tx-1").text
    assert text in ann.get(f"/queue/{case.case_id}").text
    assert text in ann.get("/queue").text


def test_a_refund_and_what_could_not_be_read_are_told_in_words(site: Site) -> None:
    told: dict[str, Any] = {"kind": "REFUND", "unread": ["ip", "latitude", "longitude"]}
    refund, plain = stored(site.database, [review(2, **told), review(1)])
    ann = site.person("analyst")
    page = ann.get("/transactions/tx-2").text
    assert "refund: money given back, which no feature counts as spending" in page
    assert "IP address, Place: sent in a form that is not known, so decided without" in page
    assert "<dt>Kind</dt><dd>refund</dd>" in ann.get(f"/queue/{refund.case_id}").text
    other = ann.get("/transactions/tx-1").text + ann.get(f"/queue/{plain.case_id}").text
    assert "<dt>Kind</dt>" not in other
    assert "<dt>Unread</dt>" not in other
