"""The feature store on Redis (7 or newer) or Valkey.

A load is one round trip of MGETs, a commit one call of the function library `commit.lua`. Besides
the entities (`schemas.keys`), these keys are used, under the same prefix: `p:<n>:epoch`,
`p:<n>:cursors` (a hash of topic to next offset) and `p:<n>:outbox` for partition number n,
`watermarks`, and `format`.

`redis_server` checks the server and this user's rights, which docs/operating.md lists.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.feature_store.expiry import RecentExpiry
from runtime.feature_store.protocol import Commit, CommitResult, Ownership, refuse_format
from runtime.feature_store.redis_errors import typed_errors, unknown_command, unreadable
from runtime.settings import Settings
from schemas.errors import ConfigurationError, StoreUnavailable
from schemas.keys import KEY_LETTER, EntityKind

MGET_KEYS: Final = 1024
"""Keys in one MGET, so that a large batch does not hold up other clients of Redis."""
SCAN_KEYS: Final = 1000
EARLIEST, LATEST = -(2**63), 2**63 - 1
"""Event times take eight bytes; the latest one means that a worker does not lag."""
MAX_DIGITS: Final = 18
"""Digits of the longest position or epoch, which fit into eight bytes."""


@cache
def _library() -> tuple[str, str]:
    """Return the text of the function library, and the version that ends all names in it.

    The version is a hash of the text, so processes of two versions of this code can share a server.
    """
    text = resources.files("runtime.feature_store").joinpath("commit.lua").read_text()
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    return text.replace("VERSION", version), version


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

    @property
    def address(self) -> str:
        """The address without user and password."""
        return self._url

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None for a missing one, in one round trip."""
        with typed_errors(self._url):
            if len(keys) <= MGET_KEYS:
                return list(self._redis.mget(keys)) if keys else []
            pipeline = self._redis.pipeline(transaction=False)
            for start in range(0, len(keys), MGET_KEYS):
                pipeline.mget(keys[start : start + MGET_KEYS])
            return list(chain.from_iterable(pipeline.execute()))

    def claim_format(self, version: int) -> None:
        """Record the format of the values, or raise ConfigurationError if another is recorded."""
        key = self._prefix + b"format"
        with typed_errors(self._url):
            if self._redis.set(key, version, nx=True):
                return
            found = self._redis.get(key)
        refuse_format(version if found is None else _number(key, found), version)

    def acquire(self, partition: int) -> Ownership:
        """Take a partition number over and fence its previous owner."""
        keys = [self._key(partition, name) for name in (b"epoch", b"cursors", b"outbox")]
        epoch, flat, outbox = self._call("acquire", keys, [])
        return Ownership(epoch, _cursors(keys[1], flat), outbox)

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
        reason: bytes = self._call("commit", keys, args)
        if not reason:
            self._expiry.extended(key for key, _ in due)
        return CommitResult(not reason, reason.decode(errors="backslashreplace"))

    def positions(self, partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        """Return the cursors of partition numbers by topic, without taking them over."""
        with typed_errors(self._url):
            pipeline = self._redis.pipeline(transaction=False)
            keys = [self._key(number, b"cursors") for number in partitions]
            for key in keys:
                pipeline.hgetall(key)
            found = pipeline.execute()
        return {
            number: _cursors(key, list(chain.from_iterable(cursors.items())))
            for number, key, cursors in zip(partitions, keys, found, strict=True)
        }

    def time_to_live(self, key: bytes) -> int:
        """Return the remaining time to live of an entity in ms, negative if it does not expire."""
        with typed_errors(self._url):
            return int(self._redis.pttl(key))

    def exchange_watermark(
        self, worker: str, event_time: int | None, ttl_ms: int = 5_000
    ) -> dict[str, int]:
        """Publish the event time that a lagging worker has reached; return those of the others."""
        time = "" if event_time is None else event_time
        key = self._prefix + b"watermarks"
        others = iter(self._call("watermark", [key], [worker, time, ttl_ms]))
        return {
            name.decode(errors="backslashreplace"): max(EARLIEST, min(int(reached), LATEST))
            for name, reached in zip(others, others, strict=True)
        }

    def entities(self, kind: EntityKind) -> Iterator[list[tuple[bytes, int]]]:
        """Yield lists of (key, bytes of memory with key and overhead) for every entity of a kind.

        An entity that is written meanwhile may appear twice or not at all.
        """
        start = self._prefix + KEY_LETTER[kind]
        width = len(self._prefix) + 9
        pattern = re.sub(rb"([*?\[\]\\^])", rb"\\\1", start) + b"*"
        cursor = 0
        while True:
            with typed_errors(self._url):
                cursor, found = self._redis.scan(cursor, match=pattern, count=SCAN_KEYS)
                keys = [key for key in found if len(key) == width]
                pipeline = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.memory_usage(key, samples=0)
                sizes = pipeline.execute()
            yield [(key, size) for key, size in zip(keys, sizes, strict=True) if size is not None]
            if cursor == 0:
                return

    def information(self) -> dict[str, Any] | None:
        """Return what INFO says, or None if this user may not ask."""
        with typed_errors(self._url):
            try:
                return dict(self._redis.info())
            except redis.exceptions.NoPermissionError:
                return None
            except redis.ResponseError as error:
                if unknown_command(error):
                    return None
                raise

    def lacking(self, commands: Sequence[str]) -> list[str]:
        """Return those of `commands` that this user may not run; KEY stands for a key of ours."""
        denied = self._call("rights", [self._prefix + b"format"], list(commands))
        return [command.decode() for command in denied]

    def ping(self) -> None:
        """Return if Redis answers; otherwise raise StoreUnavailable."""
        with typed_errors(self._url):
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
        text, version = _library()
        call = ("FCALL", f"fraud_{function}_{version}", len(keys), *keys, *args)
        with typed_errors(self._url):
            try:
                return self._redis.execute_command(*call)
            except redis.ResponseError as error:
                # The server is new, or was replaced or emptied, and has run nothing of this call.
                if "Function not found" not in str(error):
                    raise
                self._redis.execute_command("FUNCTION", "LOAD", "REPLACE", text)
                self._expiry.forget()
                return self._redis.execute_command(*call)


def _cursors(key: bytes, flat: Sequence[bytes]) -> dict[str, int]:
    """Return the cursors by topic from the names and numbers of a hash.

    Raises:
        UnreadableValue: one of them cannot be a position.
    """
    found = {}
    for name, number in zip(flat[::2], flat[1::2], strict=True):
        topic = name.decode(errors="backslashreplace")
        found[topic] = _number(key, number, f"the position in {topic}, ")
    return found


def _number(key: bytes, text: bytes, name: str = "") -> int:
    """Return a number that is not negative and takes at most eight bytes."""
    if not text.isdigit() or len(text) > MAX_DIGITS:
        shown = text[:40].decode(errors="backslashreplace")
        raise unreadable(repr(key), f"{name}'{shown}', is not a number from 0 on")
    return int(text)
