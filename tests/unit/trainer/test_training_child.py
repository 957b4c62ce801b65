"""A run in a process of its own: its limits, its end in words, its place behind everything else."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from runtime.clock import ManualClock
from schemas.errors import TrainerBusy
from tests.support.waiting import until
from trainer.service.lock import only_one
from trainer.service.training_child import MB, ONLY_IDLE, ChildRunner, Ended, Limits

LIMITS = Limits(time_ms=1000, memory_bytes=400 * MB)


class Bench:
    def __init__(self, folder: Path, code: str, limits: Limits = LIMITS) -> None:
        self.log, self.clock = folder / "runs" / "log.txt", ManualClock()
        self.runner = ChildRunner(
            lambda run_id: [sys.executable, "-c", code, run_id],
            lambda run_id: self.log,
            limits,
            nice=ONLY_IDLE,
            clock=self.clock,
        )
        self.runner.start("run-1")

    def ended(self) -> Ended:
        found: list[Ended] = []

        def poll() -> bool:
            ended = self.runner.poll()
            found.extend([ended] if ended else [])
            return bool(found)

        until(poll, "the end of the child")
        return found[0]

    def says(self, text: str) -> None:
        until(lambda: text in self.log.read_text(), text)


def test_limits_decide_by_their_own_bound_each() -> None:
    assert LIMITS.exceeded(999, 400 * MB) == ""
    assert "FRAUD_TRAIN_TIME" in LIMITS.exceeded(1000, 0)
    assert "FRAUD_TRAIN_MEMORY_MB" in LIMITS.exceeded(0, 400 * MB + 1)


def test_an_end_is_told_in_the_words_of_the_command(tmp_path: Path) -> None:
    assert Bench(tmp_path, "import sys; print(sys.argv)").ended() == Ended(0)
    said = "import sys; print('error: no archive\\nat all'); sys.exit(2)"
    assert Bench(tmp_path, said).ended() == Ended(2, "no archive\nat all")
    killed = Bench(tmp_path, "import os; os.kill(os.getpid(), 9)").ended()
    assert (killed.code, "signal 9" in killed.reason) == (-9, True)


SLEEPS = "import time; print('up', flush=True); time.sleep(99)"


def test_a_run_beyond_its_time_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SLEEPS)
    bench.says("up")
    assert bench.runner.poll() is None
    pid = bench.runner.pid
    assert pid is not None
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    bench.clock.advance(1000)
    ended = bench.ended()
    assert ended.code == -signal.SIGKILL
    assert "FRAUD_TRAIN_TIME" in ended.reason
    assert not psutil.pid_exists(pid)


def test_a_run_beyond_its_memory_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'b = b\"x\" * (500 << 20);"
        ' print("big", flush=True); import time; time.sleep(99)\'])\n'
        "print(child.pid, flush=True); time.sleep(99)"
    )
    bench = Bench(tmp_path, code)
    bench.says("big")
    assert "FRAUD_TRAIN_MEMORY_MB" in bench.ended().reason
    child = int(bench.log.read_text().split()[0])
    until(lambda: not _runs(child), "the end of the child's child")


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_stop_lets_the_run_clean_up(tmp_path: Path) -> None:
    code = (
        "import time\ntry:\n print('up', flush=True); time.sleep(99)\n"
        "finally:\n print('tidy', flush=True)"
    )
    bench = Bench(tmp_path, code)
    bench.says("up")
    bench.runner.stop()
    assert "tidy" in bench.log.read_text()
    assert bench.runner.poll() is None


def test_one_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path / "state", "a.lock"):
        with (
            pytest.raises(TrainerBusy, match=f"process {os.getpid()} holds"),
            only_one(tmp_path / "state", "a.lock"),
        ):
            pass
        with only_one(tmp_path / "state", "b.lock"):
            pass
    with only_one(tmp_path / "state", "a.lock"):
        pass
