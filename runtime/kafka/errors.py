"""Errors that Kafka clients report by themselves, such as a lost broker connection.

Every client reports here, whichever part of the process owns it, so that the process can count
its connection errors in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

import structlog

log = structlog.get_logger(__name__)
EXPIRED: Final = "RECORDS_EXPIRED"
"""Our name for a position whose records Kafka has deleted."""
COMMON: Final = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_AUTHENTICATION", EXPIRED)
"""The common errors: librdkafka's names of those of connections, and ours."""
_listeners: list[WeakMethod[Callable[[str], None]]] = []


def listen(method: Callable[[str], None]) -> None:
    """Call a bound method with the name of each error, until its object is collected."""
    _listeners[:] = [each for each in _listeners if each() is not None]
    _listeners.append(WeakMethod(method))


def report(name: str) -> None:
    """Pass an error on to every listener, on the thread that polls the client."""
    for each in list(_listeners):
        method = each()
        if method is not None:
            method(name)


def look_for_expired(topic: str, partition: int, position: int, first: int) -> None:
    """Tell of records that were deleted before we read them, as retention does.

    `position` is the next offset that we would read, and `first` the first one that there is.
    """
    if position < first:
        log.error(
            "records were deleted before they were read",
            topic=topic, partition=partition, records=first - position, position=position,
        )  # fmt: skip
        report(EXPIRED)
