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
import numpy.typing as npt
from numba import njit

_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)
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


def identities(
    transaction: npt.NDArray[np.uint64], card: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return a non-zero hash for each pair of hashes of transaction id and card id.

    A transaction id is unique on its card only: terminals count, and their numbers roll over.
    """
    with np.errstate(over="ignore"):
        mixed = transaction ^ (card * _MIXER)
    return np.maximum(mixed, np.uint64(1))


def normalise_ip(text: str) -> str:
    """Return the IP address under which state is kept: v4 as it is, v6 as its /64 network.

    >>> normalise_ip("2001:db8::1"), normalise_ip("::ffff:192.0.2.1")
    ('2001:db8::/64', '192.0.2.1')

    Raises:
        ValueError: it is not an IP address.
    """
    address = plain_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address; an IPv4 address that was written as IPv6 is IPv4.

    Raises:
        ValueError: it is not an IP address.
    """
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def entity_key(prefix: bytes, kind: EntityKind, identity: int) -> bytes:
    """Return the Redis key of an entity by its hash."""
    return prefix + KEY_LETTER[kind] + struct.pack("<Q", identity)


def refused_key(prefix: bytes, key: bytes) -> bytes:
    """Return the Redis key under which the unreadable value of an entity's `key` is kept."""
    return prefix + b"refused:" + key.removeprefix(prefix)
