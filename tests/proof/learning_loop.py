"""The system learns a new pattern of fraud by itself: `make proof`, some five minutes.

`make test` rolls a bad model back in a smaller world.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_four_in_five_frauds_of_a_new_pattern_are_caught_a_day_after_its_onset(
    tmp_path: Path,
) -> None:
    output = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "simulation", "run", "--scenario", "new-pattern", "--days", "8",
        "--onset-day", "4", "--seed", "7", "--alone", "--json", str(output),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(output.read_text())
    assert found["recall_after_24h"] >= 0.80
    assert found["detected_hours"] < 24
