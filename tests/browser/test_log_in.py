"""A person logs in, changes the password and the colours, works, and logs out."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from database.accounts import audit, people
from tests.support.browser.visits import log_in, served
from tests.support.dashboard.letters import encoded, refuse
from tests.support.dashboard.site import PASSWORD, Site
from tests.unit.dashboard.conftest import migrated, site
from tests.unit.dashboard.test_models import event

__all__ = ["migrated", "site"]
REFUSED = re.compile("Failed to load resource: the server responded with a status of 401")


def test_first_log_in_asks_for_a_password_and_log_out_ends_it(
    site: Site, browser_page: Page, console_errors: list[str]
) -> None:
    one_time, hashed = site.passwords.one_time()
    with site.database.begin() as connection:
        people.add(connection, "jane", "admin", hashed, by="test", now_ms=site.clock.now_ms())
    with served(site.app) as address:
        page = browser_page
        page.goto(f"{address}/people")
        expect(page).to_have_url(f"{address}/login?next=%2Fpeople")
        page.get_by_label("Username").fill("jane")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("Username or password is wrong.")
        assert [REFUSED.match(each) is not None for each in console_errors] == [True]
        console_errors.clear()
        page.get_by_label("Password").fill(one_time)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
        page.get_by_label("Current password").fill(one_time)
        page.get_by_label("New password", exact=True).fill(PASSWORD)
        page.get_by_label("New password again").fill(PASSWORD)
        page.get_by_role("button", name="Save password").click()
        expect(page).to_have_url(f"{address}/")
        page.goto(f"{address}/people")
        expect(page.get_by_role("heading", name="People")).to_be_visible()
        cookies = {each["name"]: each for each in page.context.cookies()}
        cookie = cookies["session"]
        assert cookies.keys() == {"session", "device"}
        assert all(each["httpOnly"] for each in cookies.values())
        assert page.evaluate("document.cookie") == ""
        page.locator("summary").click()
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{address}/login")
        replayed = {"name": cookie["name"], "value": cookie["value"], "url": address}
        page.context.add_cookies([replayed])  # type: ignore[list-item]
        page.goto(f"{address}/people")
        expect(page).to_have_url(f"{address}/login?next=%2Fpeople")


def test_dead_letters_are_sent_again_once_the_question_is_answered(
    site: Site, browser_page: Page
) -> None:
    refuse(site.broker, b"card", encoded(1))
    site.add("jane", "admin")
    with served(site.app) as address:
        page = browser_page
        log_in(page, address, "jane", to="/dead-letters")
        page.get_by_role("button", name="Send all again").click()
        page.get_by_role("button", name="Cancel").click()
        with site.database.read() as connection:
            assert audit.entries(connection, action="dead letter sent again") == []
        page.get_by_role("button", name="Send all again").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_role("status")).to_contain_text("1 sent again")


def test_a_model_is_promoted_by_its_dialog(site: Site, browser_page: Page) -> None:
    site.registry.register(event("new"))
    site.add("omar", "model owner")
    with served(site.app) as address:
        page = browser_page
        log_in(page, address, "omar", to="/models")
        page.get_by_role("button", name="Canary").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Let new decide for a share of the cards?")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Promote").click()
        expect(dialog.get_by_label("Share of the cards (%)")).to_be_hidden()
        dialog.get_by_label("Why").fill("it is better")
        dialog.get_by_role("button", name="Promote").click()
        expect(page.get_by_role("status")).to_contain_text("Done: model promoted")
        expect(page.get_by_role("row", name="new")).to_contain_text("CHAMPION")
    state = site.registry.states().get("new")
    assert state is not None
    assert (state.stage, state.event["comment"]) == ("CHAMPION", "it is better")


def test_disabling_a_person_is_asked_for_first(site: Site, browser_page: Page) -> None:
    site.add("jane", "admin")
    site.add("omar", "viewer")
    with served(site.app) as address:
        page = browser_page
        log_in(page, address, "jane", to="/people")
        button = page.get_by_role("row", name="omar").get_by_role("button", name="Disable")
        button.click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        button.click()
        page.get_by_role("dialog").get_by_role("button", name="Yes").click()
        expect(page.get_by_role("status")).to_have_text("Changed: omar")
        expect(page.get_by_role("row", name="omar")).to_contain_text("disabled")
    with site.database.read() as connection:
        assert len(audit.entries(connection, action="person disabled")) == 1


def test_colours_follow_the_system_until_they_are_chosen(site: Site, browser_page: Page) -> None:
    with served(site.app) as address:
        page = browser_page
        page.goto(f"{address}/login")
        html = page.locator("html")
        expect(html).to_have_attribute("data-theme", "light")
        page.emulate_media(color_scheme="dark")
        expect(html).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="Colours").click()
        expect(html).to_have_attribute("data-theme", "light")
        page.reload()
        expect(html).to_have_attribute("data-theme", "light")


def test_injected_script_does_not_run(site: Site, browser_page: Page) -> None:
    site.add("jane", "admin")
    attack = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    site.registry.register({**event(attack), "actor": attack, "comment": attack})
    with site.database.begin() as connection:
        audit.record(
            connection,
            who=attack,
            action="verdict",
            subject=attack,
            after={attack: attack},
            now_ms=0,
        )
    with served(site.app) as address:
        page = browser_page
        for path in ("/audit", "/models", "/people"):
            log_in(page, address, "jane", to=path)
            expect(page).to_have_title(re.compile("Fraud scoring"))
        page.goto(f"{address}/models")
        page.get_by_role("button", name="Promote").click()
        expect(page.get_by_role("dialog")).to_contain_text(attack)
        expect(page).to_have_title(re.compile("Fraud scoring"))
