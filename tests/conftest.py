"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Real Kafka and Redis for the run. Each test uses a topic and key prefix of its own."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
