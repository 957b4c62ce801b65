"""Limits on open connections, in all and by address, which hold before any request is read.

Each connection takes a file handle. Whoever opens them without end would otherwise keep everybody
else out, without a key or a log-in.
"""

from __future__ import annotations

import ipaddress
import resource
import sys
from collections import Counter
from typing import Final

import structlog

from runtime.metrics import Metrics
from runtime.repeated_lines import RepeatedLines

log = structlog.get_logger(__name__)
SPARE_HANDLES: Final = 200
"""File handles that are kept for everything else: Kafka, Redis, the database, files."""
_IPV6_PREFIX: Final = 64
"""Whoever has one IPv6 address usually has this network."""


def raise_file_limit() -> int:
    """Raise the soft limit on open files to the hard one; return the number that may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            log.warning("the limit on open files stays as it is", limit=soft, reason=str(error))
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


class ConnectionLimits:
    """Counts connections; use it on the event loop's thread.

    Args:
        total: connections that may be open at the same time.
        by_address: of which from one IP address, or one IPv6 network of 64 bits.
        trusted: IP addresses and networks of proxies, separated by commas. All clients of a proxy
            have its address, so only `total` counts there.
    """

    def __init__(self, total: int, by_address: int, trusted: str, metrics: Metrics) -> None:
        self._total, self._by_address, self._metrics = total, by_address, metrics
        self._trusted = [
            ipaddress.ip_network(each.strip(), strict=False)
            for each in trusted.split(",")
            if each.strip()
        ]
        self._open: Counter[str] = Counter()
        self._lines = RepeatedLines()

    def admit(self, address: str | None) -> bool:
        """Count a connection from `address` and return True, or False if it is one too many."""
        place = self._place(address)
        limit = ""
        if self._open.total() >= self._total:
            limit = "total"
        elif place and self._open[place] >= self._by_address:
            limit = "address"
        if not limit:
            self._open[place] += 1
            return True
        self._metrics.count("connections_refused", limit=limit)
        if (more := self._lines.due(limit)) is not None:
            log.warning("connection refused", limit=limit, client=address, more=more)
        return False

    def release(self, address: str | None) -> None:
        """Count an admitted connection no longer."""
        place = self._place(address)
        self._open[place] -= 1
        if self._open[place] <= 0:
            del self._open[place]

    def _place(self, address: str | None) -> str:
        """Return under what an address is counted, "" if there is no limit of its own."""
        try:
            found = ipaddress.ip_address(address or "")
        except ValueError:
            return ""
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        if any(found in network for network in self._trusted):
            return ""
        if found.version == 4:
            return str(found)
        return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
