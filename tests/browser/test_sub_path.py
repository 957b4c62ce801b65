"""The pages and their scripts under a sub-path, as behind a proxy that passes it on."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from runtime.settings import load_settings
from tests.support.browser.visits import log_in, served
from tests.support.dashboard.site import Site
from tests.unit.dashboard.conftest import migrated, site
from tests.unit.dashboard.test_models import event

__all__ = ["migrated", "site"]


def test_pages_links_forms_and_scripts_stay_under_the_sub_path(
    site: Site, browser_page: Page
) -> None:
    site = Site(site.database, settings=load_settings(dashboard_root_path="/fraud"))
    site.registry.register(event("new"))
    site.add("jane", "admin")
    page = browser_page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with served(site.app) as host:
        address = f"{host}/fraud"
        log_in(page, address, "jane", to="/models")
        page.get_by_role("button", name="Promote").click()
        page.locator("#step-yes").click()
        expect(page).to_have_url(f"{address}/models?changed=promote")
        with page.expect_response(f"{address}/live/events") as stream:
            page.get_by_role("link", name="Live").click()
        assert stream.value.status == 200
        expect(page).to_have_url(f"{address}/")
        page.get_by_role("link", name="Review queue").click()
        expect(page).to_have_url(f"{address}/queue")
        page.locator("summary").click()
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{address}/login")
    outside = [url for url in asked if not url.startswith(f"{address}/")]
    assert outside == []
    assert f"{address}/static/paths.js" in asked
