"""Scraping, the hub, and the collector that joins them: what browsers are told."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dashboard.live.collector import Collector
from dashboard.live.hub import MAX_WAITING, Hub, LiveEvent
from dashboard.live.scrape import Scraper
from dashboard.live.topics import LiveTopics
from dashboard.models.bundles import BundleCache
from runtime.clock import ManualClock
from runtime.health import HealthServer
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.errors import ConfigurationError


class Process:
    """A process that serves its metrics."""

    def __init__(self) -> None:
        self.metrics, self.waits = Metrics("scorer"), ""
        self.metrics.set("model_info", 1, model_id="m", role="CHAMPION")
        self.server = HealthServer(0, self.metrics, lambda: self.waits)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process()
    with made.server:
        yield made


def test_a_process_is_up_ready_waiting_or_down(process: Process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        targets = {
            "one": f"{process.address}/metrics", "silent": silent_address,
            "gone": "http://127.0.0.1:9", "other": f"{process.address}/other",
        }  # fmt: skip
        scraper = Scraper(targets, ManualClock(5))
        found = scraper.scrape()
        assert found.at_ms == 5
        one = found.processes["one"]
        assert (one.up, one.ready, one.metrics.service) == (True, True, "scorer")
        assert not found.processes["silent"].up
        assert "within 1 s" in found.processes["silent"].reason
        assert "connection refused" in found.processes["gone"].reason
        assert not found.processes["other"].up
        process.waits = "waits for Kafka"
        one = scraper.scrape().processes["one"]
        assert (one.up, one.ready, one.reason) == (True, False, "waits for Kafka")
        scraper.close()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_DASHBOARD_TARGETS: a is 'localhost'"):
        Scraper({"a": "localhost"}, ManualClock(0))


class Told(Hub):
    """Keeps what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[LiveEvent] = []

    def publish(self, message: LiveEvent) -> None:
        """Keep it."""
        self.events.append(message)


def collector(process: Process, clock: ManualClock) -> Collector:
    settings = load_settings()
    return Collector(
        settings,
        clock,
        scraper=Scraper({"one": process.address}, clock),
        topics=LiveTopics(settings, clock),
        bundles=BundleCache(),
        hub=Hub(),
    )


def test_browsers_get_everything_first_and_then_what_changed(process: Process) -> None:
    clock = ManualClock(1_000_000)
    made = collector(process, clock)
    told = Told()
    made.hub = told
    for _ in range(12):
        process.metrics.count("decisions", 10, decision="BLOCK", model_role="CHAMPION")
        made.step()
        clock.advance(1_000)
    whole = made.snapshot()
    state: dict[str, Any] = json.loads(whole.data)
    assert whole.kind == "snapshot"
    assert not state["resumes"]
    assert len(state["fast"]["at"]) == 12
    assert len(state["slow"]["at"]) == 2
    assert state["fast"]["block"][-1] == 10.0
    assert state["totals"]["decided"] == 120
    assert state["processes"][0]["up"]
    changes = [json.loads(event.data) for event in told.events]
    assert all(len(change["fast"]["at"]) == 1 for change in changes)
    assert "models" in changes[0]
    assert "models" not in changes[1]  # as before
    assert "totals" in changes[1]


def test_a_browser_goes_on_from_its_last_event_or_gets_everything(process: Process) -> None:
    clock = ManualClock(1_000_000)
    made = collector(process, clock)
    for _ in range(3):
        made.step()
        clock.advance(1_000)
    seen = made.snapshot().identity
    made.step()
    resumed = json.loads(made.snapshot(seen).data)
    assert resumed["resumes"]
    assert resumed["fast"]["at"] == [1_003_000]
    for foreign in ("", "other-1000", f"{seen}x"):
        anew = json.loads(made.snapshot(foreign).data)
        assert not anew["resumes"]
        assert len(anew["fast"]["at"]) == 4


def event(number: int) -> LiveEvent:
    return LiveEvent(str(number), "delta", "{}")


def test_the_hub_hands_out_to_all_and_drops_who_is_slow() -> None:
    async def scenario() -> None:
        hub = Hub()
        hub.open(asyncio.get_running_loop())
        slow, quick = hub.join(), hub.join()
        got: list[str] = []

        async def listen() -> None:
            async for each in hub.listen(quick):
                got.append(each.identity)

        listening = asyncio.create_task(listen())
        for number in range(MAX_WAITING + 1):
            sender = threading.Thread(target=hub.publish, args=(event(number),))
            sender.start()
            await asyncio.to_thread(sender.join)
            await asyncio.sleep(0)
        assert len(hub) == 1
        assert [each async for each in hub.listen(slow)] == []
        hub.close()
        await listening
        assert got == [str(number) for number in range(MAX_WAITING + 1)]
        assert len(hub) == 0
        hub.publish(event(99))  # after the end: nobody is told, nothing breaks

    asyncio.run(scenario())
