"""Drawn transactions that keep every rule; the codec tests share them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schemas.card_numbers import card_number, number_in
from schemas.columns import CHANNELS, KINDS
from schemas.rules.countries import COUNTRIES

NOW = 1_800_000_000_000
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).filter(
    lambda text: number_in(text) is None
)
COUNTRY = st.none() | st.sampled_from(sorted(COUNTRIES))
CARD = (TEXT | st.text("0123456789 -", min_size=12, max_size=24)).filter(
    lambda text: card_number(text) is None
)


@st.composite
def transactions(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "transaction_id": draw(TEXT),
        "event_time": draw(st.integers(946_684_800_000, NOW + 300_000)),
        "card_id": draw(CARD),
        "customer_id": draw(st.none() | TEXT),
        "merchant_id": draw(TEXT),
        "amount": draw(st.integers(0, 10**12)),
        "currency": draw(st.sampled_from(["EUR", "USD", "JPY"])),
        "mcc": draw(st.none() | st.integers(0, 9999)),
        "channel": draw(st.sampled_from(CHANNELS)),
        "device_id": draw(st.none() | TEXT),
        "ip": draw(st.none() | st.ip_addresses().map(str)),
        "ip_country": draw(COUNTRY),
        "card_country": draw(COUNTRY),
        "merchant_country": draw(COUNTRY),
        "latitude": draw(st.none() | st.floats(-90, 90)),
        "longitude": draw(st.none() | st.floats(-180, 180)),
        "kind": draw(st.sampled_from(KINDS)),
        "unread": [],
        "attributes": draw(st.dictionaries(TEXT, st.text(max_size=8), max_size=3)),
    }
