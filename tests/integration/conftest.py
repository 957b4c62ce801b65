"""Fixtures of the tests on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from devstack.stack import Stack


@pytest.fixture
def prefix() -> bytes:
    return uuid.uuid4().hex.encode()


@pytest.fixture
def client(stack: Stack) -> Iterator[Any]:
    with redis.Redis.from_url(stack.redis_url) as made:
        yield made
