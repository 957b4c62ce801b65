"""The page /audit, and that what strangers write into it stays text."""

from __future__ import annotations

import re

from database.accounts import audit
from tests.support.dashboard.site import Site, log_in, page_by_page

SCRIPT = "<script>alert(1)</script>"


def fill(site: Site, count: int) -> None:
    with site.database.begin() as connection:
        for number in range(count):
            audit.record(
                connection,
                who=f"person-{number % 3}",
                action="verdict" if number % 2 else "model promoted",
                subject=f"subject-{number}",
                before={"stage": "CANARY", "share": 0.05},
                after={"stage": "CHAMPION", "share": None},
                now_ms=number * 1000,
            )


def subjects(text: str) -> list[int]:
    return [int(found) for found in re.findall(r">subject-(\d+)<", text)]


def test_the_page_shows_everything_newest_first_page_by_page(site: Site) -> None:
    admin = site.person("admin")
    fill(site, 120)
    texts = page_by_page(admin, "/audit")
    text = texts[-1]
    seen = [number for each in texts for number in subjects(each)]
    assert seen == list(range(119, -1, -1))
    assert 'href="/audit"' in text  # back to the newest


def test_the_page_filters_by_who_action_and_subject(site: Site) -> None:
    admin = site.person("admin")
    fill(site, 120)
    assert subjects(admin.get("/audit?subject=subject-7").text) == [7]
    found = admin.get("/audit?who=person-1&action=verdict").text
    assert subjects(found) == list(range(115, 0, -6))
    assert "older_than" not in found
    assert "<option selected>verdict</option>" in found
    assert "No entries match this filter" in admin.get("/audit?who=nobody").text
    paged = admin.get("/audit?action=verdict").text
    assert "action=verdict&amp;older_than=" in paged
    assert admin.get("/audit?older_than=x").status_code == 422
    assert admin.get(f"/audit?who={'x' * 200}").status_code == 422


def test_before_and_after_are_shown(site: Site) -> None:
    admin = site.person("admin")
    fill(site, 1)
    text = admin.get("/audit").text
    assert "<del>CANARY</del> → <ins>CHAMPION</ins>" in text
    assert "<dt>share</dt><dd><del>0.05</del></dd>" in text
    assert "1970-01-01 00:00:00" in text


def test_what_a_stranger_writes_stays_text(site: Site) -> None:
    admin = site.person("admin")
    log_in(site.stranger(), SCRIPT, "wrong")
    log_in(site.stranger(), '"><img src=x onerror=alert(1)>', "wrong")
    log_in(site.stranger(), "x" * 10_000, "wrong")
    with site.database.begin() as connection:
        audit.record(
            connection,
            who=SCRIPT,
            action="verdict",
            subject=SCRIPT,
            before={SCRIPT: SCRIPT},
            after={"note": SCRIPT},
            now_ms=0,
        )
    for path in ("/audit", f"/audit?who={SCRIPT}", f"/audit?subject={SCRIPT}&action={SCRIPT}"):
        text = admin.get(path).text
        assert "<script>alert" not in text
        assert "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in admin.get("/audit").text
    assert "x" * (audit.MAX_NAME_LENGTH + 1) not in admin.get("/audit").text
    answer = log_in(site.stranger(), SCRIPT, "wrong", next=f'"{SCRIPT}')
    assert "<script>alert" not in answer.text
    assert SCRIPT not in admin.get(f"/people?changed={SCRIPT}").text
    assert SCRIPT not in admin.get(f"/models?changed={SCRIPT}").text
