"""Access: API keys, their scopes and their rate limits.

The keys are reloaded every two seconds, so a revoked key stops working within that time. While the
database does not answer, the keys of the last successful load remain valid.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from database.accounts.api_keys import ApiKey, hashed, id_of
from gateway.web.problems import Problem
from runtime.clock import Clock
from schemas.errors import TemporaryError

log = structlog.get_logger(__name__)
REFRESH_S: Final = 2.0
MIN_RELOAD_PAUSE_S: Final = 0.2
"""An unknown key causes a reload, but not more often than this."""
BEARER: Final = b"bearer "
MAX_KEY_BYTES: Final = 200
_NOBODY: Final = bytes(32)


class Bucket:
    """Token bucket: `rate` tokens per second, and as many at once after a quiet second."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._tokens, self._at = rate, rate, now

    def _fill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._rate)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0; if there is none, return the seconds until the next one."""
        self._fill(now)
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def reserve(self, now: float) -> float:
        """Take a token, on credit if necessary; return the seconds to wait before using it."""
        self._fill(now)
        self._tokens -= 1
        return max(-self._tokens / self._rate, 0.0)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: an API key with its scopes and its rate limit."""

    key_id: str
    scopes: frozenset[str]
    bucket: Bucket

    def admit(self, now: float) -> None:
        """Count one transaction or look-up.

        Raises:
            Problem: the key has exceeded its rate.
        """
        wait = self.bucket.take(now)
        if wait > 0:
            raise Problem(
                "rate-limit",
                "this key has exceeded its rate: wait, or ask for a higher FRAUD_API_RATE",
                headers={"Retry-After": str(math.ceil(wait))},
            )


class Keyring:
    """The keys in force. Use it on the event loop; `load` blocks and runs on another thread."""

    def __init__(
        self,
        load: Callable[[], Sequence[ApiKey]],
        clock: Clock,
        rate: float,
        *,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._load, self._clock, self._rate = load, clock, rate
        self._refresh_s = refresh_s
        self._keys: dict[str, ApiKey] = {}
        self._buckets: dict[str, Bucket] = {}
        self._loaded_at = -math.inf
        self._loading = asyncio.Lock()

    async def keep_fresh(self) -> None:
        """Reload the keys periodically, until cancelled."""
        while True:
            await asyncio.sleep(self._refresh_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Reload the keys, unless that has just been done; on failure the present ones remain."""
        loop = asyncio.get_running_loop()
        async with self._loading:
            if loop.time() - self._loaded_at < MIN_RELOAD_PAUSE_S:
                return
            self._loaded_at = loop.time()
            try:
                keys = await loop.run_in_executor(None, self._load)
            except TemporaryError as error:
                log.warning("API keys not reloaded, the last ones remain valid", reason=str(error))
                return
            except Exception:  # go on reloading, or a revoked key would work for ever
                log.exception("API keys not reloaded, the last ones remain valid")
                return
        self._keys = {key.key_id: key for key in keys}
        self._buckets = {
            name: bucket for name, bucket in self._buckets.items() if name in self._keys
        }

    async def caller(self, authorization: bytes | None) -> Caller:
        """Return the caller whose key an Authorization header carries.

        Raises:
            Problem: the header has no valid key.
        """
        if authorization is None or authorization[: len(BEARER)].lower() != BEARER:
            raise _unknown("send an API key: Authorization: Bearer fraud_…")
        key = authorization[len(BEARER) :].strip()
        if len(key) > MAX_KEY_BYTES:
            raise _unknown("this API key is not valid")
        found = self._find(key)
        if found is None:
            await self.refresh()  # the key may have just been created
            found = self._find(key)
        if found is None or not found.valid(self._clock.now_ms()):
            raise _unknown("this API key is not valid: unknown, revoked or expired")
        return Caller(found.key_id, found.scopes, self._bucket(found.key_id))

    def _find(self, key: bytes) -> ApiKey | None:
        found = self._keys.get(id_of(key.decode("latin-1")))
        right = hmac.compare_digest(hashed(key), _NOBODY if found is None else found.hashed)
        return found if right else None

    def _bucket(self, key_id: str) -> Bucket:
        bucket = self._buckets.get(key_id)
        if bucket is None:
            now = asyncio.get_running_loop().time()
            bucket = self._buckets[key_id] = Bucket(self._rate, now)
        return bucket


def _unknown(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="fraud"'})
