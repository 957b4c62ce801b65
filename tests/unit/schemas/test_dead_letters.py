"""A dead letter holds no card number, wherever its parts are cut."""

from __future__ import annotations

import pytest

from schemas.codec import avro
from schemas.dead_letters import MAX_KEY_BYTES, MAX_VALUE_BYTES, dead_letter

PAN = b"4111111111111111"


@pytest.mark.parametrize("cut", range(1, len(PAN)))
def test_a_number_across_the_cut_is_masked(cut: int) -> None:
    key = b" " * (MAX_KEY_BYTES - len(PAN) + cut) + PAN
    value = b" " * (MAX_VALUE_BYTES - len(PAN) + cut) + PAN
    safe_key, message = dead_letter("t", 0, 1, key, value, ValueError("x"), 7)
    letter = avro.decode(message)[1]
    assert (len(letter["key"]), len(letter["value"])) == (MAX_KEY_BYTES, MAX_VALUE_BYTES)
    for part in (safe_key, letter["key"], letter["value"]):
        assert part is not None
        assert sum(each in b"0123456789" for each in part) <= 4
