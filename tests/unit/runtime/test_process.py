"""The life of a process: what it answers while it waits, how it stops, and its exit code."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from runtime.process import ServiceProcess
from runtime.settings import load_settings
from schemas.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    DeliveryRejected,
)
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give back what belongs to the whole process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    root, interval = logging.getLogger(), sys.getswitchinterval()
    logged, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        root.handlers[:] = logged
        root.setLevel(level)
        sys.setswitchinterval(interval)
        structlog.reset_defaults()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def answer(port: int, path: str = "/readyz") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as found:
            return found.status, found.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


class Part:
    """Takes note of its end."""

    def __init__(
        self, name: str, closed: list[str], then: Callable[[], None] | None = None
    ) -> None:
        self._name, self._closed, self._then = name, closed, then

    def close(self) -> None:
        self._closed.append(self._name)
        if self._then is not None:
            self._then()


def live(closed: list[str], body: Callable[[ServiceProcess], None]) -> None:
    """Run a process that has one part."""
    with ServiceProcess("store", load_settings()) as process:
        process.keep(Part("producer", closed))
        body(process)


def fail(error: Exception) -> None:
    raise error


def ready_metric(process: ServiceProcess) -> float | None:
    return process.metrics.registry.get_sample_value("fraud_ready", {"service": "store"})


def test_parts_stop_in_reverse_order_while_the_health_server_still_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed: list[str] = []
    answers: list[tuple[int, str]] = []
    port = free_port()
    with ServiceProcess("store", load_settings(health_port=port)) as process:
        process.keep(Part("producer", closed, lambda: answers.append(answer(port))))
        process.keep(Part("reader", closed))
        process.started(lambda: "")
    assert closed == ["reader", "producer"]
    assert answers == [(503, "stopping")]
    assert events(capsys) == ["started", "stopped"]
    with pytest.raises(urllib.error.URLError):
        answer(port)


def test_readyz_says_what_a_process_waits_for_from_the_start() -> None:
    port = free_port()
    away = [BrokerUnavailable("no answer of Kafka")]
    answers: list[tuple[int, str]] = []

    def step() -> str:
        answers.append(answer(port))
        if away:
            raise away.pop()
        return "opened"

    with ServiceProcess("store", load_settings(health_port=port)) as process:
        assert process.patiently(step) == "opened"
        assert answers == [(503, "starting"), (503, "no answer of Kafka")]
        assert answer(port) == (503, "starting")
        reasons = ["no partitions yet"]
        process.started(lambda: reasons[0], lambda: "the thread has ended")
        assert answer(port) == (503, "no partitions yet")
        reasons[0] = ""
        assert answer(port) == (200, "ok")
        assert answer(port, "/healthz") == (503, "the thread has ended")


@pytest.mark.parametrize(
    ("error", "step"), [(BrokerUnavailable, "kafka"), (DatabaseUnavailable, "database")]
)
def test_a_wait_is_a_warning_a_count_and_not_ready(
    error: type[Exception], step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ServiceProcess("store", load_settings()) as process:
        process.metrics.set("ready", 1)
        away = [error("away")]

        def opened() -> str:
            if away:
                raise away.pop()
            return "opened"

        assert process.patiently(opened) == "opened"
        assert ready_metric(process) == 0.0
        labels = {"service": "store", "step": step}
        assert process.metrics.registry.get_sample_value("fraud_retries_total", labels) == 1.0
    assert events(capsys) == ["waiting", "stopped"]


def test_sigterm_during_a_wait_ends_the_process_with_0_and_stops_its_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed: list[str] = []

    def step() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise BrokerUnavailable("away")

    with pytest.raises(SystemExit) as ended:
        live(closed, lambda process: process.patiently(step))
    assert ended.value.code == 0
    assert closed == ["producer"]
    assert events(capsys) == ["waiting", "stopped"]


def test_a_fatal_error_stops_the_parts_and_ends_the_process_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed: list[str] = []
    with pytest.raises(SystemExit) as ended:
        live(closed, lambda _: fail(DeliveryRejected("Kafka refused it")))
    assert ended.value.code == 1
    assert closed == ["producer"]
    assert events(capsys) == ["cannot go on"]


def test_what_an_operator_must_change_goes_on_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    closed: list[str] = []
    with pytest.raises(ConfigurationError, match="FRAUD_PARTITIONS"):
        live(closed, lambda _: fail(ConfigurationError("FRAUD_PARTITIONS")))
    assert closed == ["producer"]
    assert events(capsys) == []


def test_a_taken_health_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = ServiceProcess("store", load_settings(health_port=port))
        with pytest.raises(ConfigurationError, match=f"FRAUD_HEALTH_PORT {port}"), process:
            pass


def test_steps_are_repeated_until_the_stop_through_whatever_passes() -> None:
    shown: list[tuple[str, float | None]] = []
    with ServiceProcess("store", load_settings()) as process:
        outcomes: Iterator[str | Exception] = iter(
            ["no champion yet", BrokerUnavailable("away"), "", "end"]
        )

        def step() -> str:
            shown.append((process.not_ready(), ready_metric(process)))
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome == "end":
                process.stop.set()
            return outcome

        process.started()
        process.repeat(step)
    assert shown == [
        ("starting", 0.0), ("no champion yet", 0.0), ("away", 0.0), ("", 1.0),
    ]  # fmt: skip


def test_a_stop_during_a_wait_ends_the_repetition_and_what_follows_is_done() -> None:
    saved: list[str] = []
    with ServiceProcess("store", load_settings()) as process:

        def step() -> str:
            process.stop.set()
            raise BrokerUnavailable("away")

        process.repeat(step)
        saved.append("state")
    assert saved == ["state"]


def test_work_in_the_background_is_ended_with_the_process() -> None:
    begun, done = threading.Event(), threading.Event()

    def work(ended: threading.Event) -> None:
        begun.set()
        if ended.wait(PATIENCE_S):
            done.set()

    with ServiceProcess("store", load_settings()) as process:
        process.in_background("upkeep", work)
        assert begun.wait(PATIENCE_S)
    assert done.is_set()


def test_low_latency_lets_threads_take_turns_and_spares_the_collector() -> None:
    gc.unfreeze()
    try:
        with ServiceProcess("store", load_settings(), low_latency=True) as process:
            assert sys.getswitchinterval() == pytest.approx(0.0005)
            assert gc.get_freeze_count() == 0
            process.started(lambda: "")
            assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_does_not_stop(number: signal.Signals) -> None:
    code = (
        "import signal\n"
        "from runtime.process import StopSignal\n"
        "stop = StopSignal()\n"
        "print('waits', flush=True)\n"
        "print('asked', stop.wait(60.0), bool(stop), flush=True)\n"
        "while True: signal.pause()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waits\n"
        child.send_signal(number)
        assert child.stdout.readline() == "asked True True\n"
        child.send_signal(number)
        assert child.wait(PATIENCE_S) == -number
    finally:
        child.kill()
        child.communicate()
