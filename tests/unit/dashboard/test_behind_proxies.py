"""The dashboard behind reverse proxies: a sub-path, ports in Host, what proxies say of TLS."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi.testclient import TestClient

from dashboard.web.pages import STATIC, TEMPLATES
from runtime.settings import load_settings
from runtime.web.forwarded import behind_proxies
from tests.support.browser.visits import served
from tests.support.dashboard.site import ADDRESS, PASSWORD, Site, log_in
from tests.support.waiting import PATIENCE_S

ROOT = "/fraud"
ELSEWHERE = re.compile(r'(?:href|src|action|data-[a-z]+)="(/[^"]*)"')
KEEPS = pytest.mark.parametrize("kept", [ROOT, ""], ids=["kept by the proxy", "cut off"])


@pytest.fixture
def below(site: Site) -> Site:
    return Site(site.database, settings=load_settings(dashboard_root_path=ROOT))


@KEEPS
def test_a_person_works_under_a_sub_path(below: Site, kept: str) -> None:
    below.add("jane", "admin")
    browser = below.stranger()
    asked = browser.get(f"{kept}/people")
    assert asked.headers["location"] == f"{ROOT}/login?next=%2Fpeople"
    page = browser.get(f"{kept}/login?next=%2Fpeople").text
    assert f'action="{ROOT}/login"' in page
    form = {"username": "jane", "password": PASSWORD, "next": "/people"}
    entered = browser.post(f"{kept}/login", data=form)
    assert (entered.status_code, entered.headers["location"]) == (303, f"{ROOT}/people")
    assert f"Path={ROOT};" in entered.headers["set-cookie"]
    browser.cookies.clear()
    browser.headers["Cookie"] = entered.headers["set-cookie"].partition(";")[0]
    for path in ("/", "/people", "/models", "/queue", "/audit", "/runbook", "/transactions?id=x"):
        shown = browser.get(f"{kept}{path}")
        assert shown.status_code in (200, 404), path
        links = ELSEWHERE.findall(shown.text)
        assert links
        assert [link for link in links if not link.startswith(f"{ROOT}/")] == []
    assert browser.get(f"{kept}/static/live.js").status_code == 200
    assert browser.get(f"{kept}/static/live.js").headers["cache-control"] == "no-cache"
    token = re.search(r'name="csrf" value="([^"]+)"', browser.get(f"{kept}/people").text)
    assert token is not None
    left = browser.post(f"{kept}/logout", data={"csrf": token[1]})
    assert (left.status_code, left.headers["location"]) == (303, f"{ROOT}/login")


def test_the_bare_sub_path_is_the_start_page(below: Site) -> None:
    assert below.stranger().get(ROOT).headers["location"] == f"{ROOT}/login?next=%2F"


def test_only_whole_parts_of_a_path_are_the_sub_path(below: Site) -> None:
    answer = below.stranger().get("/fraudulent")
    assert answer.headers["location"] == f"{ROOT}/login?next=%2Ffraudulent"


def test_a_redirect_to_another_host_is_nobodys(below: Site) -> None:
    below.add("jane", "viewer")
    entered = log_in(below.stranger(), "jane", next="//evil.test/x")
    assert entered.headers["location"] == f"{ROOT}/"


def test_with_tls_the_cookie_of_a_sub_path_is_kept_from_other_applications(below: Site) -> None:
    below.add("jane", "viewer")
    address = ADDRESS.replace("http:", "https:")
    browser = below.stranger(base_url=address, headers={"Origin": address})
    cookie = log_in(browser, "jane").headers["set-cookie"]
    assert cookie.startswith("__Secure-session=")
    assert "Path=/fraud;" in cookie
    assert "Secure" in cookie


def test_every_address_in_templates_and_scripts_allows_for_a_sub_path() -> None:
    found = [
        f"{path.name}: {match}"
        for path in [*TEMPLATES.glob("*.html"), *STATIC.glob("*.js")]
        for match in _absolute(path)
    ]
    assert found == []


def _absolute(path: Path) -> list[str]:
    text = path.read_text()
    if path.suffix == ".html":
        return re.findall(r'(?:href|src|action|data-[a-z]+)="/[^"]*"', text)
    return re.findall(r'(?<!onSite\()["`]/[a-z][^"`]*["`]', text)


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "status"),
    [
        ("https", "fraud.test:443", "https://fraud.test", 303),
        ("https", "fraud.test", "https://fraud.test:443", 303),
        ("http", "fraud.test:80", "http://fraud.test", 303),
        ("https", "Fraud.Test", "https://fraud.test", 303),
        ("https", "fraud.test:8443", "https://fraud.test:8443", 303),
        ("http", "[2001:db8::1]:80", "http://[2001:db8::1]", 303),
        ("https", "fraud.test", "https://fraud.test:8443", 403),
        ("https", "fraud.test:80", "https://fraud.test", 403),
        ("http", "fraud.test:443", "https://fraud.test", 403),
        ("https", "fraud.test", "https://fraud.test.evil", 403),
        ("https", "fraud.test", "https://user@fraud.test", 403),
        ("https", "fraud.test", "https://fraud.test/", 403),
        ("https", "fraud.test", "null", 403),
        ("https", "fraud.test", "https://fraud.test:x", 403),
        ("https", "", "https://", 403),
    ],
)
def test_origin_and_host_are_compared_with_their_ports(
    site: Site, scheme: str, host: str, origin: str, status: int
) -> None:
    site.add("jane", "viewer")
    browser = site.stranger(base_url=f"{scheme}://fraud.test", headers={"Origin": origin})
    answer = browser.post(
        "/login", data={"username": "jane", "password": PASSWORD}, headers={"Host": host}
    )
    assert answer.status_code == status


def test_a_refusal_says_which_origin_and_which_host_it_compared(site: Site) -> None:
    answer = site.stranger(headers={"Origin": "https://fraud.test:8443"}).post("/login")
    told = answer.json()["detail"]
    assert "https://fraud.test:8443" in told
    assert ADDRESS in told


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([("X-Forwarded-Proto", "https")], "https"),
        ([("X-Forwarded-Proto", "https,http")], "https"),
        ([("X-Forwarded-Proto", "https, https")], "https"),
        ([("X-Forwarded-Proto", "HTTPS")], "https"),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], "https"),
        ([("X-Forwarded-Proto", "http,https")], "http"),
        ([("X-Forwarded-Proto", "gopher")], "http"),
        ([], "http"),
    ],
)
@pytest.mark.parametrize("trusted", ["testclient", "192.0.2.1"])
def test_two_proxies_may_both_say_how_the_client_came(
    site: Site, headers: list[tuple[str, str]], scheme: str, trusted: str
) -> None:
    site.add("jane", "viewer")
    browser = TestClient(behind_proxies(site.app, trusted), base_url=ADDRESS)
    believed = scheme if trusted == "testclient" else "http"
    origin = ("Origin", ADDRESS.replace("http:", f"{believed}:"))
    form = urlencode({"username": "jane", "password": PASSWORD})
    entered = browser.post(
        "/login",
        content=form,
        headers=[*headers, origin, ("Content-Type", "application/x-www-form-urlencoded")],
        follow_redirects=False,
    )
    assert entered.status_code == 303
    name = "__Host-session=" if believed == "https" else "session="
    assert entered.headers["set-cookie"].startswith(name)


def test_head_is_answered_wherever_get_is(site: Site) -> None:
    browser = site.person("admin")
    for path in ("/models", "/people", "/healthz", "/readyz", "/static/style.css", "/nowhere"):
        got, head = browser.get(path), browser.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
    assert browser.head("/logout").status_code == 405


def test_head_of_an_event_stream_ends(site: Site) -> None:
    token = site.person("viewer").cookies["session"]
    with (
        served(site.app) as address,
        httpx.Client(base_url=address, cookies={"session": token}, timeout=PATIENCE_S) as browser,
    ):
        answer = browser.head("/live/events")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert browser.head("/live/events").status_code == 200, "the connection is still good"
        browser.cookies.clear()
        assert browser.head("/live/events").status_code == 401


def test_a_form_may_be_compressed_and_another_encoding_is_refused(site: Site) -> None:
    site.add("jane", "viewer")
    form = urlencode({"username": "jane", "password": PASSWORD}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
    browser = site.stranger()
    assert browser.post("/login", content=gzip.compress(form), headers=headers).status_code == 303
    bomb = gzip.compress(b"x" * 10_000_000)
    statuses: list[Any] = [
        browser.post("/login", content=bomb, headers=headers).status_code,
        browser.post("/login", content=form, headers=headers).status_code,
        browser.post(
            "/login", content=form, headers={**headers, "Content-Encoding": "br"}
        ).status_code,
    ]
    assert statuses == [413, 400, 415]
