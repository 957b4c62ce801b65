"""A run's folder is emptied only if it is a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.deploy.deployment import empty_directory
from schemas.errors import ConfigurationError


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("kept")
    with pytest.raises(ConfigurationError, match=r"thesis\.txt"):
        empty_directory(tmp_path)
    with pytest.raises(ConfigurationError, match="a file"):
        empty_directory(precious)
    assert precious.read_text() == "kept"


def test_a_new_an_empty_and_a_used_folder_are_taken(tmp_path: Path) -> None:
    folder = empty_directory(tmp_path / "new" / "run")
    assert empty_directory(folder) == folder
    (folder / "stack").mkdir()
    (folder / "stack" / "lock").touch()
    (folder / "history.parquet").touch()
    assert list(empty_directory(folder).iterdir()) == []
