"""Live equals replay, bit for bit, with real processes: backlog, live edge, two workers, kills."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.proof.verify import VerifyOptions, passed, verify
from loadtest.world.history import MAPPING, write_history
from loadtest.world.world import World

FIRST_DAY = 20_148
ROWS = 8_000


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every field present, frauds of all kinds, labels with their own delays."""
    path = tmp_path_factory.mktemp("history") / "history.parquet"
    write_history(World(300, seed=3), FIRST_DAY, 30, path)
    return path


CASES = {
    "a backlog under kills and restarts": VerifyOptions(
        input=Path(), mapping=MAPPING, rows=ROWS, kills=1
    ),
    "a backlog shared by two workers": VerifyOptions(
        input=Path(), mapping=MAPPING, rows=ROWS, workers=2
    ),
    "the live edge": VerifyOptions(
        input=Path(), mapping=MAPPING, rows=4_000, mode="live", rate=1_000
    ),
}
FEW_MERCHANTS_SHARE = 0.75
"""This world squeezes weeks of 250 merchants into seconds, so that order of arrival shows more
often than the command itself allows, and the more so the busier the machine is."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_served_equals_a_replay(history: Path, tmp_path: Path, case: str) -> None:
    options = replace(CASES[case], input=history)
    report = verify(options, tmp_path, lambda text, done, total: None)
    if options.workers == 1 and options.mode == "backlog":
        assert report["equal_rows"] == report["compared"] == options.rows
    assert passed(report, merchant_share=FEW_MERCHANTS_SHARE), report
    assert report["duplicated"] == 0
    assert report["dead_letters"] == 0
    assert len(report["recoveries"]) == (4 if options.kills else 0)
    assert report["probes_equal"] == report["probes"] > 20
