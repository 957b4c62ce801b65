"""Errors end a command with one line and the right exit code; reports go where they were asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from runtime.command_line import require_folder, run_command, write_report
from schemas.errors import BrokerUnavailable, ConfigurationError, EmptyStore, FraudError


@pytest.fixture(autouse=True)
def unset_umask() -> Iterator[None]:
    """Set the umask back, which each command sets for its whole process."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError, 2), (BrokerUnavailable, 1), (EmptyStore, 1), (FraudError, 1)],
)
def test_an_error_is_one_whole_line_and_an_exit_code(
    error: type[FraudError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "cannot read [var]/" + "long/" * 40 + "file"

    def fail() -> None:
        raise error(text)

    with pytest.raises(SystemExit) as ended:
        run_command(fail)
    assert ended.value.code == code
    assert capsys.readouterr().err == f"error: {text}\n"


@pytest.mark.parametrize(("of_the_account", "mode"), [(0o022, 0o640), (0o077, 0o600)])
def test_what_a_command_writes_is_not_for_every_account(
    tmp_path: Path, of_the_account: int, mode: int
) -> None:
    os.umask(of_the_account)
    run_command(lambda: (tmp_path / "state").write_text("cards"))
    assert (tmp_path / "state").stat().st_mode & 0o777 == mode


def test_a_command_of_a_scheduler_tells_what_may_succeed_later() -> None:
    def fail() -> None:
        raise BrokerUnavailable("Kafka does not answer")

    with pytest.raises(SystemExit) as ended:
        run_command(fail, temporary=3)
    assert ended.value.code == 3


def test_a_crash_is_shown_whole_and_is_not_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: 1 / 0)
    assert ended.value.code == 70
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "ZeroDivisionError" in shown


def test_a_report_goes_to_a_file_or_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report({"sent": 3}, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == {"sent": 3}
    write_report({"sent": 3}, None)
    assert capsys.readouterr().out == ""
    write_report({"sent": 3}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"sent": 3}


def test_a_report_that_cannot_be_written_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--json"):
        write_report({}, tmp_path / "missing" / "report.json")


@pytest.mark.parametrize("place", ["missing/report.json", "."])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, place: str
) -> None:
    require_folder(json=tmp_path / "report.json", html=None)
    require_folder(json=Path("-"))
    with pytest.raises(ConfigurationError, match="--html"):
        require_folder(html=tmp_path / place)


def test_logs_of_a_command_do_not_stand_among_its_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def log() -> None:
        structlog.get_logger("kafka").debug("coordinator load in progress")
        structlog.get_logger("kafka").warning("broker gone")
        write_report({"sent": 3}, Path("-"))

    run_command(log)
    written = capsys.readouterr()
    assert json.loads(written.out) == {"sent": 3}
    assert "broker gone" in written.err
    assert "coordinator" not in written.err
