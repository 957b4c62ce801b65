"""Errors that Kafka clients report by themselves, such as a lost broker connection.

Every client reports here, whichever part of the process owns it, so that the process can count
its connection errors in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

COMMON: Final = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_AUTHENTICATION")
"""librdkafka's names for the common connection errors."""
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
