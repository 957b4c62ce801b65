"""The feature store on Redis (7 or newer) or Valkey.

A load is one round trip of MGETs, a commit one call of the function library `commit.lua`. Besides
the entities (`schemas.keys`), these keys are used, under the same prefix: `p:<n>:epoch`,
`p:<n>:cursors` (a hash of topic to next offset) and `p:<n>:outbox` for partition number n,
`watermarks`, and `format`.

An ACL user needs: ~prefix* +@connection +mget +hgetall +get +set +append +pexpire +strlen +getrange
+del +incr +pttl +hget +hset +hdel +time +fcall +function|load +scan +memory|usage.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from itertools import chain
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.feature_store.expiry import RecentExpiry
from runtime.feature_store.protocol import Commit, CommitResult, Ownership, refuse_format
from runtime.settings import Settings
from schemas.errors import ConfigurationError, FatalError, StoreUnavailable
from schemas.keys import KEY_LETTER, EntityKind

MGET_KEYS: Final = 1024
"""Keys in one MGET, so that a large batch does not hold up other clients of Redis."""
SCAN_KEYS: Final = 1000


@contextmanager
def _typed_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise ConfigurationError(
            f"Redis at {url} refuses this user: {error}; see FRAUD_REDIS_USERNAME"
        ) from error
    except (
        redis.ConnectionError,
        redis.TimeoutError,
        redis.exceptions.ReadOnlyError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.TryAgainError,
    ) as error:
        raise StoreUnavailable(f"Redis at {url} is not available: {error}") from error
    except redis.ResponseError as error:
        if str(error).startswith(("LOADING", "MASTERDOWN", "MISCONF", "BUSY", "NOREPLICAS")):
            raise StoreUnavailable(f"Redis at {url} is not available: {error}") from error
        raise FatalError(f"Redis at {url} refused a command: {error}") from error
    except redis.RedisError as error:  # an invalid answer: the connection is broken
        raise StoreUnavailable(f"Redis at {url} is not available: {error}") from error


class RedisFeatureStore:
    """See `runtime.feature_store.protocol.FeatureStore`; connects at the first call.

    Args:
        url: redis://, rediss:// (TLS) or unix://; may carry user, password and database.
        prefix: put in front of every key except those of entities, which already carry it.
        timeout_s: how long a call waits for an answer before it raises StoreUnavailable.
        ca_file: certificates to trust with rediss://; None for those of the system.
    """

    def __init__(
        self,
        url: str,
        prefix: bytes = b"",
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        if username:
            options["username"] = username
        if password:
            options["password"] = password
        if url.startswith("rediss://"):
            options |= {"ssl_ca_certs": ca_file, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        elif ca_file:
            raise ConfigurationError("FRAUD_REDIS_CA needs a rediss:// URL in FRAUD_REDIS_URL")
        try:
            # No retries here: a lost answer may belong to a commit that was applied.
            self._redis: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
        except ValueError as error:
            raise ConfigurationError(f"FRAUD_REDIS_URL is not a valid URL: {error}") from error
        self._url = url.rpartition("@")[2]
        self._prefix = prefix
        self._source = resources.files("runtime.feature_store").joinpath("commit.lua").read_text()
        self._loaded = False
        self._expiry = RecentExpiry()

    @classmethod
    def from_settings(cls, settings: Settings, prefix: bytes | None = None) -> Self:
        """Return the store that the settings name; `prefix` replaces theirs."""
        password = settings.redis_password
        return cls(
            settings.redis_url.get_secret_value(),
            settings.key_prefix if prefix is None else prefix,
            username=settings.redis_username,
            password=password.get_secret_value() if password else None,
            ca_file=str(settings.redis_ca) if settings.redis_ca else None,
            timeout_s=settings.redis_timeout_ms / 1000,
        )

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None for a missing one, in one round trip."""
        with _typed_errors(self._url):
            if len(keys) <= MGET_KEYS:
                return list(self._redis.mget(keys)) if keys else []
            pipeline = self._redis.pipeline(transaction=False)
            for start in range(0, len(keys), MGET_KEYS):
                pipeline.mget(keys[start : start + MGET_KEYS])
            return list(chain.from_iterable(pipeline.execute()))

    def claim_format(self, version: int) -> None:
        """Record the format of the values, or raise ConfigurationError if another is recorded."""
        key = self._prefix + b"format"
        with _typed_errors(self._url):
            if self._redis.set(key, version, nx=True):
                return
            found = self._redis.get(key)
        refuse_format(int(found or version), version)

    def acquire(self, partition: int) -> Ownership:
        """Take a partition number over and fence its previous owner."""
        keys = [self._key(partition, name) for name in (b"epoch", b"cursors", b"outbox")]
        epoch, flat, outbox = self._call("fraud_acquire", keys, [])
        return Ownership(int(epoch), _cursors(flat), outbox)

    def commit(self, commit: Commit) -> CommitResult:
        """Apply all of `commit` or nothing, in one call."""
        due, lately = self._expiry.split(commit.appends, commit.ttl_ms)
        keys: list[bytes] = [self._key(number, b"epoch") for number in commit.epochs]
        keys += [self._key(advance.partition, b"cursors") for advance in commit.advances]
        keys += [self._key(number, b"outbox") for number in commit.outbox]
        args: list[Any] = [
            commit.ttl_ms,
            commit.header,
            len(commit.epochs),
            len(commit.advances),
            len(commit.outbox),
            len(commit.cards),
            len(commit.folds),
            len(commit.appends),
            len(lately),
            *commit.epochs.values(),
        ]
        for advance in commit.advances:
            args += (advance.topic, advance.expected, advance.next)
        args += commit.outbox.values()
        for key, value in commit.cards:
            keys.append(key)
            args.append(value)
        for fold in commit.folds:
            keys.append(fold.key)
            generation = fold.expected_generation.to_bytes(4, "little")
            args += (generation, fold.expected_length, fold.value, fold.records)
        for key, records in chain(due, lately):
            keys.append(key)
            args.append(records)
        reason: bytes = self._call("fraud_commit", keys, args)
        if not reason:
            self._expiry.extended(key for key, _ in due)
        return CommitResult(not reason, reason.decode(errors="backslashreplace"))

    def positions(self, partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        """Return the cursors of partition numbers by topic, without taking them over."""
        with _typed_errors(self._url):
            pipeline = self._redis.pipeline(transaction=False)
            for number in partitions:
                pipeline.hgetall(self._key(number, b"cursors"))
            found = pipeline.execute()
        return {
            number: {topic.decode(): int(offset) for topic, offset in cursors.items()}
            for number, cursors in zip(partitions, found, strict=True)
        }

    def time_to_live(self, key: bytes) -> int:
        """Return the remaining time to live of an entity in ms, negative if it does not expire."""
        with _typed_errors(self._url):
            return int(self._redis.pttl(key))

    def exchange_watermark(
        self, worker: str, event_time: int | None, ttl_ms: int = 5_000
    ) -> dict[str, int]:
        """Publish the event time that a lagging worker has reached; return those of the others."""
        time = "" if event_time is None else event_time
        key = self._prefix + b"watermarks"
        return _cursors(self._call("fraud_watermark", [key], [worker, time, ttl_ms]))

    def entities(self, kind: EntityKind) -> Iterator[list[tuple[bytes, int]]]:
        """Yield lists of (key, bytes of memory with key and overhead) for every entity of a kind.

        An entity that is written meanwhile may appear twice or not at all.
        """
        start = self._prefix + KEY_LETTER[kind]
        width = len(self._prefix) + 9
        pattern = re.sub(rb"([*?\[\]\\^])", rb"\\\1", start) + b"*"
        cursor = 0
        while True:
            with _typed_errors(self._url):
                cursor, found = self._redis.scan(cursor, match=pattern, count=SCAN_KEYS)
                keys = [key for key in found if len(key) == width]
                pipeline = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.memory_usage(key, samples=0)
                sizes = pipeline.execute()
            yield [(key, size) for key, size in zip(keys, sizes, strict=True) if size is not None]
            if cursor == 0:
                return

    def ping(self) -> None:
        """Return if Redis answers; otherwise raise StoreUnavailable."""
        with _typed_errors(self._url):
            self._redis.ping()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _key(self, partition: int, name: bytes) -> bytes:
        return b"%bp:%d:%b" % (self._prefix, partition, name)

    def _call(self, function: str, keys: list[bytes], args: list[Any]) -> Any:
        try:
            return self._fcall(function, keys, args)
        except StoreUnavailable:
            self._expiry.forget()  # a restarted server may have lost the last second
            raise

    def _fcall(self, function: str, keys: list[bytes], args: list[Any]) -> Any:
        with _typed_errors(self._url):
            if not self._loaded:
                self._load_library()
            try:
                return self._redis.execute_command("FCALL", function, len(keys), *keys, *args)
            except redis.ResponseError as error:
                # The server was replaced or emptied and has run nothing of this call.
                if "Function not found" not in str(error):
                    raise
                self._load_library()
                self._expiry.forget()
                return self._redis.execute_command("FCALL", function, len(keys), *keys, *args)

    def _load_library(self) -> None:
        self._redis.execute_command("FUNCTION", "LOAD", "REPLACE", self._source)
        self._loaded = True


def _cursors(flat: Sequence[bytes]) -> dict[str, int]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): int(number) for name, number in pairs}
