"""The feature store in memory, for tests: the same protocol and the same answers as on Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from runtime.clock import Clock, SystemClock
from runtime.feature_store.protocol import NO_CURSOR, Commit, CommitResult, Ownership, refuse_format
from schemas.errors import StoreUnavailable
from schemas.keys import KEY_LETTER, EntityKind


class MemoryFeatureStore:
    """See `protocol.FeatureStore`. `available = False` makes every call fail."""

    def __init__(self, clock: Clock | None = None, prefix: bytes = b"") -> None:
        self.available = True
        self._prefix = prefix
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._values: dict[bytes, tuple[bytes, int]] = {}
        self._epochs: dict[int, int] = {}
        self._format = 0
        self._cursors: dict[int, dict[str, int]] = {}
        self._outboxes: dict[int, bytes] = {}
        self._watermarks: dict[str, tuple[int, int]] = {}

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None for a missing one."""
        with self._lock:
            self.ping()
            return [self._value(key) for key in keys]

    def claim_format(self, version: int) -> None:
        """Record the format of the values, or raise ConfigurationError if another is recorded."""
        with self._lock:
            self.ping()
            self._format = self._format or version
            refuse_format(self._format, version)

    def acquire(self, partition: int) -> Ownership:
        """Take a partition number over and fence its previous owner."""
        with self._lock:
            self.ping()
            epoch = self._epochs[partition] = self._epochs.get(partition, 0) + 1
            cursors = dict(self._cursors.get(partition, {}))
            return Ownership(epoch, cursors, self._outboxes.get(partition, b""))

    def commit(self, commit: Commit) -> CommitResult:
        """Apply all of `commit` or nothing."""
        with self._lock:
            self.ping()
            reason = self._objection(commit)
            if not reason:
                self._apply(commit)
            return CommitResult(not reason, reason)

    def positions(self, partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        """Return the cursors of partition numbers by topic, without taking them over."""
        with self._lock:
            self.ping()
            return {number: dict(self._cursors.get(number, {})) for number in partitions}

    def exchange_watermark(
        self, worker: str, event_time: int | None, ttl_ms: int = 5_000
    ) -> dict[str, int]:
        """Publish the event time that a lagging worker has reached; return those of the others."""
        with self._lock:
            self.ping()
            now = self._clock.now_ms()
            if event_time is None:
                self._watermarks.pop(worker, None)
            else:
                self._watermarks[worker] = (event_time, now + ttl_ms)
            return {
                name: time
                for name, (time, expiry) in self._watermarks.items()
                if name != worker and expiry > now
            }

    def entities(self, kind: EntityKind) -> Iterator[list[tuple[bytes, int]]]:
        """Yield one list of (key, bytes of key and value) for every entity of a kind."""
        with self._lock:
            self.ping()
            start = self._prefix + KEY_LETTER[kind]
            keys = [
                key
                for key in self._values
                if key.startswith(start) and len(key) == len(self._prefix) + 9
            ]
            yield [(key, len(key) + len(value)) for key in keys if (value := self._value(key))]

    def ping(self) -> None:
        """Return if the store is available."""
        if not self.available:
            raise StoreUnavailable("the store in memory is switched off")

    def close(self) -> None:
        """Do nothing: there is no connection to close."""

    def _value(self, key: bytes) -> bytes | None:
        value, expiry = self._values.get(key, (b"", 0))
        return value if expiry > self._clock.now_ms() else None

    def _objection(self, commit: Commit) -> str:
        for partition, epoch in commit.epochs.items():
            if self._epochs.get(partition) != epoch:
                return f"p:{partition}:epoch is {self._epochs.get(partition)}, not {epoch}"
        for topic, partition, expected, _ in commit.advances:
            found = self._cursors.get(partition, {}).get(topic, NO_CURSOR)
            if found != expected:
                return f"p:{partition}:cursors of {topic} is {found}, not {expected}"
        return ""

    def _apply(self, commit: Commit) -> None:
        expiry = self._clock.now_ms() + commit.ttl_ms
        for topic, partition, _, following in commit.advances:
            self._cursors.setdefault(partition, {})[topic] = following
        self._outboxes.update(commit.outbox)
        for key, value in commit.cards:
            self._values[key] = (value, expiry)
        for fold in commit.folds:
            value = self._value(fold.key) or b""
            generation = int.from_bytes(value[:4], "little")
            if (generation, len(value)) == (fold.expected_generation, fold.expected_length):
                self._values[fold.key] = (fold.value, expiry)
            else:
                self._append(fold.key, fold.records, commit.header, expiry)
        for key, records in commit.appends:
            self._append(key, records, commit.header, expiry)

    def _append(self, key: bytes, records: bytes, header: bytes, expiry: int) -> None:
        self._values[key] = ((self._value(key) or header) + records, expiry)
