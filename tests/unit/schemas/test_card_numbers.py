"""Card numbers are found however they are written, and nothing of them is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.card_numbers import (
    _luhn,
    card_number,
    is_token,
    key_id,
    looks_like_pan,
    mask_numbers,
    masked,
    number_in,
    tokenised,
)
from schemas.codec import avro
from schemas.codec import card_numbers_kernel as kernel

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


@given(
    st.text(ALPHABET, max_size=40)
    | st.lists(
        st.sampled_from(
            [
                *EXAMPLES,
                *"0123456789 -xaF",
                "41111111-1111-1111-8000-000000000000",
                "12/29",
                "  ",
                "\u00a0",
                "4111 1111 1111 1111",
                "411111",
            ]
        )
    ).map("".join)
)
@settings(max_examples=1000, deadline=None)
def test_the_kernel_finds_the_same_in_a_text(text: str) -> None:
    data = np.frombuffer(text.encode() or b"\0", np.uint8)
    assert kernel.holds_pan(data, 0, len(text.encode())) == (number_in(text) is not None)


@given(st.integers(10**12, 10**19 - 1))
@settings(max_examples=500, deadline=None)
def test_the_kernel_knows_the_same_networks(number: int) -> None:
    text = str(number)
    data = np.frombuffer(text.encode(), np.uint8)
    assert kernel.holds_pan(data, 0, len(text)) == (number_in(text) is not None)


@pytest.mark.parametrize("number", [each for each in EXAMPLES if len(each) != 13])
@pytest.mark.parametrize(
    "around", ["{}", "{} 12/29", "order {}", "{}-1", "order{}x", "2024-01-01 {}", "{},{}", "x  {}"]
)
def test_a_number_is_found_in_a_text(number: str, around: str) -> None:
    assert number_in(around.format(number, number)) == number
    grouped = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    assert number_in(around.format(grouped, grouped)) == number


@pytest.mark.parametrize(
    "text",
    [
        "550e8400-e29b-41d4-a716-446655440000", "41111111-1111-1111-8000-000000000000",
        f"a{VISA}", f"{VISA}f", f"1234a{VISA}", "94111111111111111", "41111111111111110",
        "1750000000000000017", "20240101123000456789", "2024-01-01-00000000000000000017",
        "4111-1111-1111-1112", "1234567890123452", "", "4111   1111   1111   1111",
    ],
)  # fmt: skip
def test_usual_ids_hold_no_number(text: str) -> None:
    assert number_in(text) is None


def test_a_number_of_nineteen_digits_is_found() -> None:
    assert number_in("order 4000000000000000006") == "4000000000000000006"


def test_one_in_twenty_random_ids_of_sixteen_digits_looks_like_a_number_and_no_time_does() -> None:
    drawn = np.random.default_rng(1).integers(10**15, 10**16, 20_000).tolist()
    assert 0.03 < sum(number_in(str(each)) is not None for each in drawn) / len(drawn) < 0.06
    times = range(1_750_000_000_000, 1_750_000_020_000)
    assert not any(number_in(f"{time}{tail}") for time in times for tail in ("", "000", "000000"))


def test_a_token_names_its_key_and_is_no_number() -> None:
    key = b"k" * 32
    token = tokenised("4111 1111 1111 1111", key)
    assert token == tokenised(VISA, key) == f"pan1-{key_id(key)}-{token[-32:]}"
    assert key_id(key) != key_id(b"l" * 32)
    assert token[-32:] != tokenised(VISA, b"l" * 32)[-32:]
    assert is_token(token)
    digits = f"pan1-{'4' * 8}-{VISA}{'0' * 16}"
    assert card_number(digits) is None
    assert card_number(f"{VISA} 12/29") == VISA
    assert card_number("1234567890123452") == "1234567890123452"


@given(st.integers(10**11, 10**18 - 1))
@settings(max_examples=200)
def test_the_kernel_and_the_check_digit_agree(number: int) -> None:
    digits = str(number)
    data = np.frombuffer(digits.encode(), np.uint8)
    assert kernel.looks_like_pan(data, 0, len(digits)) == (len(digits) >= 13 and _luhn(digits))
