"""`make demo`'s command: ends by itself with its report, or in order on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loadtest.measure.report import KEYS
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
FEWER = ("--customers", "800")
"""A smaller world than that of `make demo`, for the sake of time."""


def demo(directory: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest", "demo", *FEWER, "--data", str(directory / "demo")],
        cwd=ROOT, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A suite that runs in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_it_ends_by_itself_and_its_last_line_is_the_report(tmp_path: Path) -> None:
    process = demo(tmp_path, DEMO_SECONDS="5")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    report = json.loads(out.splitlines()[-1])
    assert set(KEYS) <= report.keys()
    assert (report["lost"], report["duplicated"], report["conflicting"]) == (0, 0, 0)
    assert report["measured"]["decided"] == 1_000
    assert report["degraded"] == 0
    assert 0 < report["first_decision_s"] < report["ready_s"]


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    process = demo(tmp_path)
    me = psutil.Process(process.pid)
    deadline = time.monotonic() + PATIENCE_S
    # Kafka, Redis, the generator and our own two: in the middle of the start
    while len(children := me.children(recursive=True)) < 5:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []


@pytest.mark.parametrize("seconds", ["0", "soon"])
def test_a_wrong_length_is_refused(tmp_path: Path, seconds: str) -> None:
    process = demo(tmp_path, DEMO_SECONDS=seconds)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "--seconds" in err
