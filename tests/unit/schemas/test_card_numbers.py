"""Card numbers are found however they are written, and nothing of them is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.card_numbers import _luhn, looks_like_pan, mask_numbers, masked
from schemas.codec import avro
from schemas.codec import transactions_kernel as kernel

VISA = "4111111111111111"
EXAMPLES = [
    VISA, "5500005555555559", "340000000000009", "6011000000000004", "3530111333300000",
    "30569309025904", "4222222222222", "6200000000000005", "2223003122003222",
]  # fmt: skip
"""Numbers that the networks publish for tests."""
ALPHABET = "0123456789 -._/\u00a0\u202fé¯\x80x"


@pytest.mark.parametrize("number", EXAMPLES)
@pytest.mark.parametrize("separator", ["", " ", "-", ".", "_", "/", "\u00a0", "\u202f"])
def test_a_number_is_found_however_it_is_grouped(number: str, separator: str) -> None:
    grouped = separator.join(number[at : at + 4] for at in range(0, len(number), 4))
    assert looks_like_pan(grouped)
    hidden = masked(f"card={grouped};")
    assert sum(letter.isdigit() for letter in hidden) == 4
    assert len(hidden) == len(f"card={grouped};")


@pytest.mark.parametrize("number", EXAMPLES)
@pytest.mark.parametrize("around", ["7{}", "{}7", "{} 12/29", "{}=2512", "99{}88", "2024-01-01 {}"])
def test_a_number_beside_other_digits_is_masked(number: str, around: str) -> None:
    assert number[:-4] not in masked(around.format(number))


@pytest.mark.parametrize("number", EXAMPLES)
@pytest.mark.parametrize("before", ["7", "12", "9" * 8])
def test_a_number_in_an_avro_attribute_is_masked(number: str, before: str) -> None:
    """The byte before a text is its length, which may be a digit or a separator itself."""
    record = {
        "transaction_id": before, "event_time": 1_700_000_000_000, "card_id": before,
        "customer_id": number, "merchant_id": before, "amount": 1, "currency": "EUR",
        "channel": "POS", "mcc": None, "device_id": None, "ip": None, "ip_country": None,
        "card_country": None, "merchant_country": None, "latitude": None, "longitude": None,
        "attributes": {before: number},
    }  # fmt: skip
    hidden = mask_numbers(avro.encode("Transaction", record))
    assert number[:-4].encode() not in hidden


def test_what_is_not_a_card_number_stays() -> None:
    for text in ("4111111111111112", "1234567890123", "12345", "2024-01-01 00:00:00.123", ""):
        assert masked(text) == text


def test_a_megabyte_of_digits_is_masked_at_once() -> None:
    hidden = mask_numbers(b"1" * 1_000_000)
    assert hidden == b"*" * 999_996 + b"1111"


@given(st.text(ALPHABET, max_size=30))
@settings(max_examples=500, deadline=None)
def test_the_kernel_recognises_the_same(text: str) -> None:
    data = np.frombuffer(text.encode() or b"\0", np.uint8)
    assert kernel.looks_like_pan(data, 0, len(text.encode())) == looks_like_pan(text)


@given(st.integers(10**11, 10**18 - 1))
@settings(max_examples=200)
def test_the_kernel_and_the_check_digit_agree(number: int) -> None:
    digits = str(number)
    data = np.frombuffer(digits.encode(), np.uint8)
    assert kernel.looks_like_pan(data, 0, len(digits)) == (len(digits) >= 13 and _luhn(digits))
