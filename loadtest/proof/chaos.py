"""Kills and restarts processes at random moments of a run, and times their recovery."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from devstack.service_process import Service
from devstack.stack import Stack

READY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One fault: `strike` stops a process, starts it again and blocks until it is ready.

    It returns the seconds from the start of the new process until it is ready.
    """

    name: str
    strike: Callable[[], float]

    @classmethod
    def kill(cls, service: Service) -> Self:
        """Kill a service with SIGKILL and start it again at once."""

        def strike() -> float:
            service.kill()
            began = time.monotonic()
            service.start()
            service.wait_ready(READY_S)
            return time.monotonic() - began

        return cls(f"kill -9 {service.name}", strike)

    @classmethod
    def restart_redis(cls, stack: Stack) -> Self:
        """Restart Redis on its append-only file."""
        return cls("restart Redis", lambda: _timed(stack.redis.restart))

    @classmethod
    def restart_kafka(cls, stack: Stack) -> Self:
        """Restart Kafka on its log."""
        return cls("restart Kafka", lambda: _timed(stack.kafka.restart))


def _timed(step: Callable[[], None]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began


class Chaos:
    """Spreads disturbances over the rows of a run, in random order and at random points.

    `recoveries` lists those that have struck.
    """

    def __init__(self, plan: Sequence[Disturbance], rows: int, chance: random.Random) -> None:
        self._plan = list(plan)
        chance.shuffle(self._plan)
        step = rows / (len(self._plan) + 1) if self._plan else 0.0
        self._moments = [step * (at + chance.random()) for at in range(len(self._plan))]
        self.recoveries: list[dict[str, Any]] = []

    @property
    def pending(self) -> bool:
        """Whether a disturbance has yet to strike."""
        return len(self.recoveries) < len(self._plan)

    def strike_if_due(self, done: int) -> bool:
        """Strike if `done` rows have reached the next moment; return whether it struck.

        Blocks until the process is ready again. Call it from a thread that lives to the end of the
        run, because children die with the thread that started them.

        Raises:
            FatalError, TemporaryError: the process did not come back.
        """
        at = len(self.recoveries)
        if not self.pending or done < self._moments[at]:
            return False
        seconds = self._plan[at].strike()
        self.recoveries.append(
            {"what": self._plan[at].name, "after_rows": done, "seconds": round(seconds, 2)}
        )
        return True
