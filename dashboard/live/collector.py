"""Collects the state of the live page once a second, for all browsers together.

Each round scrapes the processes, computes figures, adds to the history and publishes one message
with the changes. A browser that connects gets the whole state first.
"""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from dashboard.live import quality_figures, service_figures
from dashboard.live.exposition import Scrape
from dashboard.live.history import History
from dashboard.live.hub import Hub, LiveEvent
from dashboard.live.scrape import Scraper
from dashboard.live.topics import LiveTopics
from dashboard.live.verdict import verdict
from dashboard.models.bundles import BundleCache
from runtime.clock import Clock
from runtime.settings import Settings
from schemas.topics import TRANSACTIONS

log = structlog.get_logger(__name__)
EVERY_S: Final = 1.0
OVER: Final = 5
"""Rates and quantiles are over this many rounds."""
FAST_POINTS: Final = 600
SLOW_POINTS: Final = 360
SLOW_EVERY: Final = 10
"""Rounds between slow points: the charts hold ten minutes by the second, and an hour by ten."""


class Collector:
    """Collects on a thread while `running`; `step` is one round."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        scraper: Scraper,
        topics: LiveTopics,
        bundles: BundleCache,
        hub: Hub,
    ) -> None:
        self.topics, self.bundles, self.hub = topics, bundles, hub
        self._scraper, self._clock = scraper, clock
        self._transactions = settings.topic(TRANSACTIONS)
        self._fast = History(service_figures.FIELDS, FAST_POINTS)
        self._slow = History(quality_figures.FIELDS, SLOW_POINTS)
        self._scrapes: deque[Scrape] = deque(maxlen=OVER + 1)
        self._services: dict[str, str] = {}
        self._sections: dict[str, Any] = {}
        self._sent: dict[str, str] = {}
        self._looks = 0
        self._boot = uuid.uuid4().hex[:8]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect, and publish on the present event loop, until the context ends."""
        self.hub.open(asyncio.get_running_loop())
        self.topics.start()
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self.hub.close()
            await asyncio.to_thread(self._end)

    def snapshot(self, seen: str = "") -> LiveEvent:
        """Return the whole state, with the history after event `seen` if this process sent it."""
        boot, _, at = seen.partition("-")
        resumes = boot == self._boot and at.isdigit()
        since = int(at) if resumes else 0
        with self._lock:
            whole = {
                **self._sections,
                "resumes": resumes,
                "fast": self._fast.since(since),
                "slow": self._slow.since(since),
            }
            return LiveEvent(self._identity(), "snapshot", json.dumps(whole))

    def loaded(self) -> frozenset[str] | None:
        """Return the models that scorers have loaded; None if no scorer has been asked yet."""
        newest = self._scrapes[-1] if self._scrapes else None
        if newest is None or not any(
            newest.select("fraud_policy_info", service=service_figures.SCORER)
        ):
            return None
        return frozenset(each["model_id"] for each in quality_figures.serving(newest))

    def step(self) -> None:
        """Collect once, and publish the changes."""
        scrape = self._scraper.scrape()
        self._scrapes.append(scrape)
        before = self._scrapes[0]
        point = service_figures.point(before, scrape, self._transactions)
        sections = self._look(before, scrape, point)
        with self._lock:
            self._sections = sections
            self._fast.add(scrape.at_ms, point)
            change: dict[str, Any] = {"fast": self._fast.since(scrape.at_ms - 1)}
            if self._looks % SLOW_EVERY == 0:
                self._slow.add(scrape.at_ms, sections["quality"])
                change["slow"] = self._slow.since(scrape.at_ms - 1)
            self._looks += 1
            for name, section in sections.items():
                text = json.dumps(section)
                if self._sent.get(name) != text:
                    self._sent[name] = text
                    change[name] = section
            event = LiveEvent(self._identity(), "delta", json.dumps(change))
        self.hub.publish(event)

    def _end(self) -> None:
        self._thread.join(5.0)
        self.topics.stop()
        self._scraper.close()

    def _identity(self) -> str:
        return f"{self._boot}-{self._scrapes[-1].at_ms if self._scrapes else 0}"

    def _look(self, before: Scrape, now: Scrape, point: dict[str, float | None]) -> dict[str, Any]:
        rows = service_figures.processes(before, now, self._services)
        self._services |= {row["name"]: row["service"] for row in rows}
        champion = quality_figures.champion(now)
        with self.topics.lock:
            journal, decided = self.topics.journal, self.topics.decided
            state = None if champion is None else journal.states.get(champion)
            found = {
                "models": journal.models(),
                "policy": journal.policy,
                "changes": journal.changes(),
                "blocks": decided.blocks(),
                "scores": decided.scores(now.at_ms),
                "raised": sorted(journal.raised),
            }
            raised, limits = dict(journal.raised), journal.thresholds
        model = None if state is None else self.bundles.get(state.event)
        if limits is None and model is not None:
            limits = (model.thresholds.review, model.thresholds.block)
        return found | {
            "verdict": verdict(
                rows, point, champion=champion, raised=raised, kafka=self.topics.problem
            )._asdict(),
            "processes": rows,
            "stages": service_figures.stage_times(before, now),
            "totals": service_figures.totals(now),
            "serving": quality_figures.serving(now),
            "quality": quality_figures.quality(now),
            "drift": quality_figures.drift(now),
            "thresholds": limits,
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            began = self._clock.now_ms()
            try:
                self.step()
            except Exception:  # one failed round must not end them all; the page shows its age
                log.exception("collecting failed")
            self._stop.wait(max(EVERY_S - (self._clock.now_ms() - began) / 1e3, 0.05))


def build_collector(settings: Settings, clock: Clock) -> Collector:
    """Return a collector configured by the settings, not yet running.

    Raises:
        ConfigurationError: FRAUD_DASHBOARD_TARGETS has an invalid URL.
    """
    return Collector(
        settings,
        clock,
        scraper=Scraper(settings.dashboard_targets, clock),
        topics=LiveTopics(settings, clock),
        bundles=BundleCache(settings.bundle_trust),
        hub=Hub(),
    )
