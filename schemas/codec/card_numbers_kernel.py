"""Compiled search for card numbers in texts: the same rules as `schemas.card_numbers`.

A contract test compares both on made-up texts.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from numba import njit

SHORTEST, SHORTEST_SURE, LONGEST = 13, 14, 19
MAX_SEPARATORS = 2
UUID_SIZE = 36


@njit(cache=True, inline="always")
def _is_digit(byte):
    return 0x30 <= byte <= 0x39


@njit(cache=True, inline="always")
def separator_size(buffer, at, stop):
    """Return how many bytes the separator at `at` has, 0 if there is none."""
    byte = buffer[at]
    if byte == 0x20 or 0x2D <= byte <= 0x2F or byte == 0x5F:
        return 1
    if byte == 0xC2 and at + 1 < stop and buffer[at + 1] == 0xA0:
        return 2
    if byte == 0xE2 and at + 2 < stop and buffer[at + 1] == 0x80 and buffer[at + 2] == 0xAF:
        return 3
    return 0


@njit(cache=True)
def looks_like_pan(buffer, start, stop):
    """Whether a text is a card number, see `schemas.card_numbers.looks_like_pan`."""
    digits, even, odd = 0, 0, 0
    at = start
    while at < stop:
        if _is_digit(buffer[at]):
            value = int(buffer[at]) - 0x30
            doubled = 2 * value - (9 if value > 4 else 0)
            even += doubled if digits & 1 == 0 else value
            odd += doubled if digits & 1 else value
            digits += 1
            at += 1
        else:
            size = separator_size(buffer, at, stop)
            if size == 0:
                return False
            at += size
    total = even if digits & 1 == 0 else odd
    return SHORTEST <= digits <= LONGEST and total % 10 == 0


@njit(cache=True)
def is_sure_prefix(four, digits):
    """Whether a network issues numbers of so many digits that begin with these four."""
    two = four // 100
    if two == 36 or two == 38 or two == 39 or 3000 <= four <= 3059:
        return digits >= 14
    if two == 34 or two == 37:
        return digits == 15
    if 40 <= two <= 49:
        return digits == 16 or digits == 19
    if 51 <= two <= 55 or 2200 <= four <= 2204 or 2221 <= four <= 2720:
        return digits == 16
    return digits >= 16 and (
        two == 50 or 56 <= two <= 69 or two == 81 or two == 82 or 3528 <= four <= 3589
    )


@njit(cache=True, inline="always")
def _is_hexadecimal_letter(byte):
    return 0x41 <= byte <= 0x46 or 0x61 <= byte <= 0x66


@njit(cache=True)
def _begins_here(buffer, start, stop):
    """Whether whole groups of digits from `start` on are a card number."""
    digits, even, odd, four = 0, 0, 0, 0
    at = start
    while at < stop and digits < LONGEST:
        value = int(buffer[at]) - 0x30
        doubled = 2 * value - (9 if value > 4 else 0)
        even += doubled if digits & 1 == 0 else value
        odd += doubled if digits & 1 else value
        if digits < 4:
            four = four * 10 + value
        digits += 1
        at += 1
        if at < stop and _is_digit(buffer[at]):
            continue
        if at < stop and _is_hexadecimal_letter(buffer[at]):
            return False
        total = even if digits & 1 == 0 else odd
        if total % 10 == 0 and is_sure_prefix(four, digits):
            return True
        for _ in range(MAX_SEPARATORS):
            if at < stop:
                at += separator_size(buffer, at, stop)
        if at >= stop or not _is_digit(buffer[at]):
            return False
    return False


@njit(cache=True)
def _is_uuid(buffer, start, stop):
    """Whether a text has the form of a UUID: groups of 8, 4, 4, 4 and 12 hexadecimal digits."""
    if stop - start != UUID_SIZE:
        return False
    for at in range(UUID_SIZE):
        byte = buffer[start + at]
        if at == 8 or at == 13 or at == 18 or at == 23:
            if byte != 0x2D:
                return False
        elif not (_is_digit(byte) or _is_hexadecimal_letter(byte)):
            return False
    return True


@njit(cache=True)
def holds_pan(buffer, start, stop):
    """Whether a card number stands in a text, see `schemas.card_numbers.number_in`."""
    digits = 0
    for at in range(start, stop):
        digits += _is_digit(buffer[at])
    if digits < SHORTEST_SURE or _is_uuid(buffer, start, stop):
        return False
    at = start
    while stop - at >= SHORTEST_SURE:
        if not _is_digit(buffer[at]):
            at += 1
            continue
        beside = at > start and _is_hexadecimal_letter(buffer[at - 1])
        if not beside and _begins_here(buffer, at, stop):
            return True
        while at < stop and _is_digit(buffer[at]):
            at += 1
    return False
