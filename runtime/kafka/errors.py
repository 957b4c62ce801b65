"""What Kafka clients report by themselves, such as a broker that went away.

`kafka` reports it, whichever client it was; `metrics` counts it for the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

COMMON: Final = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_AUTHENTICATION")
"""Names of the errors of a connection, as librdkafka has them."""
_listeners: list[WeakMethod[Callable[[str], None]]] = []


def listen(method: Callable[[str], None]) -> None:
    """Call a bound method with the name of each error, as long as its object lives."""
    _listeners[:] = [each for each in _listeners if each() is not None]
    _listeners.append(WeakMethod(method))


def report(name: str) -> None:
    """Tell those who listen; called on the thread that polls the client."""
    for each in list(_listeners):
        method = each()
        if method is not None:
            method(name)
