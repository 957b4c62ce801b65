"""When the feature store leaves out the extension of a life, and when it must not."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from runtime.feature_store.expiry import RecentExpiry
from runtime.feature_store.protocol import Commit
from runtime.feature_store.redis import RedisFeatureStore
from schemas.errors import StoreUnavailable

DAY_MS = 86_400_000
LIFE_MS = 45 * DAY_MS
A_64TH_S = 60_750.0  # of 45 days: 16 h 52 min 30 s
SHOP, PHONE = (b"shop", b"r" * 14), (b"phone", b"r" * 14)


class Seconds:
    """A monotonic clock that stands still until moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def test_an_entity_is_due_again_after_a_64th_of_its_life(seconds: Seconds) -> None:
    recent = RecentExpiry(monotonic=seconds)
    assert recent.split([SHOP], LIFE_MS) == ([SHOP], [])
    recent.extended([b"shop"])
    seconds.now += A_64TH_S - 1.0
    assert recent.split([SHOP, PHONE], LIFE_MS) == ([PHONE], [SHOP])
    seconds.now += 2.0
    assert recent.split([SHOP, PHONE], LIFE_MS) == ([SHOP, PHONE], [])


def test_the_busiest_merchant_is_extended_all_its_life(seconds: Seconds) -> None:
    """It is written every minute; the store must never let it expire."""
    recent = RecentExpiry(monotonic=seconds)
    entity_ttl_ms = 4 * 3_600_000
    extended_at = seconds.now
    for _ in range(3_000):
        due, _lately = recent.split([SHOP], entity_ttl_ms)
        if due:
            recent.extended([b"shop"])
            extended_at = seconds.now
        assert (seconds.now - extended_at) * 1000 < entity_ttl_ms / 16
        seconds.now += 60.0


def test_another_life_makes_everything_due(seconds: Seconds) -> None:
    recent = RecentExpiry(monotonic=seconds)
    recent.split([SHOP], LIFE_MS)
    recent.extended([b"shop"])
    assert recent.split([SHOP], LIFE_MS + DAY_MS) == ([SHOP], [])


def test_what_is_remembered_is_bounded(seconds: Seconds) -> None:
    recent = RecentExpiry(max_keys=2, monotonic=seconds)
    recent.split([SHOP], LIFE_MS)
    recent.extended([b"shop", b"one", b"two"])
    assert recent.split([SHOP], LIFE_MS) == ([SHOP], [])


class Server:
    """A Redis of which only the function calls are looked at; `answers` are given in turn."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.lately: list[int] = []

    def execute_command(self, command: str, *args: Any) -> bytes | None:
        if command != "FCALL":
            return None
        keys = args[1]
        self.lately.append(args[2 + keys + 8])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def store_on(server: Server) -> RedisFeatureStore:
    store = RedisFeatureStore("redis://localhost:1")
    store._redis = server
    return store


def appending() -> Commit:
    return Commit(epochs={0: 1}, appends=[SHOP], ttl_ms=LIFE_MS)


def test_the_second_append_leaves_the_extension_out() -> None:
    server = Server(b"", b"")
    store = store_on(server)
    store.commit(appending())
    store.commit(appending())
    assert server.lately == [0, 1]


def test_after_an_outage_everything_is_extended_again() -> None:
    """A server that was restarted may have lost the last second, and with it an extension."""
    server = Server(b"", redis.ConnectionError("gone"), b"")
    store = store_on(server)
    store.commit(appending())
    with pytest.raises(StoreUnavailable):
        store.commit(appending())
    store.commit(appending())
    assert server.lately == [0, 1, 0]


def test_a_server_that_lost_its_functions_has_lost_the_extensions_too() -> None:
    server = Server(b"", redis.ResponseError("Function not found"), b"", b"")
    store = store_on(server)
    for _ in range(3):
        store.commit(appending())
    assert server.lately == [0, 1, 1, 0]  # the third is the call that was made again


def test_a_rejected_commit_has_extended_nothing() -> None:
    server = Server(b"p:0:epoch is 2, this worker took 1", b"")
    store = store_on(server)
    assert not store.commit(appending()).accepted
    store.commit(appending())
    assert server.lately == [0, 0]
