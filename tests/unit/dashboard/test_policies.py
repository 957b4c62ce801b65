"""The page of a policy version: what was published, whatever is in it."""

from __future__ import annotations

import json
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
    text = site.person("analyst").get("/policies/v1").text
    assert "<script>alert" not in text
    assert "no JSON &lt;script&gt;" in text


LISTED = {
    "version": "v9",
    "segments": [{"name": "s", "when": "amount > 50 and ip == '192.0.2.7'", "block": 0.9,
                  "review": 0.5}],
    "rules": [{"id": "r", "action": "BLOCK", "when": "customer_id in ['cust-77', 'cust-78']",
               "text": "a customer we know"}],
    "lists": [{"id": "l", "action": "BLOCK", "field": "card_id", "values": ["card-4711"],
               "text": "a card we know"}],
}  # fmt: skip
PERSONAL = ("192.0.2.7", "cust-77", "card-4711")


def test_viewers_see_no_values_of_lists_and_conditions(site: Site) -> None:
    publish(site, "v9", json.dumps(LISTED))
    seen = site.person("viewer").get("/policies/v9").text
    assert "shown to analysts" in seen
    for part in ("amount &gt; 50", "a customer we know", "&#34;field&#34;: &#34;card_id&#34;"):
        assert part in seen
    assert not any(value in seen for value in PERSONAL)
    whole = site.person("analyst").get("/policies/v9").text
    assert all(value in whole for value in PERSONAL)
    assert "shown to analysts" not in whole


def test_viewers_do_not_see_a_document_that_cannot_be_redacted(site: Site) -> None:
    publish(site, "v9", json.dumps(LISTED | {"unknown": PERSONAL}))
    publish(site, "v8", f"no JSON but {PERSONAL}")
    viewer, analyst = site.person("viewer"), site.person("analyst")
    for version in ("v9", "v8"):
        seen = viewer.get(f"/policies/{version}").text
        assert "only the role analyst and those above see it" in seen
        assert not any(value in seen for value in PERSONAL)
        assert "card-4711" in analyst.get(f"/policies/{version}").text
