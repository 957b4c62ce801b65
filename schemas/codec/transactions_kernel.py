"""Compiled reading, checking and writing of Transactions.

LAYOUT is the only place that knows the order of the fields; a contract test compares it with
schemas/avro, and what is read and written with fastavro. Fields become columns by their kind: the
texts (TEXT_FIELDS) as spans int64[n, SPANS, 2] of the buffer, the whole numbers (NUMBER_FIELDS) as
int64[n, 5], latitude and longitude as float64[n, 2]. The last spans are those of the encoded
array `unread` and of the encoded map `attributes`.
"""

# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from schemas.codec.avro_reader import (
    matches,
    read_block,
    read_branch,
    read_long,
    read_optional_double,
    read_text,
    skip_texts,
)
from schemas.codec.avro_writer import (
    write_bytes,
    write_long,
    write_optional_double,
    write_text,
)
from schemas.codec.card_numbers_kernel import holds_pan, looks_like_pan
from schemas.columns import CHANNELS, KINDS
from schemas.keys import hash_span
from schemas.rules.countries import known_numbers

TEXT, OPTIONAL_TEXT, LONG, OPTIONAL_INT, ENUM, OPTIONAL_DOUBLE, MAP, ARRAY = range(8)
LAYOUT: Final = (
    ("transaction_id", TEXT),
    ("event_time", LONG),
    ("card_id", TEXT),
    ("customer_id", OPTIONAL_TEXT),
    ("merchant_id", TEXT),
    ("amount", LONG),
    ("currency", TEXT),
    ("mcc", OPTIONAL_INT),
    ("channel", ENUM),
    ("device_id", OPTIONAL_TEXT),
    ("ip", OPTIONAL_TEXT),
    ("ip_country", OPTIONAL_TEXT),
    ("card_country", OPTIONAL_TEXT),
    ("merchant_country", OPTIONAL_TEXT),
    ("latitude", OPTIONAL_DOUBLE),
    ("longitude", OPTIONAL_DOUBLE),
    ("attributes", MAP),
    ("kind", ENUM),
    ("unread", ARRAY),
)
TEXT_FIELDS: Final = tuple(name for name, kind in LAYOUT if kind in (TEXT, OPTIONAL_TEXT))
NUMBER_FIELDS: Final = tuple(name for name, kind in LAYOUT if kind in (LONG, OPTIONAL_INT, ENUM))
(
    TRANSACTION_ID, CARD, CUSTOMER, MERCHANT, CURRENCY, DEVICE, IP, IP_COUNTRY, CARD_COUNTRY,
    MERCHANT_COUNTRY, UNREAD, ATTRIBUTES,
) = range(12)  # fmt: skip
SPANS: Final = 12
TIME, AMOUNT, MCC, CHANNEL, KIND = range(5)
NO_MCC: Final = -1
CODES: Final = np.array(
    [{"channel": len(CHANNELS), "kind": len(KINDS)}.get(name, 0) for name in NUMBER_FIELDS]
)
"""How many symbols each number that is an enum has."""
_KINDS = np.array([kind for _, kind in LAYOUT], np.int64)
SLOW, GOOD, UNUSUAL_IP = range(3)
"""Outcome of a row: slow path; good; good but for an IP address that is not plain IPv4."""
MAX_ID, MAX_OPTIONAL_ID, MAX_IP_ADDRESS = 64, 256, 64
"""Characters."""
MAX_ATTRIBUTES, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTE = 100, 64, 1_000
"""How many attributes a client may send, and the characters of a name and of a text."""
GATEWAY_ATTRIBUTES = 2
"""Those that the gateway adds: tenant and key."""
MAX_MESSAGE = 65_536
"""Bytes; the feature vector and the dead letter around a transaction must fit the broker too."""
MAX_AMOUNT = 10**12
EARLIEST_MS = 946_684_800_000
"""The first event time accepted, 2000-01-01."""
MAX_AHEAD_MS = 300_000
"""How far an event time may lie behind the moment when its message arrived."""
COUNTRY_KNOWN = known_numbers()
SIGN = np.uint64(1 << 63)
INFINITY = np.uint64(0x7FF0 << 48)


@njit(cache=True)
def read_transaction(buffer, position, stop, row, spans, numbers, bits):
    """Read a Transaction body into `row` of spans, numbers and bits; return its end or -1.

    `bits` is the uint64 view of latitude and longitude. A missing text is the empty span (0, 0).
    """
    text, number, axis = 0, 0, 0
    for field in range(len(_KINDS)):
        kind = _KINDS[field]
        branch = np.uint8(1)
        if kind in (OPTIONAL_TEXT, OPTIONAL_INT):
            branch, position = read_branch(buffer, position, stop)
            if position < 0:
                return -1
        if kind in (TEXT, OPTIONAL_TEXT):
            start, end = 0, 0
            if branch:
                start, end = read_text(buffer, position, stop)
                # An empty optional text would look like a missing one: the slow path makes it null.
                if end < 0 or (start == end and kind == OPTIONAL_TEXT):
                    return -1
                position = end
            spans[row, text, 0], spans[row, text, 1] = start, end
            text += 1
        elif kind == OPTIONAL_DOUBLE:
            bits[row, axis], end = read_optional_double(buffer, position, stop)
            # A NaN that was sent would look like a missing one.
            if end < 0 or (end > position + 1 and bits[row, axis] & ~SIGN > INFINITY):
                return -1
            position = end
            axis += 1
        elif kind == MAP:
            spans[row, ATTRIBUTES, 0] = position
            position = skip_texts(buffer, position, stop, 2)
            spans[row, ATTRIBUTES, 1] = position
        elif kind == ARRAY:
            spans[row, UNREAD, 0] = position
            position = skip_texts(buffer, position, stop, 1)
            spans[row, UNREAD, 1] = position
        else:
            value = np.int64(NO_MCC)
            if branch:
                value, position = read_long(buffer, position, stop)
                if position < 0 or (kind == OPTIONAL_INT and value < 0):
                    return -1
                if kind == ENUM and not 0 <= value < CODES[number]:
                    return -1
            numbers[row, number] = value
            number += 1
    return position


@njit(cache=True, nogil=True)
def write_transactions(header, texts, bounds, codes, numbers, degrees, out, ends):
    """Write n Transactions without attributes, all read; fill `ends` (int64[n]), the ends in `out`.

    Text field f of row i is `texts[bounds[c]:bounds[c + 1]]` with c = `codes[f, i]`, null if c is
    -1. `numbers` (int64[n, 5]) and `degrees` (float64[n, 2]) are as they are read, NO_MCC and NaN
    for null.
    """
    at = 0
    for row in range(len(ends)):
        at = write_bytes(out, at, header, 0, len(header))
        text, number, axis = 0, 0, 0
        for field in range(len(_KINDS)):
            kind = _KINDS[field]
            if kind in (TEXT, OPTIONAL_TEXT):
                code = codes[text, row]
                if kind == OPTIONAL_TEXT:
                    out[at] = 2 * (code >= 0)
                    at += 1
                if code >= 0:
                    at = write_text(out, at, texts, bounds[code], bounds[code + 1])
                text += 1
            elif kind == OPTIONAL_DOUBLE:
                at = write_optional_double(out, at, degrees[row, axis])
                axis += 1
            elif kind in (MAP, ARRAY):
                out[at] = 0
                at += 1
            else:
                value = numbers[row, number]
                if kind == OPTIONAL_INT:
                    out[at] = 2 * (value >= 0)
                    at += 1
                if kind != OPTIONAL_INT or value >= 0:
                    at = write_long(out, at, value)
                number += 1
        ends[row] = at


@njit(cache=True, inline="always")
def has_characters(buffer, spans, row, field, minimum, maximum):
    """Whether a text has `minimum` (0 or 1) to `maximum` characters."""
    start, end = spans[row, field, 0], spans[row, field, 1]
    if end - start <= maximum:
        return end - start >= minimum
    count = 0
    for position in range(start, end):
        count += (buffer[position] & 0xC0) != 0x80
    return count <= maximum


@njit(cache=True)
def is_plain_ipv4(buffer, start, stop):
    """Whether a text is four decimal numbers of 0-255 without leading zeros."""
    parts, size, value = 1, 0, 0
    for position in range(start, stop):
        byte = np.int64(buffer[position])
        if byte == 0x2E:
            if size == 0:
                return False
            parts, size, value = parts + 1, 0, 0
        elif 0x30 <= byte <= 0x39:
            if size > 0 and value == 0:
                return False
            value, size = value * 10 + byte - 0x30, size + 1
            if value > 255:
                return False
        else:
            return False
    return parts == 4 and size > 0


@njit(cache=True, inline="always")
def letters(buffer, spans, row, field, size):
    """Return `size` upper-case letters packed to a number, 0 if missing, -1 if anything else."""
    start, end = spans[row, field, 0], spans[row, field, 1]
    if start == end:
        return 0
    if end - start != size:
        return -1
    value = 0
    for position in range(start, end):
        if not 0x41 <= buffer[position] <= 0x5A:
            return -1
        value = value << 8 | np.int64(buffer[position])
    return value


@njit(cache=True, inline="always")
def country(buffer, spans, row, field):
    """Return a country's packed letters, 0 if missing, -1 if it is not known."""
    code = letters(buffer, spans, row, field, 2)
    return code if code <= 0 or COUNTRY_KNOWN[code] else -1


@njit(cache=True, inline="always")
def text_hash(buffer, spans, row, field):
    """Return the hash of a text, 0 if missing."""
    start, end = spans[row, field, 0], spans[row, field, 1]
    if start == end:
        return np.uint64(0)
    return hash_span(buffer, start, end)


@njit(cache=True)
def has_unusual_attributes(buffer, position, stop):
    """Whether the rule book may change an encoded map, which is sound: too much, or a number."""
    entries = 0
    while True:
        count, position = read_block(buffer, position, stop)
        if count == 0:
            return False
        entries += count
        if entries > MAX_ATTRIBUTES + GATEWAY_ATTRIBUTES:
            return True
        for index in range(2 * count):
            start, position = read_text(buffer, position, stop)
            if position - start > (MAX_ATTRIBUTE if index & 1 else MAX_ATTRIBUTE_NAME):
                return True
            if holds_pan(buffer, start, position):
                return True


@njit(cache=True)
def has_unusual_texts(buffer, spans, row):
    """Whether the rule book has to look at the texts that a sender chooses freely."""
    for field in (TRANSACTION_ID, CARD, CUSTOMER, MERCHANT, DEVICE):
        if holds_pan(buffer, spans[row, field, 0], spans[row, field, 1]):
            return True
    start, stop = spans[row, ATTRIBUTES, 0], spans[row, ATTRIBUTES, 1]
    return stop - start > 1 and has_unusual_attributes(buffer, start, stop)


@njit(cache=True)
def decode_rows(
    buffer, starts, header, latest, codes, scales, clean, spans, numbers, degrees, columns
):
    """Decode and check n messages `buffer[starts[i]:starts[i+1]]`; return outcomes uint8[n].

    `latest` (int64[n], ms) bounds the event times. `clean` messages were written by the slow path,
    others must not be too long, nor say that something could not be read. Rows of `columns`
    (TransactionColumns) with the outcome SLOW hold nothing of use. One loop in one function:
    passing the columns on row by row costs more than the checks.
    """
    count = len(starts) - 1
    outcome = np.zeros(count, np.uint8)
    bits = degrees.view(np.uint64)
    for row in range(count):
        start, stop = starts[row], starts[row + 1]
        if stop - start < len(header) or (stop - start > MAX_MESSAGE and not clean):
            continue
        if not matches(buffer, start, header):
            continue
        body = start + len(header)
        if read_transaction(buffer, body, stop, row, spans, numbers, bits) != stop:
            continue
        if spans[row, UNREAD, 1] - spans[row, UNREAD, 0] > 1 and not clean:
            continue
        time, amount, mcc = numbers[row, TIME], numbers[row, AMOUNT], numbers[row, MCC]
        if not EARLIEST_MS <= time <= latest[row] or not 0 <= amount <= MAX_AMOUNT or mcc > 9999:
            continue
        if not (
            has_characters(buffer, spans, row, TRANSACTION_ID, 1, MAX_ID)
            and has_characters(buffer, spans, row, CARD, 1, MAX_ID)
            and has_characters(buffer, spans, row, MERCHANT, 1, MAX_ID)
            and has_characters(buffer, spans, row, CUSTOMER, 0, MAX_OPTIONAL_ID)
            and has_characters(buffer, spans, row, DEVICE, 0, MAX_OPTIONAL_ID)
        ):
            continue
        if looks_like_pan(buffer, spans[row, CARD, 0], spans[row, CARD, 1]):
            continue
        if not clean and has_unusual_texts(buffer, spans, row):
            continue
        code, known = letters(buffer, spans, row, CURRENCY, 3), -1
        for index in range(len(codes)):
            if codes[index] == code:
                known = index
                break
        if known < 0:
            continue
        if scales[known] != 1.0:
            converted = np.rint(amount * scales[known])
            if converted > MAX_AMOUNT:
                continue
            amount = np.int64(converted)
        latitude, longitude = degrees[row, 0], degrees[row, 1]
        # NaN (missing) passes both.
        if latitude < -90 or latitude > 90 or longitude < -180 or longitude > 180:
            continue
        card_country = country(buffer, spans, row, CARD_COUNTRY)
        merchant_country = country(buffer, spans, row, MERCHANT_COUNTRY)
        ip_country = country(buffer, spans, row, IP_COUNTRY)
        if card_country < 0 or merchant_country < 0 or ip_country < 0:
            continue
        columns.time[row], columns.amount[row] = time, amount
        columns.transaction[row] = text_hash(buffer, spans, row, TRANSACTION_ID)
        columns.card[row] = text_hash(buffer, spans, row, CARD)
        columns.merchant[row] = text_hash(buffer, spans, row, MERCHANT)
        columns.device[row] = text_hash(buffer, spans, row, DEVICE)
        columns.position[row] = 0
        if not (np.isnan(latitude) or np.isnan(longitude) or latitude == longitude == 0.0):
            east = np.uint64(np.int64(np.rint(longitude * 1e7)) + 2**31)
            columns.position[row] = (
                np.uint64(np.int64(np.rint(latitude * 1e7)) + 2**31) << np.uint64(32) | east
            )
        columns.mcc[row], columns.channel[row] = mcc, numbers[row, CHANNEL]
        columns.card_country[row] = card_country
        columns.merchant_country[row] = merchant_country
        columns.ip_country[row] = ip_country
        columns.kind[row] = numbers[row, KIND]
        start, end = spans[row, IP, 0], spans[row, IP, 1]
        columns.ip[row] = text_hash(buffer, spans, row, IP)
        if end - start > MAX_IP_ADDRESS:
            continue
        if start < end and not is_plain_ipv4(buffer, start, end):
            outcome[row] = UNUSUAL_IP
        else:
            outcome[row] = GOOD
    return outcome
