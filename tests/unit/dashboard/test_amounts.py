"""Amounts read alike on every page, in the decimals of their currency."""

from __future__ import annotations

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
