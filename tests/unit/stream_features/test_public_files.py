"""Mappings of public files, tried on made-up rows of their shapes: what is read, what rejected."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from runtime.files.intake import Intake, read_transactions
from runtime.files.options import RejectOptions
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.mapping.document import Mapping
from schemas.rules.transaction import Rules
from stream_features.__main__ import app

RULES = Rules.at(1_760_000_000_000, CurrencyTable("EUR", {"USD": 0.9, "GBP": 1.2}))
TABFORMER = """\
User,Card,Year,Month,Day,Time,Amount,Use Chip,Merchant Name,Merchant City,Merchant State,Zip,MCC,\
Errors?,Is Fraud?
0,0,2012,9,1,06:21,$134.05,Swipe Transaction,3527213246127870000,Somewhere,CA,91750.0,5300,,No
0,1,2012,9,1,06:42,$38.40,Online Transaction,-727612092139910000,ONLINE,,,5411,,Yes
1,0,2012,10,31,23:59,$-99.00,Chip Transaction,-727612092139910000,Rome,Italy,,5411,\
"Bad PIN,Insufficient Balance",No
1,0,2012,2,30,12:00,"$1,234.50",Chip Transaction,7,Rome,Italy,,5411,,No
"""
COUNCIL = """\
TRANS DATE,TRANS VAT DESC,ORIGINAL GROSS AMT,MERCHANT NAME,CARD NUMBER,TRANS CAC CODE 1,Directorate
03/01/2017,VR,72.61,shell  king's rd,************1234,K020,Adult & Communities
13/01/2017,VZ,"1,234.5",caf\xe9 rouge,************1234,K020,Place
14/01/2017,VR,-20,caf\xe9 rouge,************9876,K020,Place
42750,VR,20,hotel,************9876,K020,Place
15/01/2017,VR,30,hotel,,K020,Place
"""
OTHER_MONTH = """\
TRANS DATE,ORIGINAL GROSS AMT,ORIGINAL CUR,BILLING GROSS AMT,MERCHANT NAME,CARD NUMBER
13/02/2017,12,GBP,12,hotel,************1234
"""


def read(
    file: Path, mapping: str, rejects: Path, *, encoding: str | None = None
) -> tuple[Intake, Sequence[tuple[str, str, str]]]:
    found = read_transactions(
        file, Mapping.load(Path("loadtest/mappings") / mapping), RULES,
        RejectOptions(max_share=1.0, file=rejects),
    )  # fmt: skip
    with rejects.open(encoding=encoding) as stream:
        rows = list(csv.DictReader(stream))
    return found, [(row["row"], row["column"], row["value"]) for row in rows]


def guessed(file: Path) -> tuple[dict[str, object], str]:
    result = CliRunner().invoke(app, ["mapping", "guess", str(file)], catch_exceptions=False)
    return yaml.safe_load(result.stdout), result.stderr


def test_tabformer(tmp_path: Path) -> None:
    (tmp_path / "card.csv").write_text(TABFORMER)
    found, rejected = read(tmp_path / "card.csv", "tabformer.yaml", tmp_path / "rejects")
    assert rejected == [("4", "Year+Month+Day+Time", "2012-2-30-12:00")]
    assert found.notes == []
    assert found.unread == {}
    assert found.table.column("kind").to_pylist() == ["PURCHASE", "PURCHASE", "REFUND"]
    assert found.table.column("amount").to_pylist()[2] == 9900
    assert found.table.drop(["kind"]).slice(0, 2).to_pylist() == [
        {
            "transaction_id": f"tab-{row}", "card_id": card, "merchant_id": shop, "currency": "USD",
            "channel": channel, "mcc": mcc, "event_time": time, "amount": amount,
            "base_amount": base, "label": fraud, "label_time": time + 7 * 86_400_000,
        }
        for row, card, shop, channel, mcc, time, amount, base, fraud in (
            (1, "0-0", "3527213246127870000", "POS", 5300, 1_346_480_460_000, 13405, 12064, False),
            (2, "0-1", "-727612092139910000", "ECOM", 5411, 1_346_481_720_000, 3840, 3456, True),
        )
    ]  # fmt: skip


def test_a_mapping_of_tabformer_is_proposed(tmp_path: Path) -> None:
    (tmp_path / "card.csv").write_text(TABFORMER)
    proposal, said = guessed(tmp_path / "card.csv")
    shipped = yaml.safe_load(Path("loadtest/mappings/tabformer.yaml").read_text())["fields"]
    fields = proposal["fields"]
    assert isinstance(fields, dict)
    for name in ("card_id", "merchant_id", "event_time", "channel", "mcc"):
        assert fields[name] == shipped[name], name
    assert fields["amount"] == {"column": "Amount", "unit": "major", "negative": "refund"}
    assert fields["currency"] == {"constant": "?"}
    assert fields["label"]["fraud"] == "Yes"
    assert said == "no column says for certain what currency is: replace the '?'\n"


def test_ids_that_a_spreadsheet_rounded_are_told(tmp_path: Path) -> None:
    rounded = TABFORMER.replace("3527213246127870000", "3.52721E+18")
    (tmp_path / "card.csv").write_text(rounded)
    found, _ = read(tmp_path / "card.csv", "tabformer.yaml", tmp_path / "rejects")
    assert "merchant_id: 1 values were rounded by a spreadsheet" in str(found.notes)


def test_sheets_of_purchase_cards(tmp_path: Path) -> None:
    folder = tmp_path / "months"
    folder.mkdir()
    (folder / "2017-01.csv").write_bytes(COUNCIL.encode("cp1252"))
    (folder / "2017-02.csv").write_bytes(OTHER_MONTH.encode("cp1252"))
    found, rejected = read(folder, "purchase_cards.yaml", tmp_path / "rejects")
    assert rejected == [
        ("4", "TRANS DATE", "42750"), ("5", "CARD NUMBER", "")
    ]  # fmt: skip
    assert found.table.column("merchant_id").to_pylist() == [
        "shell  king's rd", "café rouge", "café rouge", "hotel"
    ]  # fmt: skip
    assert found.table.column("amount").to_pylist() == [7261, 123_450, 2000, 1200]
    assert found.table.column("base_amount").to_pylist() == [8713, 148_140, 2400, 1440]
    assert found.table.column("event_time").to_pylist() == [
        1_483_401_600_000, 1_484_265_600_000, 1_484_352_000_000, 1_486_944_000_000
    ]  # fmt: skip


def test_a_proposal_leaves_open_what_two_columns_may_be(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(COUNCIL.replace("42750", "16/01/2017").encode("cp1252"))
    (tmp_path / "b.csv").write_bytes(OTHER_MONTH.encode("cp1252"))
    proposal, said = guessed(tmp_path / "a.csv")
    assert proposal == {
        "fields": {
            "transaction_id": {"generate": "row_number", "prefix": "row-"},
            "card_id": "CARD NUMBER", "merchant_id": "MERCHANT NAME",
            "event_time": {"column": "TRANS DATE", "format": "%d/%m/%Y"},
            "amount": {"column": "ORIGINAL GROSS AMT", "unit": "major", "negative": "refund"},
            "currency": {"constant": "?"},
        },
        "file": {"encoding": "cp1252"},
    }  # fmt: skip
    fields = guessed(tmp_path / "b.csv")[0]["fields"]
    assert isinstance(fields, dict)
    assert fields["amount"] == "?"
    assert fields["currency"] == "ORIGINAL CUR"
    assert "currency" in said


def test_a_column_that_a_sheet_has_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(OTHER_MONTH.replace("BILLING GROSS AMT", "CARD NUMBER"))
    with pytest.raises(ConfigurationError, match="several columns that 'CARD NUMBER' may mean"):
        read(tmp_path / "a.csv", "purchase_cards.yaml", tmp_path / "rejects")


FORMS = [
    ("date,time\n01/02/2024,5:00\n02/03/2024,06:00\n",
     {"columns": ["date", "time"], "separator": " ", "format": "?"}),
    ("date,time\n21/02/2024,05:00\n", 
     {"columns": ["date", "time"], "separator": " ", "format": "%d/%m/%Y %H:%M"}),
    ("date,time\n2024-02-21,05:00:07\n", {"columns": ["date", "time"], "separator": " "}),
    ("t_date\n31.12.2024 23:59\n", {"column": "t_date", "format": "%d.%m.%Y %H:%M"}),
    ("t_date\n12/31/24 11:59 PM\n", {"column": "t_date", "format": "%m/%d/%y %I:%M %p"}),
    ("t_date\n31-Dec-24\n", {"column": "t_date", "format": "%d-%b-%y"}),
    ("timestamp\n2024-12-31 23:59:59\n", "timestamp"),
    ("timestamp\n20241231235959\n", {"column": "timestamp", "format": "%Y%m%d%H%M%S"}),
    ("date\n20241231\n", {"column": "date", "format": "%Y%m%d"}),
    ("date\n45292.5\n", {"column": "date", "unit": "d", "start": "1899-12-30"}),
    ("timestamp\n1704067200.123\n", {"column": "timestamp", "unit": "s"}),
    ("unix_time\n1704067200123\n", {"column": "unix_time", "unit": "ms"}),
    ("step\n1\n744\n", {"column": "step", "unit": "h", "start": "2024-01-01"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_the_form_of_times_is_proposed_where_it_is_certain(
    tmp_path: Path, text: str, expected: object
) -> None:
    (tmp_path / "a.csv").write_text(text)
    fields = guessed(tmp_path / "a.csv")[0]["fields"]
    assert isinstance(fields, dict)
    assert fields["event_time"] == expected
