"""Fixtures of the whole suite."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings as hypothesis_settings

from database.core.database import Database
from database.core.opening import open_database
from devstack.kernels import remove_stale_kernels
from devstack.servers.kafka import JVM_OPTIONS, QUICK
from devstack.servers.postgres import PostgresServer
from devstack.stack import Stack
from runtime.settings import load_settings

os.environ.setdefault(JVM_OPTIONS, QUICK)
# No deadline for an example: the first one may compile a kernel, on a machine that is busy.
hypothesis_settings.register_profile("fraud", deadline=None)
hypothesis_settings.load_profile("fraud")

MIGRATED = "migrated"
"""Database of `postgres` with all tables and no row: copying it is quicker than making them."""


def pytest_configure(config: pytest.Config) -> None:
    """Let no test run kernels that hold old code; a run's workers leave it to its first process.

    Where nothing may be written beside the sources, as in a run on mutants, nothing is removed.
    """
    if not hasattr(config, "workerinput") and not sys.dont_write_bytecode:
        remove_stale_kernels()


@pytest.fixture(autouse=True)
def unset_logging() -> Iterator[None]:
    """Set logging back after each test: services and commands set it up for their whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Real Kafka and Redis for the run. Each test uses a topic and key prefix of its own."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A real PostgreSQL for the run. Each test uses a database of its own."""
    # Not below tmp_path, which another account than ours cannot reach.
    with tempfile.TemporaryDirectory(prefix="fraud-postgres-") as folder:
        server = PostgresServer(Path(folder), tmp_path_factory.mktemp("postgres"))
        try:
            server.start()
            url = server.create(MIGRATED)
            open_database(load_settings(database_url=url)).close()
            yield server
        finally:
            server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with all tables and no row, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'fraud.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex[:12]}"
    yield server.create(name, template=MIGRATED)
    server.drop(name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with all tables and no row, of each kind."""
    with open_database(load_settings(database_url=database_url)) as opened:
        yield opened
