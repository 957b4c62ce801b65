"""The page /models: stages as the registry has them, steps with who, why, before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from database.accounts import audit
from runtime.kafka.model_registry import ModelRegistry
from schemas.errors import BrokerUnavailable, DatabaseUnavailable
from schemas.features import FINGERPRINT
from schemas.records import ModelEvent
from tests.support.dashboard.site import START, Site


def event(model_id: str) -> ModelEvent:
    return {
        "model_id": model_id,
        "stage": "REGISTERED",
        "canary_share": None,
        "artefact_uri": f"file:///models/{model_id}",
        "sha256": "0" * 64,
        "fingerprint": FINGERPRINT,
        "metrics": {"auc": 0.9712, "brier": 0.0012},
        "occurred_at": START,
        "actor": "trainer",
        "comment": None,
    }


@pytest.fixture
def stocked(site: Site) -> Site:
    """A site with a champion, the one before it, and a model that was registered."""
    for name in ("old", "now", "new"):
        site.registry.register(event(name))
    site.registry.change("old", "CHAMPION", actor="trainer")
    site.registry.change("now", "CHAMPION", actor="omar", comment="better on new patterns")
    return site


def shown(text: str) -> list[tuple[str, str]]:
    names = re.findall(r'data-label="Model"><strong class="break">([^<]+)<', text)
    stages = re.findall(r'data-label="Stage"><span><span class="badge[^"]*">([^<]+)<', text)
    return list(zip(names, stages, strict=True))


def steps(text: str, model_id: str) -> list[str]:
    return re.findall(rf'data-step="(\w+)" data-model="{model_id}"', text)


def test_the_page_shows_every_model_champion_first(stocked: Site) -> None:
    text = stocked.person("model owner").get("/models").text
    assert shown(text) == [("now", "CHAMPION"), ("new", "REGISTERED"), ("old", "FORMER CHAMPION")]
    assert "better on new patterns" in text
    assert "<dt>AUC</dt><dd><b>0.971</b></dd>" in text
    assert steps(text, "new") == ["promote", "canary", "shadow", "retire"]
    assert steps(text, "now") == ["rollback", "retire"]
    assert steps(text, "old") == ["promote", "rollback", "retire"]


def test_viewers_see_the_models_and_no_button(stocked: Site) -> None:
    text = stocked.person("viewer").get("/models").text
    assert len(shown(text)) == 3
    assert "data-step" not in text


def test_each_step_takes_effect_and_is_audited_with_before_and_after(stocked: Site) -> None:
    owner = stocked.person("model owner")
    taken = []
    for step, form, stage in (
        ("shadow", {}, "SHADOW"),
        ("canary", {"share": "5"}, "CANARY"),
        ("canary", {"share": "12.5"}, "CANARY"),
        ("promote", {"comment": " it is better "}, "CHAMPION"),
        ("rollback", {"comment": "it is not"}, "ROLLED_BACK"),
    ):
        answer = owner.post(f"/models/{step}", data={"model_id": "new", **form})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/models?changed={step}")
        state = stocked.registry.states().get("new")
        assert state is not None
        assert (state.stage, state.event["actor"]) == (stage, "model-owner")
        taken.append((state.event["canary_share"], state.event["comment"]))
    assert taken == [(None, None), (0.05, None), (0.125, None), (None, "it is better"),
                     (None, "it is not")]  # fmt: skip
    assert stocked.registry.states().champions()[0]["model_id"] == "now"
    with stocked.database.read() as connection:
        entries = audit.entries(connection, subject="new")
    assert [entry.action for entry in entries] == [
        "model rolled back", "model promoted", "model canary", "model canary", "model shadow",
    ]  # fmt: skip
    assert {entry.who for entry in entries} == {"model-owner"}
    promoted = entries[1]
    assert json.loads(promoted.before or "") == {
        "stage": "CANARY", "share": 0.125, "comment": None, "champion": "now",
    }  # fmt: skip
    assert json.loads(promoted.after or "") == {
        "stage": "CHAMPION", "share": None, "comment": "it is better", "champion": "new",
    }  # fmt: skip
    assert "Done: model rolled back" in owner.get("/models?changed=rollback").text


@pytest.mark.parametrize(
    ("step", "form", "said"),
    [
        ("shadow", {"model_id": "now"}, "now is CHAMPION and cannot become SHADOW"),
        ("promote", {"model_id": "none"}, "none is UNREGISTERED"),
        ("canary", {"model_id": "new"}, "a canary needs a share of the cards"),
        ("canary", {"model_id": "new", "share": "0"}, "a canary needs a share"),
        ("canary", {"model_id": "new", "share": "101"}, "a canary needs a share"),
        ("canary", {"model_id": "new", "share": "nan"}, "a canary needs a share"),
        ("promote", {"model_id": "<script>alert(1)</script>"}, "cannot become CHAMPION"),
    ],
)
def test_a_step_that_is_not_possible_says_why_and_changes_nothing(
    stocked: Site, step: str, form: dict[str, str], said: str
) -> None:
    owner = stocked.person("model owner")
    before = [state.document() for state in stocked.registry.states()]
    answer = owner.post(f"/models/{step}", data=form)
    assert answer.status_code == 409
    assert said in answer.text
    assert "<script>alert" not in answer.text
    script = owner.post(f"/models/{step}", data=form, headers={"Accept": "application/json"})
    assert script.status_code == 400
    assert said in script.json()["detail"]
    assert [state.document() for state in stocked.registry.states()] == before
    with stocked.database.read() as connection:
        assert not [each for each in audit.entries(connection) if each.action.startswith("model")]


@pytest.mark.parametrize(
    ("step", "form"),
    [
        ("register", {"model_id": "new"}),
        ("promote", {}),
        ("canary", {"model_id": "new", "share": "much"}),
        ("promote", {"model_id": "new", "comment": "x" * 501}),
    ],
)
def test_incomplete_requests_are_refused(stocked: Site, step: str, form: dict[str, str]) -> None:
    assert stocked.person("model owner").post(f"/models/{step}", data=form).status_code == 422


def test_without_the_audit_no_model_changes(stocked: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = stocked.person("model owner")

    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the database does not answer")

    monkeypatch.setattr(audit, "record", away)
    assert owner.post("/models/promote", data={"model_id": "new"}).status_code == 503
    assert stocked.registry.states().champions()[0]["model_id"] == "now"


def test_a_change_that_kafka_does_not_take_leaves_no_entry(
    stocked: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = stocked.person("model owner")

    def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("no answer")

    monkeypatch.setattr(stocked.registry, "change", away)
    assert owner.post("/models/promote", data={"model_id": "new"}).status_code == 503
    with stocked.database.read() as connection:
        assert not audit.entries(connection, action="model promoted")


def test_script_in_names_and_comments_stays_text(site: Site) -> None:
    script = "<script>alert(1)</script>"
    site.registry.register({**event(f"{script}'\"{{model}}"), "comment": script, "actor": script})
    text = site.person("admin").get("/models").text
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3


def test_without_kafka_the_page_says_so(site: Site) -> None:
    @contextmanager
    def away() -> Iterator[ModelRegistry]:
        raise BrokerUnavailable("no answer of localhost:9092")
        yield

    lone = Site(site.database, registry=away)
    owner = lone.person("model owner")
    answer = owner.get("/models")
    assert answer.status_code == 503
    assert "no answer of localhost:9092" in answer.text
    changed = owner.post("/models/promote", data={"model_id": "new"})
    assert changed.status_code == 503
    with lone.database.read() as connection:
        assert not audit.entries(connection, action="model promoted")


def test_a_first_visitor_is_told_how_to_make_a_model(site: Site) -> None:
    text = site.person("viewer").get("/models").text
    assert "python -m trainer bootstrap --publish" in text
    assert "Without a champion" in text
