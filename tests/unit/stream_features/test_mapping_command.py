"""A mapping is proposed for a file, and tried out before it is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from schemas.mapping.document import Mapping
from stream_features.__main__ import app

PAYSIM = """step,type,amount,nameOrig,nameDest,isFraud
1,PAYMENT,1060.31,C1,M1,0
744,TRANSFER,9.99,C1,C2,1
"""
BANK = """"Buchungstag";"Konto";"Merchant";"Amount";"Currency";"Trans ID"
"01.02.2024";"007";"Bäckerei";"1.000,50";"EUR";"0001"
"30.02.2024";"007";"Bäckerei";"12,00";"EUR";"0002"
"02.02.2024";"007";"Bäckerei";"-3,10";"EUR";"0003"
"""
BANK_MAPPING = """
fields:
  transaction_id: Trans ID
  card_id: Konto
  merchant_id: merchant
  event_time: {column: Buchungstag, format: "%d.%m.%Y"}
  amount: {column: Amount, unit: major}
  currency: Currency
"""


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["mapping", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_a_mapping_is_proposed_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "paysim.csv").write_text(PAYSIM)
    code, out, said = run("guess", tmp_path / "paysim.csv")
    assert code == 1
    assert "currency" in said
    assert yaml.safe_load(out)["fields"] == {
        "transaction_id": {"generate": "row_number", "prefix": "row-"},
        "card_id": "nameOrig", "merchant_id": "nameDest",
        "event_time": {"column": "step", "unit": "h", "start": "2024-01-01"},
        "amount": {"column": "amount", "unit": "major"}, "currency": {"constant": "?"},
        "label": {"column": "isFraud", "fraud": "1", "delay": "7d"},
    }  # fmt: skip
    assert "type" in out.splitlines()[0]
    (tmp_path / "m.yaml").write_text(out.replace("?", "EUR"))
    code, shown, _ = run("check", tmp_path / "paysim.csv", tmp_path / "m.yaml")
    assert code == 0
    for text in ("row-2", "106031", "2024-02-01T00", "True"):
        assert text in shown


def test_what_no_column_fits_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,colour\n1,red\n")
    code, out, said = run("guess", tmp_path / "a.csv")
    assert code == 1
    assert yaml.safe_load(out)["fields"]["event_time"] == "?"
    assert "card_id, merchant_id, event_time, amount" in said


def test_a_check_shows_what_will_be_read_and_what_rejected(tmp_path: Path) -> None:
    (tmp_path / "bank.csv").write_text(BANK)
    (tmp_path / "m.yaml").write_text(BANK_MAPPING)
    code, out, said = run(
        "check", tmp_path / "bank.csv", tmp_path / "m.yaml", "--rejects", tmp_path / "bad.csv",
        "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert code == 1
    for text in ("007", "100050", "Bäckerei", "2024-02-01T00:00:00.000+00:00"):
        assert text in out
    assert "2 of 3 rows are rejected: 1 × event_time is not a time, 1 × amount is negative" in said
    assert "1 of 3 rows can be used" in said
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 3
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rejected"] == {"event_time is not a time": 1, "amount is negative": 1}


@pytest.mark.parametrize("command", ["guess", "check"])
def test_help_has_an_example(command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Example: python -m stream_features mapping" in out


def test_the_proposal_is_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "paysim.csv").write_text(PAYSIM)
    (tmp_path / "m.yaml").write_text(run("guess", tmp_path / "paysim.csv")[1])
    assert set(Mapping.load(tmp_path / "m.yaml").columns()) == {
        "step", "amount", "nameOrig", "nameDest", "isFraud"
    }  # fmt: skip
