"""A real Chromium for tests of the pages; whatever it writes to its console fails the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

import devstack.fetch.browser

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT_MS = 60_000
"""Of each step: the machine may be busy with other things."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of a file's tests. Playwright keeps an asyncio loop running in this thread, in
    which no other test could run one: so it ends with the file.
    """
    program, env = devstack.fetch.browser.chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, env=env, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def console_errors() -> list[str]:
    """What the page wrote as an error; a test that expects some takes them out."""
    return []


@pytest.fixture
def browser_page(chromium: Browser, console_errors: list[str]) -> Iterator[Page]:
    """A page of a browser with no cookies and nothing stored, 1400 wide, in light colours."""

    def wrote(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            console_errors.append(f"{message.text} ({message.location.get('url', '')})")

    def raised(error: Error) -> None:
        console_errors.append(str(error))

    context = chromium.new_context(
        viewport={"width": 1400, "height": 900}, color_scheme="light", ignore_https_errors=True
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.on("console", wrote)
    page.on("pageerror", raised)
    yield page
    context.close()
    assert console_errors == []
