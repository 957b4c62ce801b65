"""Compiled reading of the Avro bodies on the hot path; `writing_kernel` writes them.

Layouts follow schemas/avro field by field; a contract test compares every path with fastavro.
A position of -1 means "not readable here": the row then takes the slow path, which says why.
Source: Apache Avro 1.12 specification, "Binary encoding".
"""

# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from schemas.keys import hash_span

TEXT_FIELDS: Final = (
    "transaction_id", "card_id", "customer_id", "merchant_id", "currency", "device_id", "ip",
    "ip_country", "card_country", "merchant_country",
)  # fmt: skip
TRANSACTION_ID, CARD, CUSTOMER, MERCHANT, CURRENCY, DEVICE, IP = 0, 1, 2, 3, 4, 5, 6
IP_COUNTRY, CARD_COUNTRY, MERCHANT_COUNTRY = 7, 8, 9
TIME, AMOUNT, MCC, CHANNEL = 0, 1, 2, 3
PARTITION, OFFSET, RECEIVED, COMPUTED, DUPLICATE, LATE, FINGERPRINT_AT, VECTOR_AT, VECTOR_SIZE = (
    0, 1, 2, 3, 4, 5, 6, 7, 8,
)  # fmt: skip
SLOW, GOOD, ADDRESS = 0, 1, 2
"""Outcome of a row: slow path; good; good but for an address that is not plain IPv4."""
MAX_ID, MAX_OPTIONAL_ID = 64, 256
MAX_ADDRESS = 64
MAX_MESSAGE = 65_536
"""Bytes; the feature vector and the dead letter around a transaction must fit the broker too."""
MAX_AMOUNT = 10**12
EARLIEST = 946_684_800_000
MAX_AHEAD = 300_000
MISSING = np.uint64(0x7FF8 << 48)
INFINITY = np.uint64(0x7FF0 << 48)
SIGN = np.uint64(1 << 63)
U7, U63, U1 = np.uint64(7), np.uint64(63), np.uint64(1)


@njit(cache=True, inline="always")
def read_long(buffer, position, stop):
    """Read a zig-zag varint: (value, next position or -1)."""
    value, shift = np.uint64(0), np.uint64(0)
    while position < stop:
        byte = np.uint64(buffer[position])
        position += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            if shift == U63 and byte > U1:
                return np.int64(0), -1
            return np.int64(value >> U1) ^ -np.int64(value & U1), position
        shift += U7
        if shift > U63:
            break
    return np.int64(0), -1


@njit(cache=True)
def is_utf8(buffer, position, stop):
    """Whether the bytes are UTF-8: no overlong forms, no surrogates, at most U+10FFFF."""
    seen = np.uint8(0)
    for index in range(position, stop):
        seen |= buffer[index]
    if seen < 0x80:
        return True
    while position < stop:
        lead = buffer[position]
        position += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if position + more > stop or not low <= buffer[position] <= high:
            return False
        for index in range(position + 1, position + more):
            if not 0x80 <= buffer[index] <= 0xBF:
                return False
        position += more
    return True


@njit(cache=True, inline="always")
def read_text(buffer, position, stop):
    """Read a string: (start, end), end -1 if it is cut short or not UTF-8."""
    size, start = read_long(buffer, position, stop)
    if start < 0 or size < 0 or size > stop - start:
        return 0, -1
    if not is_utf8(buffer, start, start + size):
        return 0, -1
    return start, start + size


@njit(cache=True, inline="always")
def read_branch(buffer, position, stop):
    """Read the index of a ["null", x] union: (0 or 1, next position or -1)."""
    if position >= stop or (buffer[position] != 0 and buffer[position] != 2):
        return 0, -1
    return buffer[position] >> 1, position + 1


@njit(cache=True)
def skip_map(buffer, position, stop):
    """Skip a map of strings, checking it; return the next position or -1."""
    while True:
        count, position = read_long(buffer, position, stop)
        if position < 0:
            return -1
        if count == 0:
            return position
        if count < 0:
            count = -count
            _, position = read_long(buffer, position, stop)
            if position < 0:
                return -1
        if count < 0 or count > stop - position:
            return -1
        for _index in range(2 * count):
            _, position = read_text(buffer, position, stop)
            if position < 0:
                return -1


@njit(cache=True)
def read_transaction(buffer, position, stop, row, spans, numbers, bits):
    """Read a Transaction body into `row` of spans, numbers and bits; return its end or -1.

    `bits` is the uint64 view of latitude and longitude.
    """
    for field in range(10):
        if field == 1:
            numbers[row, TIME], position = read_long(buffer, position, stop)
        elif field == 4:
            numbers[row, AMOUNT], position = read_long(buffer, position, stop)
        elif field == 5:
            branch, position = read_branch(buffer, position, stop)
            numbers[row, MCC] = -1
            if position >= 0 and branch:
                numbers[row, MCC], position = read_long(buffer, position, stop)
                if numbers[row, MCC] < 0:
                    return -1
            if position < 0:
                return -1
            numbers[row, CHANNEL], position = read_long(buffer, position, stop)
            if not 0 <= numbers[row, CHANNEL] <= 4:
                return -1
        if position < 0:
            return -1
        if field == CUSTOMER or field >= DEVICE:
            branch, position = read_branch(buffer, position, stop)
            if position < 0:
                return -1
            if branch == 0:
                spans[row, field, 0], spans[row, field, 1] = 0, 0
                continue
        start, end = read_text(buffer, position, stop)
        if end < 0:
            return -1
        # An empty optional text would look like a missing one: the slow path makes it null.
        if start == end and (field == CUSTOMER or field >= DEVICE):
            return -1
        spans[row, field, 0], spans[row, field, 1] = start, end
        position = end
    for axis in range(2):
        branch, position = read_branch(buffer, position, stop)
        if position < 0:
            return -1
        bits[row, axis] = MISSING
        if branch:
            if position + 8 > stop:
                return -1
            value = np.uint64(0)
            for index in range(8):
                value |= np.uint64(buffer[position + index]) << np.uint64(8 * index)
            if value & ~SIGN > INFINITY:  # NaN
                return -1
            bits[row, axis] = value
            position += 8
    return skip_map(buffer, position, stop)


@njit(cache=True, inline="always")
def fits(buffer, spans, row, field, least, most):
    """Whether a text has `least` (0 or 1) to `most` characters."""
    start, end = spans[row, field, 0], spans[row, field, 1]
    if end - start <= most:
        return end - start >= least
    count = 0
    for position in range(start, end):
        count += (buffer[position] & 0xC0) != 0x80
    return count <= most


@njit(cache=True)
def looks_like_pan(buffer, start, stop):
    """13 to 19 digits, blanks and hyphens between them ignored, that pass the Luhn check."""
    digits, total = 0, 0
    for back in range(stop - start):
        byte = buffer[stop - 1 - back]
        if byte == 0x20 or byte == 0x2D:
            continue
        if not 0x30 <= byte <= 0x39:
            return False
        digit = np.int64(byte) - 0x30
        if digits & 1:
            digit = 2 * digit - (9 if digit > 4 else 0)
        total += digit
        digits += 1
    return 13 <= digits <= 19 and total % 10 == 0


@njit(cache=True)
def is_plain_ipv4(buffer, start, stop):
    """Four decimal numbers of 0-255 without leading zeros."""
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
    """Upper-case letters packed to a number, 0 if missing, -1 if anything else."""
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
def text_hash(buffer, spans, row, field):
    """Hash of a text, 0 if missing."""
    start, end = spans[row, field, 0], spans[row, field, 1]
    if start == end:
        return np.uint64(0)
    return hash_span(buffer, start, end)


@njit(cache=True)
def decode_rows(buffer, starts, header, latest, codes, scales, spans, numbers, degrees, columns):
    """Decode and check n messages `buffer[starts[i]:starts[i+1]]`; return outcomes uint8[n].

    `latest` (int64[n], ms) bounds the event times. Rows of `columns` (TransactionColumns) with the
    outcome SLOW hold nothing of use. One loop in one function: passing the columns on row by row
    costs more than the checks.
    """
    count = len(starts) - 1
    outcome = np.zeros(count, np.uint8)
    bits = degrees.view(np.uint64)
    for row in range(count):
        start, stop = starts[row], starts[row + 1]
        if not len(header) <= stop - start <= MAX_MESSAGE:
            continue
        same = True
        for index in range(len(header)):
            same &= buffer[start + index] == header[index]
        if not same:
            continue
        body = start + len(header)
        if read_transaction(buffer, body, stop, row, spans, numbers, bits) != stop:
            continue
        time, amount, mcc = numbers[row, TIME], numbers[row, AMOUNT], numbers[row, MCC]
        if not EARLIEST <= time <= latest[row] or not 0 <= amount <= MAX_AMOUNT or mcc > 9999:
            continue
        if not (
            fits(buffer, spans, row, TRANSACTION_ID, 1, MAX_ID)
            and fits(buffer, spans, row, CARD, 1, MAX_ID)
            and fits(buffer, spans, row, MERCHANT, 1, MAX_ID)
            and fits(buffer, spans, row, CUSTOMER, 0, MAX_OPTIONAL_ID)
            and fits(buffer, spans, row, DEVICE, 0, MAX_OPTIONAL_ID)
        ):
            continue
        if looks_like_pan(buffer, spans[row, CARD, 0], spans[row, CARD, 1]):
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
        card_country = letters(buffer, spans, row, CARD_COUNTRY, 2)
        merchant_country = letters(buffer, spans, row, MERCHANT_COUNTRY, 2)
        ip_country = letters(buffer, spans, row, IP_COUNTRY, 2)
        if card_country < 0 or merchant_country < 0 or ip_country < 0:
            continue
        columns.time[row], columns.amount[row] = time, amount
        columns.transaction[row] = text_hash(buffer, spans, row, TRANSACTION_ID)
        columns.card[row] = text_hash(buffer, spans, row, CARD)
        columns.merchant[row] = text_hash(buffer, spans, row, MERCHANT)
        columns.device[row] = text_hash(buffer, spans, row, DEVICE)
        columns.position[row] = 0
        if not (np.isnan(latitude) or np.isnan(longitude)):
            east = np.uint64(np.int64(np.rint(longitude * 1e7)) + 2**31)
            columns.position[row] = (
                np.uint64(np.int64(np.rint(latitude * 1e7)) + 2**31) << np.uint64(32) | east
            )
        columns.mcc[row], columns.channel[row] = mcc, numbers[row, CHANNEL]
        columns.card_country[row] = card_country
        columns.merchant_country[row] = merchant_country
        columns.ip_country[row] = ip_country
        start, end = spans[row, IP, 0], spans[row, IP, 1]
        columns.ip[row] = text_hash(buffer, spans, row, IP)
        if end - start > MAX_ADDRESS:
            continue
        if start < end and not is_plain_ipv4(buffer, start, end):
            outcome[row] = ADDRESS
        else:
            outcome[row] = GOOD
    return outcome
