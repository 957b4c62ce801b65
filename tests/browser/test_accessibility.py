"""axe-core finds no serious fault on the pages of access and models, in light and in dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from database.accounts import attempts
from tests.support.browser.visits import log_in, served
from tests.support.dashboard.letters import encoded, refuse
from tests.support.dashboard.site import Site
from tests.unit.dashboard.conftest import migrated, site
from tests.unit.dashboard.test_models import event

__all__ = ["migrated", "site"]
GRAVE = ("serious", "critical")


def faults(page: Page) -> list[str]:
    """Return what axe-core finds grave: rule, and where."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found
        if each["impact"] in GRAVE
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 420)])
def test_pages_have_no_grave_fault(site: Site, browser_page: Page, scheme: str, width: int) -> None:
    page = browser_page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})
    for name in ("champion", "canary", "shadow", "bad"):
        site.registry.register(event(name))
    site.registry.change("bad", "CHAMPION", actor="omar")
    site.registry.change("bad", "ROLLED_BACK", actor="monitor", comment="blocks too much")
    site.registry.change("champion", "CHAMPION", actor="omar")
    site.registry.change("canary", "CANARY", actor="omar", share=0.05)
    site.registry.change("shadow", "SHADOW", actor="omar")
    site.add("jane", "admin")
    site.add("omar", "model owner")
    with site.database.begin() as connection:
        for _ in range(6):
            attempts.begin(connection, attempts.account("omar"), now_ms=site.clock.now_ms())
    refuse(site.broker, b"card", encoded(1))
    with served(site.app) as address:
        page.goto(f"{address}/login")
        assert faults(page) == []
        for path in (
            "/models",
            "/people",
            "/audit",
            "/password",
            "/dead-letters",
            "/dead-letters/0",
        ):
            log_in(page, address, "jane", to=path)
            assert faults(page) == [], path
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, path
        page.goto(f"{address}/models")
        page.get_by_role("button", name="Canary").first.click()
        assert faults(page) == []
