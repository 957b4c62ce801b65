"""Fixtures of the dashboard's pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from database.core.opening import open_database
from runtime.settings import load_settings
from tests.support.dashboard.site import Site


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with all tables and no row: copying it is quicker than making them."""
    file = tmp_path_factory.mktemp("migrated") / "fraud.db"
    open_database(load_settings(database_url=f"sqlite:///{file}")).close()
    return file


@pytest.fixture
def site(tmp_path: Path, migrated: Path) -> Iterator[Site]:
    """A dashboard on an empty SQLite database."""
    file = shutil.copy(migrated, tmp_path / "fraud.db")
    with open_database(load_settings(database_url=f"sqlite:///{file}")) as database:
        yield Site(database)
