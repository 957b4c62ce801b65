"""What a scheduler sees of `python -m trainer train` when something is wrong: code and text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.trainer.archive_messages import feature, filled
from trainer.__main__ import main
from trainer.archive.delta_tables import Archive
from trainer.service.lock import TRAINING, only_one
from trainer.training import run_records


def train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *words: str
) -> tuple[object, str]:
    places = ["--state", str(folder / "state"), "--output", str(folder / "models")]
    monkeypatch.setattr(sys, "argv", ["trainer", "train", *words, *places])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def test_an_archive_that_is_not_there_or_empty_is_said_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "archive")
    code, text = train(monkeypatch, capsys, tmp_path, "--archive", place)
    assert (code, "start `python -m trainer archive`" in text) == (2, True)
    Archive(place).create()
    code, text = train(monkeypatch, capsys, tmp_path, "--archive", place, "--run-id", "run-1")
    assert (code, "has no transaction up to" in text) == (2, True)
    record = run_records.load(run_records.file_of("run-1", tmp_path / "state"))
    assert record.state == "failed"
    assert record.reasons[0] in text.replace("\n", "")
    code, text = train(monkeypatch, capsys, tmp_path, "--as-of", "run-1")
    assert (code, "run-1: that run ended before it had data" in text) == (2, True)
    assert "give --archive and --cutoff" in text


def test_a_cutoff_in_the_future_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(str(tmp_path / "archive"), features=[feature(0)])
    words = ["--archive", str(tmp_path / "archive"), "--cutoff", "2999-01-01"]
    code, text = train(monkeypatch, capsys, tmp_path, *words)
    assert (code, "2999-01-01T00:00:00+00:00 is in the future" in text) == (2, True)


def test_two_trainers_at_once_the_second_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_one(tmp_path / "state", TRAINING):
        code, text = train(monkeypatch, capsys, tmp_path, "--archive", str(tmp_path / "archive"))
    assert (code, f"process {os.getpid()} holds" in text) == (3, True)
    assert not (tmp_path / "state" / "runs").exists()


def test_an_id_that_cannot_be_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--archive", "x", "--run-id", "../run-1"]
    code, text = train(monkeypatch, capsys, tmp_path, *words)
    assert (code, "--run-id '../run-1'" in text) == (2, True)
