"""The review queue in a real Chromium: keyboard, two analysts, live refresh, hostile text, axe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from database.core.database import Database
from database.review import case_work
from database.review.cases import Case, list_cases, read_case
from runtime.settings import load_settings
from tests.support.browser.visits import served
from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import PASSWORD, Site
from tests.support.waiting import until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
expect.set_options(timeout=60_000)
HOSTILE = '"><img src=x onerror="document.title=\'hit\'"><script>document.title="hit"</script>\''


class Office:
    """A dashboard with analysts ann and bob behind an address."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.database = database
        self.site = Site(database, settings=load_settings(**settings))
        for username in ("ann", "bob"):
            self.site.add(username, "analyst")

    @contextmanager
    def opened(self) -> Iterator[Office]:
        with served(self.site.app) as self.address:
            yield self

    def enter(self, page: Page, username: str) -> Page:
        """Log in by way of the queue."""
        page.goto(f"{self.address}/queue")
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/queue")
        return page

    def case(self, number: int) -> Case:
        with self.database.read() as connection:
            case = read_case(connection, number)
        assert case is not None
        return case


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    with Office(database).opened() as opened:
        yield opened


def test_a_queue_is_worked_by_keyboard_alone(office: Office, browser_page: Page) -> None:
    stored(office.database, [review(n) for n in range(1, 5)])  # case 4 is the most urgent
    page = office.enter(browser_page, "ann")
    keys = page.keyboard

    keys.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    keys.press("n")  # rests behind the dialog
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.url.endswith("/queue")

    for key, focused in (("j", 4), ("j", 3), ("j", 2), ("k", 3), ("k", 4), ("k", 4)):
        keys.press(key)
        expect(page.locator(f'tr[data-case="{focused}"] .line-link')).to_be_focused()
    keys.press("Enter")
    page.wait_for_url("**/queue/4")
    keys.press("j")
    page.wait_for_url("**/queue/3")
    keys.press("k")
    page.wait_for_url("**/queue/4")
    keys.press("f")  # not hers yet
    keys.press("t")
    expect(page.get_by_text("Your verdict")).to_be_visible()
    page.wait_for_load_state()  # keys work once the page's script has run
    assert office.case(4).verdict is None

    keys.press("m")
    note = page.get_by_label("Note")
    expect(note).to_be_focused()
    keys.type("fgnur found a ring?")  # no shortcut works within a field
    expect(note).to_have_value("fgnur found a ring?")
    keys.press("Escape")
    expect(note).not_to_be_focused()
    keys.press("f")
    page.wait_for_url("**/queue/3")  # the next case opened itself
    case = office.case(4)
    assert (case.verdict, case.note, case.decided_by) == ("FRAUD", "fgnur found a ring?", "ann")

    expect(page.get_by_role("status")).to_contain_text("400.00 EUR at shop-4")
    keys.press("u")
    page.wait_for_url("**/queue/4")
    expect(page.get_by_label("Note")).to_have_value("fgnur found a ring?")
    assert office.case(4).verdict is None
    keys.press("g")
    page.wait_for_url("**/queue/3")
    assert office.case(4).verdict == "GENUINE"

    keys.press("r")
    page.wait_for_url("**/queue")
    assert office.case(3).claimed_by is None
    keys.press("n")
    page.wait_for_url("**/queue/3")
    keys.press("Control+f")  # the browser's own
    keys.press("n")
    page.wait_for_url("**/queue/2")
    keys.press("q")
    page.wait_for_url("**/queue")
    assert [office.case(n).claimed_by for n in (1, 2, 3)] == [None, "ann", "ann"]


def test_two_analysts_never_hold_the_same_case(
    office: Office, chromium: Browser, browser_page: Page
) -> None:
    stored(office.database, [review(n) for n in range(1, 9)])
    pages = {"ann": office.enter(browser_page, "ann")}
    with chromium.new_context() as context:
        pages["bob"] = office.enter(context.new_page(), "bob")
        for page in pages.values():
            # Both presses are under way before either is answered.
            page.locator('[data-key="n"]').evaluate("button => setTimeout(() => button.click(), 1)")
        seen: dict[str, list[str]] = {"ann": [], "bob": []}
        for _ in range(4):
            for who, page in pages.items():
                page.wait_for_url(lambda url: url.rsplit("/", 1)[1].isdigit())
                expect(page.get_by_text("Your verdict")).to_be_visible()
                seen[who].append(page.url.rsplit("/", 1)[1])
            for page in pages.values():
                page.locator('[data-key="g"]').evaluate(
                    "button => { button.dataset.pressed = 1; setTimeout(() => button.click(), 1) }"
                )
            for page in pages.values():
                page.wait_for_selector("[data-pressed]", state="detached")
    assert sorted(seen["ann"] + seen["bob"]) == [str(n) for n in range(1, 9)]
    with office.database.read() as connection:
        decided = list_cases(connection, 0, "decided", "ann")
    assert {str(case.case_id): case.decided_by for case in decided} == {
        number: who for who, numbers in seen.items() for number in numbers
    }


def test_pages_keep_themselves_fresh(office: Office, browser_page: Page) -> None:
    page = office.enter(browser_page, "ann")
    expect(page.get_by_text("Nothing to review")).to_be_visible()
    stored(office.database, [review(1)])
    expect(page.get_by_text("shop-1")).to_be_visible()
    page.keyboard.press("j")
    stored(office.database, [review(2)])
    expect(page.get_by_text("shop-2")).to_be_visible()
    expect(page.locator('tr[data-case="1"] .line-link')).to_be_focused()  # kept over the refresh

    page.goto(f"{office.address}/queue/1")
    expect(page.get_by_role("button", name="Take this case")).to_be_visible()
    now = office.site.clock.now_ms()
    with office.database.begin() as connection:
        case_work.claim(connection, 1, "bob", now, 60_000)
    expect(page.get_by_role("heading", name="Held by bob")).to_be_visible()
    with office.database.begin() as connection:
        case_work.decide(connection, 1, "bob", "FRAUD", "stolen", now)
    expect(page.get_by_text("stolen")).to_be_visible()


def test_a_claim_lasts_while_its_reader_is_active(database: Database, browser_page: Page) -> None:
    with Office(database, case_claim="4s").opened() as office:
        stored(database, [review(1)])
        page = office.enter(browser_page, "ann")
        page.keyboard.press("n")
        page.wait_for_url("**/queue/1")
        expect(page.locator("[data-claim]")).to_have_text("0:04")
        before = office.case(1).claimed_until
        office.site.clock.advance(1_000)

        def renewed() -> bool:
            page.mouse.move(10, 10)
            page.mouse.move(40, 40)
            return office.case(1).claimed_until == (before or 0) + 1_000

        until(renewed, "a longer claim")


def test_hostile_text_stays_text(office: Office, browser_page: Page) -> None:
    reasons = [{"code": HOSTILE, "text": HOSTILE, "contribution": 1.0}]
    fields: dict[str, Any] = {
        "card_id": HOSTILE,
        "merchant_id": HOSTILE,
        "reasons": reasons,
        "model_id": HOSTILE,
    }
    inputs = {name: HOSTILE for name in ("device_id", "customer_id", "ip_country", "card_country")}
    records = [review(n, **fields) for n in (1, 2)] + [review(3, transaction_id=HOSTILE)]
    stored(office.database, records, attributes={HOSTILE: HOSTILE}, **inputs)
    page = office.enter(browser_page, "ann")
    page.keyboard.press("n")
    for number, following in ((3, "/queue/2"), (2, "/queue/1"), (1, "/queue")):
        page.wait_for_url(f"**/queue/{number}")
        office.site.clock.advance(1)
        page.get_by_label("Note").fill(HOSTILE)
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        page.wait_for_url(f"**{following}")
        expect(page.get_by_role("status")).to_contain_text("shop-3" if number == 3 else HOSTILE)
        assert page.title() != "hit"
    for number in (1, 2, 3):
        page.goto(f"{office.address}/queue/{number}")
        expect(page.locator("blockquote")).to_have_text(HOSTILE)
        assert page.title().startswith("Case")
    page.goto(f"{office.address}/queue?shown=decided")
    with page.expect_response("**/queue/lines*"):
        pass
    expect(page.locator(".merchant").first).to_be_visible()
    assert page.title().startswith("Review queue")
    assert page.locator("img, main script").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(
    office: Office, chromium: Browser, theme: Any, database_url: str
) -> None:
    cases = stored(
        office.database, [review(n, merchant_id="shop") for n in range(1, 5)], device_id="d-1"
    )
    with office.database.begin() as connection:
        for case in cases[:2]:
            now = office.site.clock.now_ms()
            case_work.claim(connection, case.case_id, "ann", now, 60_000)
            case_work.decide(connection, case.case_id, "ann", "FRAUD", "ring", now)
    faults = []
    for width, paths in ((1400, ("queue?shown=decided", "queue/1")), (420, ("queue/4",))):
        with chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme
        ) as context:
            page = office.enter(context.new_page(), "ann")
            faults += _serious(page)
            page.keyboard.press("n")
            page.wait_for_url(lambda url: url.rsplit("/", 1)[1].isdigit())
            faults += _serious(page)
            page.keyboard.press("?")
            expect(page.get_by_role("dialog")).to_be_visible()
            faults += _serious(page)
            for path in paths:
                page.goto(f"{office.address}/{path}")
                faults += _serious(page)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults == []


def _serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url} {each['id']}: {node['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
