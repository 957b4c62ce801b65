"""What is served equals a replay while processes are killed: `make proof`, some ten minutes.

`make test` does the same with 8,000 transactions and one kill of each service.
"""

from __future__ import annotations

from pathlib import Path

from loadtest.proof.verify import VerifyOptions, passed, verify
from loadtest.world.history import MAPPING, write_history
from loadtest.world.world import World

FIRST_DAY = 20_148


def test_two_hundred_thousand_transactions_count_once_under_five_kills_of_each_service(
    tmp_path: Path,
) -> None:
    history = tmp_path / "history.parquet"
    write_history(World(3_000, seed=11), FIRST_DAY, 40, history)
    options = VerifyOptions(input=history, mapping=MAPPING, rows=200_000, kills=5)
    report = verify(options, tmp_path / "stack", lambda text, done, total: None)
    assert passed(report), report
    assert report["compared"] == 200_000
    assert report["lost"] == report["conflicting"] == report["dead_letters"] == 0
