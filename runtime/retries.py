"""The one policy of retries: wait, a little longer each time, log why, and try again.

Whatever is away comes back: a broker, a database, a process that holds a lock. Each new reason
is one warning; a reason that repeats is logged for debugging only, since a stand-by may wait for
days. Where metrics are given, each wait is one count of `retries`. A wait ends at once when the
process is asked to stop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception
from tenacity.stop import stop_after_attempt, stop_after_delay, stop_any, stop_never
from tenacity.wait import wait_exponential, wait_random_exponential

from runtime.metrics import Metrics
from schemas.errors import (
    ArchiveUnavailable,
    DatabaseUnavailable,
    Fenced,
    StoreUnavailable,
    TemporaryError,
    TrainerBusy,
)

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
Errors = type[Exception] | tuple[type[Exception], ...]
FIRST_WAIT_S: Final = 0.1
MAX_WAIT_S: Final = 1.0
_STEPS: Final = (
    (StoreUnavailable, "redis"),
    (DatabaseUnavailable, "database"),
    (ArchiveUnavailable, "archive"),
    (Fenced, "lock"),
    (TrainerBusy, "lock"),
)


class Stopped(SystemExit):
    """A wait ended because the process was asked to stop: uncaught, it ends with exit code 0."""

    def __init__(self) -> None:
        super().__init__(0)


class StopEvent(Protocol):
    """A `threading.Event` or a `runtime.process.StopSignal`."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait until it is set, or for `timeout` seconds; return whether it is set."""


def step_of(error: BaseException) -> str:
    """Return the label `step` of the metric `retries`: the dependency that failed."""
    return next((step for kind, step in _STEPS if isinstance(error, kind)), "kafka")


@dataclass(frozen=True, slots=True)
class Retry:
    """Calls a step again until it succeeds.

    Without `max_time_s` and `max_attempts` it never gives up; with them, the last error is raised.

    Args:
        stop: when it is set, a wait ends and `Stopped` is raised.
        metrics: gets the counter `retries`.
        step: label of that counter; the dependency that failed unless given.
        errors: kinds of errors that pass by themselves; any other is raised at once.
        only_if: which of those errors pass.
        on_wait: is called with each of them before the wait.
        jitter: wait a random part of the time, so that competitors do not keep step.

    Example:
        >>> Retry(stop)(lambda: create_topics(settings))
    """

    stop: StopEvent | None = None
    metrics: Metrics | None = None
    errors: Errors = TemporaryError
    only_if: Callable[[Any], bool] = lambda error: True
    on_wait: Callable[[Any], None] = lambda error: None
    max_time_s: float | None = None
    max_attempts: int | None = None
    first_wait_s: float = FIRST_WAIT_S
    max_wait_s: float = MAX_WAIT_S
    jitter: bool = False
    step: str | None = None

    def __call__(self, step: Callable[[], Result]) -> Result:
        """Return the result of `step`. Blocks.

        Raises:
            Stopped: the process was asked to stop during a wait.
        """
        try:
            return step()  # nearly always; tenacity would add some 50 µs to every call
        except self.errors as error:
            failed = [error]

        def again() -> Result:
            if failed:
                raise failed.pop()
            return step()

        return Retrying(sleep=self._sleep, **self._policy())(again)

    async def run_async(
        self,
        step: Callable[[], Awaitable[Result]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Result:
        """Return the result of `step` on an event loop; `sleep` may raise to give up."""
        try:
            return await step()
        except self.errors as error:
            failed = [error]

        async def again() -> Result:
            if failed:
                raise failed.pop()
            return await step()

        return await AsyncRetrying(sleep=sleep, **self._policy())(again)

    def _policy(self) -> dict[str, Any]:
        kind = wait_random_exponential if self.jitter else wait_exponential
        limits = [
            stop_never if self.max_time_s is None else stop_after_delay(self.max_time_s),
            stop_never if self.max_attempts is None else stop_after_attempt(self.max_attempts),
        ]
        return {
            "retry": retry_if_exception(self._passes),
            "wait": kind(multiplier=self.first_wait_s, max=self.max_wait_s),
            "stop": stop_any(*limits),
            "before_sleep": self._before_wait(),
            "reraise": True,
        }

    def _passes(self, error: BaseException) -> bool:
        return isinstance(error, self.errors) and self.only_if(error)

    def _before_wait(self) -> Callable[[RetryCallState], None]:
        """Return what takes note of each wait of one call."""
        last = ""

        def note(state: RetryCallState) -> None:
            nonlocal last
            error = state.outcome.exception() if state.outcome else None
            if error is None:
                return
            tell = log.debug if str(error) == last else log.warning
            last = str(error)
            tell("waiting", reason=last, seconds=round(state.upcoming_sleep, 3))
            if self.metrics is not None:
                self.metrics.count("retries", step=self.step or step_of(error))
            self.on_wait(error)

        return note

    def _sleep(self, seconds: float) -> None:
        if self.stop is None:
            time.sleep(seconds)
        elif self.stop.wait(seconds):
            raise Stopped
