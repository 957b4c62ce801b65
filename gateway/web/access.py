"""Access: API keys, their tenants, scopes and rates.

The keys are reloaded every two seconds, so a revoked key stops working within that time. While the
database does not answer, the keys of the last successful load remain valid, but not for ever.
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
from gateway.web.rates import Allowance, Rates
from runtime.clock import Clock
from schemas.errors import TemporaryError

log = structlog.get_logger(__name__)
REFRESH_S: Final = 2.0
MIN_RELOAD_PAUSE_S: Final = 0.2
"""An unknown key causes a reload, but not more often than this."""
BEARER: Final = b"bearer "
MAX_KEY_BYTES: Final = 200
OFFLINE_S: Final = 3_600.0
WARN_MS: Final = 14 * 86_400_000
"""The log tells of a key that expires within this time."""
_NOBODY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: an API key with its tenant, its scopes and what it may still use."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    allowance: Allowance

    def admit(self, now: float) -> None:
        """Count one transaction or look-up.

        Raises:
            Problem: the key has exceeded one of its rates.
        """
        self.allowance.admit(now)

    def spend(self, size: int, seconds: float) -> None:
        """Book the bytes of a body and the processing time that it took."""
        self.allowance.spend(asyncio.get_running_loop().time(), size=size, seconds=seconds)


class Keyring:
    """The keys in force. Use it on the event loop; `load` blocks and runs on another thread.

    Args:
        rates: limits of each key.
        offline_s: how long the keys remain valid if they cannot be loaded again.
    """

    def __init__(
        self,
        load: Callable[[], Sequence[ApiKey]],
        clock: Clock,
        rates: Rates,
        *,
        refresh_s: float = REFRESH_S,
        offline_s: float = OFFLINE_S,
    ) -> None:
        self._load, self._clock, self._rates = load, clock, rates
        self._refresh_s, self._offline_s = refresh_s, offline_s
        self._keys: dict[str, ApiKey] = {}
        self._allowances: dict[str, Allowance] = {}
        self._told: set[str] = set()
        self._tried_at = self._loaded_at = -math.inf
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
            if loop.time() - self._tried_at < MIN_RELOAD_PAUSE_S:
                return
            self._tried_at = loop.time()
            try:
                keys = await loop.run_in_executor(None, self._load)
            except TemporaryError as error:
                log.warning("API keys not reloaded, the last ones remain valid", reason=str(error))
                return
            except Exception:  # go on reloading, or a revoked key would work for ever
                log.exception("API keys not reloaded, the last ones remain valid")
                return
        self._loaded_at = loop.time()
        self._keys = {key.key_id: key for key in keys}
        self._allowances = {
            name: each for name, each in self._allowances.items() if name in self._keys
        }
        self._tell_of_expiry()

    async def caller(self, authorization: bytes | None) -> Caller:
        """Return the caller whose key an Authorization header carries.

        Raises:
            Problem: the header has no valid key, or keys have not been loaded for too long.
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
        now = asyncio.get_running_loop().time()
        if now - self._loaded_at > self._offline_s:
            # A key may have been revoked meanwhile, and nobody could know.
            raise Problem(
                "unavailable",
                "the gateway has not been able to load its API keys for too long "
                "(FRAUD_API_KEYS_OFFLINE): send it again later",
                headers={"Retry-After": "5"},
            )
        if found is None or not found.valid(self._clock.now_ms()):
            raise _unknown("this API key is not valid: unknown, revoked or expired")
        return Caller(found.key_id, found.tenant, found.scopes, self._allowance(found.key_id, now))

    def _tell_of_expiry(self) -> None:
        now_ms = self._clock.now_ms()
        for key in self._keys.values():
            if key.expires_at is None or key.key_id in self._told or not key.valid(now_ms):
                continue
            if key.expires_at - now_ms < WARN_MS:
                self._told.add(key.key_id)
                days = (key.expires_at - now_ms) // 86_400_000
                log.warning("an API key expires soon", key_id=key.key_id, name=key.name, days=days)

    def _find(self, key: bytes) -> ApiKey | None:
        found = self._keys.get(id_of(key.decode("latin-1")))
        right = hmac.compare_digest(hashed(key), _NOBODY if found is None else found.hashed)
        return found if right else None

    def _allowance(self, key_id: str, now: float) -> Allowance:
        found = self._allowances.get(key_id)
        if found is None:
            found = self._allowances[key_id] = Allowance(self._rates, now)
        return found


def _unknown(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="fraud"'})
