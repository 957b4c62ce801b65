"""The queue's figures are counted now and then, whoever asks."""

from __future__ import annotations

from dashboard.review.case_counts import CaseCounts
from tests.support.dashboard.queued import review, stored
from tests.support.dashboard.site import START, Site


def test_figures_are_counted_once_in_a_while_and_after_a_change(site: Site) -> None:
    now = 0.0
    counts = CaseCounts(2.0, lambda: now)

    def free() -> int:
        return counts.get(site.database, START).free

    stored(site.database, [review(1)])
    assert free() == 1
    stored(site.database, [review(2)])
    now = 1.9
    assert free() == 1
    now = 2.0
    assert free() == 2
    stored(site.database, [review(3)])
    assert free() == 2
    counts.forget()
    assert free() == 3


def test_a_person_sees_the_own_claim_at_once(site: Site) -> None:
    kept = Site(site.database, case_counts=CaseCounts(3_600.0))
    [case] = stored(site.database, [review(1)])
    ann = kept.person("analyst")

    def figures() -> str:
        return str(ann.get("/queue/lines").text)

    before = figures()
    assert figures() == before
    ann.post(f"/queue/{case.case_id}/claim")
    assert figures() != before
    assert kept.parts.case_counts.get(site.database, START).claimed == 1
