"""Live page and transaction page in a real browser, over real services under traffic."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dashboard.live import quality_figures
from devstack.stack import Stack
from schemas.codec import avro
from schemas.features import VECTOR_SIZE
from schemas.topics import ALERTS, DECISIONS
from tests.support.browser.live_site import LiveSite, live_site, put_model
from tests.support.browser.live_traffic import label
from tests.support.browser.visits import log_in
from tests.support.waiting import PATIENCE_S, until

PATIENCE_MS = 1000 * PATIENCE_S
SCRIPT = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with live_site(stack, tmp_path_factory.mktemp("live")) as running:
        yield running


def transaction(number: str, **fields: object) -> dict[str, object]:
    return {
        "transaction_id": number, "event_time": time.time_ns() // 1_000_000,
        "card_id": "card-00007", "merchant_id": "shop-quiet", "amount": 130_000,
        "currency": "EUR", "channel": "ECOM", "attributes": {},
    } | fields  # fmt: skip


def wait_decided(site: LiveSite, number: str) -> dict[str, object]:
    """Wait until a transaction is decided; return its Decision."""

    def decision() -> dict[str, object] | None:
        found = (each for each in site.pipeline.records(DECISIONS))
        return next((each for each in found if each["transaction_id"] == number), None)

    until(lambda: decision() is not None, f"the decision of {number}")
    found = decision()
    assert found is not None
    return found


def open_transaction(page: Page, site: LiveSite, number: str) -> None:
    """Open the page of a transaction once the store has it."""
    address = f"{site.address}/transactions/{number}"
    until(lambda: page.request.get(address).ok, f"{number} in the store")
    page.goto(address)


def test_the_page_says_what_the_processes_say(site: LiveSite, browser_page: Page) -> None:
    page = browser_page
    log_in(page, site.address, "vera")
    for name in site.targets:
        expect(page.locator(f"tr[data-process='{name}'] .badge")).to_have_text("ready")
    verdict = re.compile("decisions a second|Answers are slow")  # by how busy this machine is
    expect(page.locator("#verdict-text")).to_contain_text(verdict)
    expect(page.locator("li[data-model='first'] .badge")).to_have_text("champion")
    assert page.locator("button[data-step]").count() == 0  # vera changes no models
    timing = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
    print(f"page loaded in {timing} ms")
    site.traffic.flows.clear()
    try:
        until(lambda: site.scrape().total("fraud_lag") == 0, "all processed")
        expect(page.locator("#health-tiles .tile").nth(3)).to_contain_text(re.compile(r"^Waiting0"))
        decided = site.scrape().total("fraud_decisions_total")
        expect(page.locator("#health-tiles .tile").first).to_contain_text(f"{decided:,.0f} so far")
        expect(page.locator("#verdict")).to_have_attribute("data-level", "idle")
    finally:
        site.traffic.flows.set()


def test_a_block_comes_with_its_reason_and_leads_to_its_page(
    site: LiveSite, browser_page: Page
) -> None:
    page = browser_page
    log_in(page, site.address, "ana")
    sent = transaction("seen-1", merchant_id="shop-seen", device_id="device-9")
    site.pipeline.send_transactions([sent])
    site.pipeline.send_label(label(sent, fraud=True))
    decision = wait_decided(site, "seen-1")
    block = page.locator("#blocks li", has_text="shop-seen")
    expect(block).to_contain_text("1,300.00 EUR")
    expect(block).to_contain_text("amount 1,300.00")
    expect(block).to_contain_text("••••0007")
    open_transaction(page, site, "seen-1")
    expect(page.locator("#decision")).to_have_text("BLOCK")
    expect(page.locator("#score")).to_have_text(f"{decision['score']:.3f}")
    expect(page.locator("dl.inputs")).to_contain_text("card-00007")
    expect(page.locator("dl.inputs")).to_contain_text("device-9")
    expect(page.locator("[data-feature='amount']")).to_contain_text("amount 1,300.00")
    assert page.locator("#features tbody tr").count() == VECTOR_SIZE + 1
    expect(page.locator("#contributions li").first).to_contain_text("amount 1,300.00")
    expect(page.locator("#contributions li").first).to_have_class("raises")
    expect(page.locator(".decided-by")).to_contain_text("first")
    expect(page.locator(".marks")).to_contain_text("label: fraud")
    expect(page.locator(".table tr.this")).to_contain_text("this one")
    assert page.locator("#features tbody tr:visible").count() < VECTOR_SIZE + 1
    page.get_by_label("all features").check()
    assert page.locator("#features tbody tr:visible").count() == VECTOR_SIZE + 1


def test_viewers_see_no_whole_card_and_search_by_id(site: LiveSite, browser_page: Page) -> None:
    page = browser_page
    log_in(page, site.address, "vera")
    site.pipeline.send_transactions([transaction("seen-2", card_id="card-secret-4711")])
    wait_decided(site, "seen-2")
    open_transaction(page, site, "seen-2")
    expect(page.locator("dl.inputs")).to_contain_text("••••4711")
    assert "card-secret-4711" not in page.content()
    box = page.get_by_role("searchbox")
    box.fill("seen-3")
    box.press("Enter")
    expect(page.locator("h1")).to_have_text("No such transaction")


def test_what_transactions_and_topics_carry_stays_text(
    site: LiveSite, browser_page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page = browser_page
    log_in(page, site.address, "olga")
    marked = {name: f"{name[:4]}{SCRIPT}"[:64] for name in ("merchant_id", "transaction_id")}
    long = {name: f"{name}{SCRIPT}" for name in ("customer_id", "device_id")}
    name, value = f"key{SCRIPT}"[:64], f"value{SCRIPT}"
    sent = transaction("x", **marked, **long, attributes={name: value})
    site.pipeline.send_transactions([sent])
    put_model(
        site.pipeline, tmp_path_factory.mktemp("models"), "third", "SHADOW", f"comment{SCRIPT}"
    )
    alert = {
        "rule": f"rule{SCRIPT}", "severity": "WARNING", "summary": f"summary{SCRIPT}",
        "detail": {}, "service": SCRIPT, "occurred_at": time.time_ns() // 1_000_000,
    }  # fmt: skip
    site.pipeline.send(ALERTS, "rule", avro.encode("Alert", alert))
    site.pipeline.producer.flush(30.0)
    decision = wait_decided(site, marked["transaction_id"])
    expect(page.locator("#changes")).to_contain_text(f"rule{SCRIPT} summary{SCRIPT}")
    expect(page.locator("#changes")).to_contain_text(f"comment{SCRIPT}")
    block = page.locator("#blocks li", has_text=marked["merchant_id"])
    expect(block).to_be_visible()
    until(lambda: _stored(page, site, marked["transaction_id"]), "the store")
    page.goto(site.address)
    page.get_by_role("searchbox").fill(marked["transaction_id"])
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("h1")).to_have_text(str(decision["transaction_id"]))
    for text in (marked["merchant_id"], *long.values(), name, value):
        expect(page.locator("dl.inputs")).to_contain_text(text)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0


def _stored(page: Page, site: LiveSite, number: str) -> bool:
    found = page.request.get(f"{site.address}/transactions", params={"id": number})
    return "No such transaction" not in found.text()


def test_an_owner_promotes_and_rolls_back(site: LiveSite, browser_page: Page) -> None:
    page = browser_page
    log_in(page, site.address, "olga")
    row = page.locator("li[data-model='second']")
    row.get_by_role("button", name="Promote").click()
    page.get_by_label("Why").fill("better on the holdout")
    page.locator("#step-confirm").click()
    expect(row.locator(".badge")).to_have_text("champion")
    expect(page.locator("#changes")).to_contain_text(
        "is the champion (olga): better on the holdout"
    )
    until(
        lambda: quality_figures.champion(site.scrape()) == "second",
        "the scorer's swap",
    )
    row.get_by_role("button", name="Roll back").click()
    page.locator("#step-confirm").click()
    expect(page.locator("li[data-model='first'] .badge")).to_have_text("champion")
    until(
        lambda: quality_figures.champion(site.scrape()) == "first",
        "the scorer's way back",
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible(site: LiveSite, browser_page: Page, theme: str) -> None:
    page = browser_page
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    log_in(page, site.address, "olga")
    expect(page.locator("#blocks a").first).to_be_visible()
    expect(page.locator("#drift li").first).to_be_visible()
    assert serious(page) == []
    number = page.locator("#blocks a").first.get_attribute("href") or ""
    open_transaction(page, site, number.rsplit("/", 1)[1])
    assert page.locator("html").get_attribute("data-theme") == theme
    assert serious(page) == []


def serious(page: Page) -> list[str]:
    """Return axe's findings that count."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_a_lost_connection_is_seen_and_comes_back(
    site: LiveSite, browser_page: Page, console_errors: list[str]
) -> None:
    page = browser_page
    log_in(page, site.address, "vera")
    expect(page.locator("#freshness")).to_contain_text("Live")
    points = "document.querySelectorAll('#throughput canvas').length"
    assert page.evaluate(points) == 1
    site.dashboard.stop()
    expect(page.locator("#freshness")).to_contain_text("No data since")
    expect(page.locator("#live")).to_have_attribute("data-stale", "")
    site.dashboard.start()
    site.dashboard.wait_ready()
    expect(page.locator("#freshness")).to_contain_text("Live")
    assert console_errors
    assert all("net::ERR" in each for each in console_errors)
    console_errors.clear()


@pytest.mark.parametrize("width", [1400, 420])
def test_nothing_overflows(site: LiveSite, chromium: Browser, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900})
    try:
        log_in(page, site.address, "olga")
        expect(page.locator("#blocks a").first).to_be_visible()
        size = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert size[0] == width
        if width == 1400:
            assert size[1] == 900  # all of it at a glance
    finally:
        page.close()


def test_quality_and_drift_are_the_monitors(site: LiveSite, browser_page: Page) -> None:
    """The last one: the monitor evaluates once a minute, which passes during the others."""
    page = browser_page
    log_in(page, site.address, "vera")
    until(
        lambda: quality_figures.quality(site.scrape())["precision"] is not None,
        "labels",
    )
    tile = page.locator("#quality-tiles .tile").first
    until(lambda: _shares(tile.text_content()) == _precision(site), "the tile")
    expect(page.locator("#drift li").first).to_be_visible()
    until(
        lambda: (
            page.locator("#drift .name").all_text_contents()
            == [each["column"] for each in quality_figures.drift(site.scrape())]
        ),
        "the drift of the monitor",
    )


def _shares(text: str | None) -> list[str]:
    return re.findall(r"[\d.]+%", text or "")


def _precision(site: LiveSite) -> list[str]:
    """Return precision of all alerts and of blocks alone, as the page writes them."""
    quality = quality_figures.quality(site.scrape())
    values = [100 * quality[name] for name in ("precision", "block_precision")]
    return [f"{value:.1f}%" if value < 99.95 else f"{value:.0f}%" for value in values]
