"""The policy of retries: how long it waits, what it counts, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runtime import retries
from runtime.metrics import Metrics
from runtime.retries import Retry, Stopped
from schemas.errors import (
    ArchiveUnavailable,
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    StoreUnavailable,
    TemporaryError,
    TrainerBusy,
)


class Waits:
    """A stop event that takes note of each wait, and is set during the wait number `stop_at`."""

    def __init__(self, stop_at: int = 100) -> None:
        self.seconds: list[float] = []
        self._stop_at = stop_at

    def wait(self, timeout: float | None = None, /) -> bool:
        self.seconds.append(round(timeout or 0.0, 3))
        return len(self.seconds) >= self._stop_at


def failing(times: int, error: Exception) -> Callable[[], str]:
    """Return a step that fails so many times, and then succeeds."""
    left = [error] * times

    def step() -> str:
        if left:
            raise left.pop()
        return "done"

    return step


def retries_of(metrics: Metrics, step: str) -> float | None:
    return metrics.registry.get_sample_value(
        "fraud_retries_total", {"service": "store", "step": step}
    )


def test_waits_double_up_to_a_second() -> None:
    waits = Waits()
    assert Retry(waits)(failing(6, BrokerUnavailable("away"))) == "done"
    assert waits.seconds == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_stop_ends_the_wait_and_the_process_with_exit_code_0() -> None:
    waits = Waits(stop_at=2)
    with pytest.raises(Stopped) as ended:
        Retry(waits)(failing(9, BrokerUnavailable("away")))
    assert ended.value.code == 0
    assert len(waits.seconds) == 2


def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    waits = Waits()
    with pytest.raises(ConfigurationError):
        Retry(waits)(failing(1, ConfigurationError("wrong")))
    with pytest.raises(TemporaryError, match="for good"):
        Retry(waits, only_if=lambda error: "for good" not in str(error))(
            failing(1, TemporaryError("for good"))
        )
    assert waits.seconds == []


def test_after_so_many_attempts_the_last_error_is_raised() -> None:
    waits = Waits()
    with pytest.raises(BrokerUnavailable, match="away"):
        Retry(waits, max_attempts=3)(failing(9, BrokerUnavailable("away")))
    assert waits.seconds == [0.1, 0.2]


def test_after_the_longest_time_the_last_error_is_raised() -> None:
    waits = Waits()
    with pytest.raises(BrokerUnavailable, match="away"):
        Retry(waits, max_time_s=0.0)(failing(9, BrokerUnavailable("away")))
    assert waits.seconds == []


def test_jitter_waits_at_most_as_long() -> None:
    waits = Waits()
    Retry(waits, jitter=True)(failing(20, BrokerUnavailable("away")))
    assert all(wait <= 1.0 for wait in waits.seconds)
    assert len(set(waits.seconds[5:])) > 5, "not the same again and again"


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (BrokerUnavailable, "kafka"),
        (StoreUnavailable, "redis"),
        (DatabaseUnavailable, "database"),
        (ArchiveUnavailable, "archive"),
        (TrainerBusy, "lock"),
    ],
)
def test_each_wait_is_counted_by_what_was_away(error: type[Exception], step: str) -> None:
    metrics = Metrics("store")
    told: list[str] = []
    policy = Retry(Waits(), metrics, on_wait=lambda error: told.append(str(error)))
    before = retries_of(metrics, step) or 0.0
    policy(failing(2, error("away")))
    assert (retries_of(metrics, step) or 0.0) - before == 2.0
    assert told == ["away", "away"]


def test_each_new_reason_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(retries.log, "warning", lambda event, **more: logged.append((event, more)))
    errors = [BrokerUnavailable("refused"), *[BrokerUnavailable("no answer")] * 3]

    def step() -> None:
        if errors:
            raise errors.pop()

    Retry(Waits())(step)
    assert logged == [
        ("waiting", {"reason": "no answer", "seconds": 0.1}),
        ("waiting", {"reason": "refused", "seconds": 0.8}),
    ]


def test_a_step_that_is_given_is_the_label_of_the_count() -> None:
    metrics = Metrics("store")
    Retry(Waits(), metrics, step="archive")(failing(2, BrokerUnavailable("away")))
    assert retries_of(metrics, "archive") == 2.0


def test_on_an_event_loop_it_waits_without_blocking_and_can_give_up() -> None:
    waits: list[float] = []

    async def step() -> str:
        return blocking()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise asyncio.CancelledError

    blocking = failing(2, StoreUnavailable("away"))
    assert asyncio.run(Retry().run_async(step, sleep)) == "done"
    assert waits == [0.1, 0.2]
    blocking = failing(2, StoreUnavailable("away"))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Retry().run_async(step, sleep))
