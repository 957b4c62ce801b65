"""`python -m monitor report` and `bench`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from monitor.__main__ import app
from monitor.report.evidently import from_parquet, read_verdicts, write
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import ConfigurationError
from schemas.features import VECTOR_SIZE
from tests.support.monitor.traffic import scores

DAY = 86_400_000
START = 1_770_000_000_000 // DAY * DAY


def decisions(path: Path, rows: int = 400) -> Path:
    draw = np.random.default_rng(1)
    found = scores(draw, rows)
    found[::5] = 0.99
    table = pd.DataFrame(
        {
            "event_time": START + np.arange(rows) * (2 * DAY // rows),
            "amount": draw.lognormal(3, 1, rows),
            "score": found,
            "anomaly_score": draw.random(rows),
            "decision": np.where(found > 0.95, "BLOCK", "APPROVE"),
            "model_id": "champion",
            "fraud": np.where(draw.random(rows) < 0.5, draw.random(rows) < 0.3, np.nan),
        }
    )
    table.to_parquet(path)
    return path


def test_the_report_of_a_parquet_file_has_drift_and_classification(tmp_path: Path) -> None:
    source, output = decisions(tmp_path / "d.parquet"), tmp_path / "report.html"
    result = CliRunner().invoke(
        app,
        ["report", "--input", str(source), "--output", str(output), "--from",
         pd.Timestamp(START + DAY, unit="ms").isoformat(), "--to",
         pd.Timestamp(START + 2 * DAY, unit="ms").isoformat(), "--json", "-"],
        catch_exceptions=False,
    )  # fmt: skip
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "output": str(output), "current": 200, "reference": 200,
    }  # fmt: skip
    page = output.read_text()
    assert "anomaly_score" in page
    assert "Precision" in page
    assert page.count("<html") == 1  # what Evidently wrote lies escaped in frames


def test_what_cannot_be_reported_says_why(tmp_path: Path) -> None:
    source = decisions(tmp_path / "d.parquet", 60)
    with pytest.raises(ConfigurationError, match="0 decisions in the period"):
        write(from_parquet(source), START + 9 * DAY, START + 10 * DAY, tmp_path / "r.html")
    pd.DataFrame({"score": [1.0]}).to_parquet(source)
    with pytest.raises(ConfigurationError, match="lacks event_time"):
        from_parquet(source)
    with pytest.raises(ConfigurationError, match="not a readable Parquet"):
        from_parquet(tmp_path / "missing")
    wrong = CliRunner().invoke(app, ["report", "--output", "x", "--from", "yesterday"])
    assert isinstance(wrong.exception, ConfigurationError)
    assert "--from 'yesterday' is not a time" in str(wrong.exception)


def test_bench_reports_what_it_measured() -> None:
    result = CliRunner().invoke(
        app, ["bench", "--decisions", "4000", "--json", "-"], catch_exceptions=False
    )
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["decisions"] == 4_000
    assert found["features_watched"] == VECTOR_SIZE + 1
    assert found["state_bytes"] > 1e8


def test_the_report_reads_the_labels_that_name_a_card_number() -> None:
    """With the key for card numbers the stream processor accepts them, so the report must, too."""
    label = {
        "transaction_id": "t1", "card_id": "4111111111111111", "label": "FRAUD",
        "source": "CHARGEBACK", "transaction_time": START, "label_time": START + DAY,
    }  # fmt: skip
    messages = [Message("labels", 0, 0, START + 2 * DAY, b"", avro.encode("Label", label))]
    assert list(read_verdicts([messages], b"k" * 32, None).values()) == [True]
    assert read_verdicts([messages], None, None) == {}
