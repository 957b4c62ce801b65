"""IP addresses and networks in a policy: which of the transactions' addresses they match.

An address means what it means to the features: an IPv4 address itself, however it is written, and
of an IPv6 address its /64 network. A network (198.51.100.0/24, 2001:db8::/48) means itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.keys import normalise_ip, plain_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
REMEMBERED: Final = 65_536
"""Addresses of transactions that need not be parsed again."""
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


class Addresses:
    """A set of addresses and networks, and "", which stands for a missing address.

    >>> listed = Addresses(["192.0.2.7", "2001:db8::/48"])
    >>> [text in listed for text in ("::ffff:192.0.2.7", "2001:DB8:0:1::9", "192.0.2.8", "")]
    [True, True, False, False]
    """

    def __init__(self, values: Iterable[str]) -> None:
        """Texts that are neither address nor network match nothing."""
        self._missing = False
        self._starts: dict[tuple[int, int], set[int]] = {}
        for value in values:
            if value == "":
                self._missing = True
                continue
            network = network_of(value)
            if network is not None:
                kind = network.version, network.max_prefixlen - network.prefixlen
                self._starts.setdefault(kind, set()).add(int(network.network_address) >> kind[1])

    def __contains__(self, text: str) -> bool:
        """Return whether a transaction's address, "" for a missing one, is in the set."""
        if text == "":
            return self._missing
        version, number = _parsed(text)
        return any(
            kind == version and number >> rest in starts
            for (kind, rest), starts in self._starts.items()
        )

    def among(self, column: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
        """Return for each row whether its address is in the set."""
        texts, rows = np.unique(column, return_inverse=True)
        found: Any = np.array([str(text) in self for text in texts], np.bool_)
        inside: npt.NDArray[np.bool_] = found[rows]
        return inside


def network_of(value: str) -> Network | None:
    """Return the network that a value of a policy means, None if it means none."""
    try:
        if "/" not in value:
            return ipaddress.ip_network(normalise_ip(value))
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        start = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((start, network.prefixlen - 96))
    return network


@lru_cache(REMEMBERED)
def _parsed(text: str) -> tuple[int, int]:
    """Return version and number of an address; version 0 of a text that is none."""
    try:
        address = plain_address(text)
    except ValueError:
        return 0, 0
    return address.version, int(address)
