"""The whole loop in small: a broken model is taken out of service by the guard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_bad_model_is_rolled_back_within_500_decisions(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "simulation", "run", "--scenario", "bad-model", "--days", "2",
        "--history-days", "24", "--customers", "700", "--fraud-factor", "6", "--alone",
        "--json", str(output),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert 0 < found["rolled_back_after"]["decisions"] <= 500
    assert "without_learning" not in found
    events = [each["event"] for each in found["timeline"]]
    assert events.index("onset") < events.index("canary") < events.index("rolled_back")
    assert found["detected_hours"] > 0
    assert found["learning"] is True
