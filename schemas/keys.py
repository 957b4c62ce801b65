"""Identity: the 64-bit hash of an id, and the Redis keys made of it.

FNV-1a over the UTF-8 bytes, finished by the splitmix64 mixer, so that every process and
machine agrees (Python's own `hash` differs between processes). 0 is reserved for "missing".
Sources: Fowler/Noll/Vo, http://www.isthe.com/chongo/tech/comp/fnv/ ; Steele et al., splitmix64.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, Literal

import numpy as np
from numba import njit

EntityKind = Literal["card", "merchant", "device", "ip"]
KEY_LETTER: Final[dict[EntityKind, bytes]] = {
    "card": b"c",
    "merchant": b"m",
    "device": b"d",
    "ip": b"i",
}


@njit(cache=True, inline="always")
def hash_span(buffer, start, stop):  # type: ignore[no-untyped-def]
    """Hash `buffer[start:stop]` (uint8 array) to a non-zero uint64."""
    value = np.uint64(0xCBF29CE484222325)
    for position in range(start, stop):
        value = (value ^ np.uint64(buffer[position])) * np.uint64(0x100000001B3)
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    if value == np.uint64(0):
        value = np.uint64(1)
    return value


@njit(cache=True)
def hash_spans(buffer, offsets):  # type: ignore[no-untyped-def]
    """Hash n spans `buffer[offsets[i]:offsets[i+1]]`; an empty span is 0 (missing)."""
    count = len(offsets) - 1
    out = np.zeros(count, np.uint64)
    for index in range(count):
        if offsets[index + 1] > offsets[index]:
            out[index] = hash_span(buffer, offsets[index], offsets[index + 1])
    return out


def hash_id(text: str) -> int:
    """Return the non-zero 64-bit hash of one id."""
    data = np.frombuffer(text.encode(), np.uint8)
    return int(hash_span(data, 0, len(data)))


def normalise_ip(text: str) -> str:
    """Return the IP address under which state is kept: v4 as it is, v6 as its /64 network.

    >>> normalise_ip("2001:db8::1"), normalise_ip("::ffff:192.0.2.1")
    ('2001:db8::/64', '192.0.2.1')

    Raises:
        ValueError: it is not an IP address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def entity_key(prefix: bytes, kind: EntityKind, identity: int) -> bytes:
    """Return the Redis key of an entity by its hash."""
    return prefix + KEY_LETTER[kind] + struct.pack("<Q", identity)
