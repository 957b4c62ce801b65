"""Reads /metrics and /readyz of all watched processes at once. Blocks for at most `MAX_S`.

A process that does not answer in time counts as down. It is not asked again until its pending
request has ended, so a hanging process occupies only one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from dashboard.live.exposition import Exposition, Reading, Scrape
from runtime.clock import Clock
from schemas.errors import ConfigurationError

TIMEOUT_S: Final = 1.0
MAX_S: Final = 2.5
MAX_BYTES: Final = 4_000_000
NO_ANSWER: Final = "does not answer"


class Scraper:
    """Reads each target on its own thread; `targets` gives base URLs by name.

    Raises:
        ConfigurationError: a target is not an http or https URL.
    """

    def __init__(self, targets: Mapping[str, str], clock: Clock) -> None:
        for name, url in targets.items():
            if not url.startswith(("http://", "https://")):
                raise ConfigurationError(
                    f"FRAUD_DASHBOARD_TARGETS: {name} is {url!r}: write http://host:port"
                )
        self._urls = {
            name: url.rstrip("/").removesuffix("/metrics") for name, url in targets.items()
        }
        self._clock = clock
        self._opener = build_opener(ProxyHandler({}))  # a proxy would not reach our processes
        self._threads = ThreadPoolExecutor(max(len(targets), 1), "scrape")
        self._asked: dict[str, Future[Reading]] = {}

    def scrape(self) -> Scrape:
        """Return the present readings of all processes."""
        for name, url in self._urls.items():
            if name not in self._asked:
                self._asked[name] = self._threads.submit(self._read, url)
        wait(self._asked.values(), MAX_S)
        found = {}
        for name in self._urls:
            asked = self._asked[name]
            found[name] = asked.result() if asked.done() else Reading(False, reason=NO_ANSWER)
            if asked.done():
                del self._asked[name]
        return Scrape(self._clock.now_ms(), found)

    def close(self) -> None:
        """Stop the threads without waiting; a hanging one ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, url: str) -> Reading:
        try:
            metrics = Exposition.parse(self._text(f"{url}/metrics"))
        except (URLError, HTTPException, OSError, ValueError) as error:
            return Reading(False, reason=_why(error))
        try:
            self._text(f"{url}/readyz")
        except HTTPError as error:
            return Reading(True, False, error.read(500).decode(errors="replace").strip(), metrics)
        except (URLError, HTTPException, OSError) as error:
            return Reading(True, False, _why(error), metrics)
        return Reading(True, True, "", metrics)

    def _text(self, url: str) -> str:
        with self._opener.open(url, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_BYTES)
        return data.decode(errors="replace")


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"{NO_ANSWER} within {TIMEOUT_S:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused: it is not running, or still starting"
    return str(reason) or type(reason).__name__
