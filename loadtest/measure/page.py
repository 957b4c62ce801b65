"""Watches the dashboard's live page in a real browser: load time, and whether its memory grows.

Memory is read after a garbage collection, so that only live objects count. The first third of the
run is left out, because the page's history fills up during it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from devstack.fetch.browser import chromium
from schemas.errors import ConfigurationError, FatalError

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

FIGURES: Final = {"JSHeapUsedSize": "heap_bytes", "Nodes": "nodes", "JSEventListeners": "listeners"}
MAX_STEADY_GROWTH: Final = 0.1
"""Growth from the middle third of a run to its last third that still counts as steady."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageVisit:
    """The dashboard's address, the account to log in with, and how long to stay."""

    address: str
    username: str
    password: str
    seconds: float
    every_s: float = 10.0


def visit(what: PageVisit, tick: Callable[[float], None]) -> dict[str, Any]:
    """Stay on the live page and return the report; `tick` is called with the progress, 0 to 1.

    Raises:
        ConfigurationError: Chromium or Playwright is missing, or the log-in failed.
        FatalError: the page stopped receiving data.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ConfigurationError("playwright is missing: install the dev extra") from error
    program, env = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, env=env, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        _log_in(page, what)
        page.reload()
        page.wait_for_selector("#processes tr", timeout=60_000)
        loaded = page.evaluate(
            "performance.timing.loadEventEnd - performance.timing.navigationStart"
        )
        session = page.context.new_cdp_session(page)
        rows = list(_watch(page, session, what, tick))
        browser.close()
    return build_report(loaded, what.seconds, rows)


def build_report(
    load_ms: float, seconds: float, rows: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Return the report of a visit."""
    return {
        "command": "page",
        "load_ms": load_ms,
        "seconds": seconds,
        **judge_growth(rows),
        "readings": rows,
    }


def judge_growth(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the growth of each figure from the middle third to the last, and whether it is steady.

    >>> judge_growth([{"heap_bytes": 10.0}, {"heap_bytes": 20.0}, {"heap_bytes": 21.0}])
    {'growth': {'heap_bytes': 0.05}, 'steady': True}
    """
    third = len(rows) // 3
    growth = {}
    for name in rows[0].keys() - {"at_s"} if rows else ():
        middle, last = (
            float(np.median([row[name] for row in part] or [0.0]))
            for part in (rows[third : 2 * third], rows[2 * third :])
        )
        growth[name] = round(last / max(middle, 1.0) - 1.0, 4)
    steady = bool(growth) and all(each <= MAX_STEADY_GROWTH for each in growth.values())
    return {"growth": growth, "steady": steady}


def _log_in(page: Page, what: PageVisit) -> None:
    page.goto(f"{what.address}/login")
    page.get_by_label("Username").fill(what.username)
    page.get_by_label("Password").fill(what.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_load_state()
    if page.url.endswith("/login"):
        raise ConfigurationError(f"{what.username} cannot log in at {what.address}")


def _watch(
    page: Page, session: CDPSession, what: PageVisit, tick: Callable[[float], None]
) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    session.send("Performance.enable")
    began = time.monotonic()
    while (passed := time.monotonic() - began) < what.seconds:
        tick(passed / what.seconds)
        page.wait_for_timeout(1000 * min(what.every_s, what.seconds - passed))
        session.send("HeapProfiler.collectGarbage")
        answer = session.send("Performance.getMetrics")
        values = {each["name"]: float(each["value"]) for each in answer["metrics"]}
        row = {"at_s": round(time.monotonic() - began, 1)}
        rows.append(row | {name: values[key] for key, name in FIGURES.items()})
        if page.locator("#live[data-stale]").count():
            raise FatalError(f"the page stopped receiving data after {row['at_s']} s")
    return rows
