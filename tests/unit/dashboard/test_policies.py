"""The page of a policy version: what was published, whatever is in it."""

from __future__ import annotations

from typing import Any

from database.decisions.policies import add_policies
from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import START, Site


def publish(site: Site, version: str, document: str, **changes: Any) -> None:
    row = {"version": version, "document": document, "actor": "jane", "published_at": START}
    with site.database.begin() as connection:
        assert add_policies(connection, [row | changes]).new == 1


def test_the_page_of_a_transaction_leads_to_the_document_behind_its_decision(site: Site) -> None:
    stored(site.database, [review(1, policy_version="v7")])
    publish(site, "v7", '{"version": "v7", "rules": []}')
    publish(site, "v8", '{"version": "v8"}', actor="omar")
    viewer = site.person("viewer")
    assert '<a href="/policies/v7">v7</a>' in viewer.get("/transactions/tx-1").text
    answer = viewer.get("/policies/v7")
    assert answer.status_code == 200
    assert "&#34;rules&#34;: []" in answer.text
    assert "by jane" in answer.text
    assert "by omar" not in answer.text
    assert "refuse" not in answer.text


def test_a_version_that_was_published_twice_shows_both_newest_first(site: Site) -> None:
    publish(site, "v1", '{"version": "v1"}')
    publish(site, "v1", '{"version": "v1", "no": 1}', actor="omar", published_at=START + 60_000)
    text = site.person("viewer").get("/policies/v1").text
    assert text.index("by omar") < text.index("by jane")
    assert text.count("Scorers refuse this document") == 1


def test_the_built_in_policy_and_unknown_versions_say_what_they_are(site: Site) -> None:
    viewer = site.person("viewer")
    assert "Built in" in viewer.get("/policies/default").text
    unknown = viewer.get("/policies/v0")
    assert unknown.status_code == 404
    assert "The store has no document of this version" in unknown.text
    assert viewer.get("/policies/a%00b").status_code == 404


def test_script_in_a_document_stays_text(site: Site) -> None:
    script = "<script>alert(1)</script>"
    publish(site, "v1", f"no JSON {script}", actor=script)
    text = site.person("viewer").get("/policies/v1").text
    assert "<script>alert" not in text
    assert "no JSON &lt;script&gt;" in text
