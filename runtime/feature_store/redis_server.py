"""Whether a Redis server keeps what the feature store promises: asked at the start, then watched.

State must not be evicted, one commit changes keys that a cluster would spread over several servers,
and the commit itself is a function library. What breaks a promise is refused. A provider may forbid
INFO; then that is said, and the checks that need it are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from runtime.feature_store.redis_errors import MIN_VERSION, cluster_fault
from runtime.metrics import Metrics
from schemas.errors import ConfigurationError

log = structlog.get_logger(__name__)
NO_EVICTION: Final = "noeviction"
RIGHTS: Final[Mapping[str, str]] = {
    "+mget": "MGET KEY",
    "+hgetall": "HGETALL KEY",
    "+get": "GET KEY",
    "+set": "SET KEY 1 PX 1",
    "+append": "APPEND KEY 1",
    "+pexpire": "PEXPIRE KEY 1",
    "+strlen": "STRLEN KEY",
    "+getrange": "GETRANGE KEY 0 3",
    "+del": "DEL KEY",
    "+incr": "INCR KEY",
    "+hget": "HGET KEY topic",
    "+hset": "HSET KEY topic 1",
    "+hdel": "HDEL KEY topic",
    "+time": "TIME",
}
"""The rights that computing features needs, and a command that each allows. KEY is one of our keys.

Beside them `+@connection`, `+fcall` and `+function|load`, without which nothing can be asked.
"""
NOT_CHECKED: Final = (
    "this user may not run INFO, so eviction policy, memory, version and cluster mode could not be "
    "checked: grant +info, or see to maxmemory-policy noeviction yourself"
)


class CheckedStore(Protocol):
    """The part of a store on Redis that is asked here."""

    @property
    def address(self) -> str:
        """The server's address without its password."""

    def information(self) -> dict[str, Any] | None:
        """Return what INFO says, or None if this user may not ask."""

    def lacking(self, commands: Sequence[str]) -> list[str]:
        """Return those of `commands` that this user may not run."""

    def ping(self) -> None:
        """Return if the server answers; otherwise raise StoreUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What INFO says; "" and None for what this server does not say."""

    version: str
    mode: str
    policy: str
    used_bytes: int
    max_bytes: int
    """The memory that it may use: maxmemory, or else that of its machine; 0 if it says neither."""
    evicted: int
    """Keys evicted since the server was started."""
    append_only: bool | None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> ServerState:
        """Read an answer of INFO; servers that only resemble Redis leave fields out."""
        append_only = info.get("aof_enabled")
        return cls(
            version=str(info.get("redis_version", "")),
            mode=str(info.get("redis_mode", "")),
            policy=str(info.get("maxmemory_policy", "")),
            used_bytes=int(info.get("used_memory", 0)),
            max_bytes=int(info.get("maxmemory", 0) or info.get("total_system_memory", 0)),
            evicted=int(info.get("evicted_keys", 0)),
            append_only=None if append_only is None else bool(append_only),
        )

    def fault(self) -> str:
        """Return why this server cannot keep state, as the end of a sentence about it, or ""."""
        major = self.version.partition(".")[0]
        if major.isdigit() and int(major) < MIN_VERSION:
            return f"is version {self.version}: function libraries need {MIN_VERSION}.0 or newer"
        if self.mode == "cluster":
            return cluster_fault()
        if self.mode == "sentinel":
            return "is a Sentinel, which keeps no data: give FRAUD_REDIS_URL the server's address"
        if self.policy not in ("", NO_EVICTION):
            return (
                f"has maxmemory-policy {self.policy}, which deletes cards and positions when the "
                f"memory is full: set maxmemory-policy {NO_EVICTION} and give it enough memory"
            )
        return ""

    def memory_share(self) -> float:
        """Return the memory used as a share of that which it may use, 0 if that is unknown."""
        return self.used_bytes / self.max_bytes if self.max_bytes else 0.0


class ServerWatch:
    """Looks at a server, at the start and while it serves; use it from one thread at a time."""

    def __init__(self, store: CheckedStore, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._evicted: int | None = None
        self._fault = ""

    def check(self) -> None:
        """Return if the server can keep state; log what is only unwise. Blocks.

        Raises:
            ConfigurationError: it cannot, or this user lacks a right; the text names the remedy.
            StoreUnavailable: it does not answer.
        """
        address, info = self._store.address, self._store.information()
        if info is None:
            log.warning("Redis is not checked", address=address, reason=NOT_CHECKED)
        else:
            state = ServerState.of(info)
            fault = state.fault()
            if fault:
                raise ConfigurationError(f"Redis at {address} {fault}")
            _warn(state)
            self._note(state)
        denied = set(self._store.lacking(list(RIGHTS.values())))
        missing = [right for right, command in RIGHTS.items() if command in denied]
        if missing:
            raise ConfigurationError(
                f"Redis at {address}: the user of FRAUD_REDIS_USERNAME lacks {' '.join(missing)}: "
                "grant that with ACL SETUSER; docs/operating.md has the table"
            )

    def look(self) -> str:
        """Return why the server no longer keeps state, or ""; update the metrics. Blocks.

        Raises:
            StoreUnavailable: it does not answer.
        """
        info = self._store.information()
        if info is None:
            self._store.ping()
            return ""
        state = ServerState.of(info)
        self._note(state)
        fault = state.fault()
        reason = f"Redis at {self._store.address} {fault}" if fault else ""
        if reason and reason != self._fault:
            log.error("Redis does not keep its state", reason=reason)
        self._fault = reason
        return reason

    def _note(self, state: ServerState) -> None:
        """Update the metrics."""
        self._metrics.set("redis_memory_ratio", state.memory_share())
        evicted = state.evicted
        before = evicted if self._evicted is None else self._evicted
        self._evicted = evicted
        # A server that was restarted counts from 0 again.
        more = evicted - before if evicted >= before else evicted
        if more:
            self._metrics.count("redis_evicted", more)
            log.error("Redis has evicted keys: state is lost", keys=more)


def _warn(state: ServerState) -> None:
    """Log what does not keep a process from starting, but an operator should know."""
    if state.policy == "":
        log.warning("Redis does not say its maxmemory-policy: it must be noeviction")
    if state.evicted:
        log.warning(
            "Redis has evicted keys since it was started: state may be missing, see RedisEvicts in "
            "the runbook",
            keys=state.evicted,
        )
    if state.append_only is False:
        log.warning(
            "Redis has no append-only file: if it ends, its state is lost and must be rebuilt; set "
            "appendonly yes"
        )
