"""Alerts: hysteresis, grouping, repetition, restoring; retrain requests and their quiet period."""

from __future__ import annotations

import math

import pytest

from monitor.judge.alerts import MINUTE, Alerts, Rule
from monitor.judge.retrain import Retrain
from monitor.judge.rules import default_rules
from schemas.codec import avro

RULE = Rule(
    name="drift", severity="WARNING", figure="psi", bound=0.25, clear=0.2, hold=3,
    group_ms=10 * MINUTE, repeat_ms=60 * MINUTE,
)  # fmt: skip


class Turns:
    """Evaluates once a minute."""

    def __init__(self, alerts: Alerts) -> None:
        self.alerts, self.now = alerts, 0

    def __call__(self, **values: float) -> list[tuple[str, str]]:
        self.now += MINUTE
        found = self.alerts.evaluate({"psi": values}, self.now)
        for alert in found:
            assert avro.decode(avro.encode("Alert", alert))[1] == alert
        return [(alert["detail"]["state"], alert["summary"]) for alert in found]


def test_raised_when_it_holds_and_cleared_below_the_other_bound() -> None:
    turn = Turns(Alerts([RULE]))
    assert turn(a=0.3) == []
    assert turn(a=0.3) == []
    assert turn(a=0.24) == []  # once back in between: counted anew
    assert turn(a=0.3) == []
    assert turn(a=math.nan) == []  # not known: neither way
    assert turn(a=0.3) == []
    assert turn(a=0.4) == [("raised", "psi above 0.25: a 0.4")]
    assert turn(a=0.22) == []  # within the hysteresis
    assert turn(a=0.2) == [("resolved", "resolved: psi: a")]
    assert turn(a=0.1) == []


def test_subjects_are_one_alert_and_later_ones_are_grouped() -> None:
    turn = Turns(Alerts([RULE]))
    for _ in range(2):
        assert turn(a=0.3, b=0.5, c=0.1) == []
    assert turn(a=0.3, b=0.5, c=0.1) == [("raised", "psi above 0.25: b 0.5, a 0.3")]
    for _ in range(9):
        assert turn(a=0.3, b=0.5, c=0.9) == []
    assert turn(a=0.3, b=0.5, c=0.9) == [("grown", "psi above 0.25: c 0.9, b 0.5, a 0.3")]
    assert turn(b=0.5, c=0.9) == []  # a is gone
    assert turn() == [("resolved", "resolved: psi: a, b, c")]


def test_it_is_repeated_while_it_lasts() -> None:
    turn = Turns(Alerts([RULE]))
    states = [state for _ in range(130) for state, _ in turn(a=0.3)]
    assert states == ["raised", "repeated", "repeated"]


def test_a_new_process_goes_on_where_the_old_one_stopped() -> None:
    first = Alerts([RULE])
    written = [each for n in range(3) for each in first.evaluate({"psi": {"a": 0.3}}, n * MINUTE)]
    second = Alerts([RULE])
    second.restore(written)
    assert second.raised("drift") == {"a": 0.3}
    assert second.evaluate({"psi": {"a": 0.3}}, 4 * MINUTE) == []
    written += second.evaluate({"psi": {"a": 0.1}}, 5 * MINUTE)
    assert [each["detail"]["state"] for each in written] == ["raised", "resolved"]
    third = Alerts([RULE])
    third.restore(written)
    assert third.raised("drift") == {}


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond bound"):
        Rule(name="x", severity="INFO", figure="x", bound=1.0, clear=2.0)


def rounds(
    alerts: Alerts, retrain: Retrain, figures: dict[str, dict[str, float]], start: int, count: int
) -> list[str]:
    found = []
    for n in range(count):
        now = start + n * MINUTE
        alerts.evaluate(figures, now)
        request = retrain.evaluate(alerts, now, "champion")
        if request is not None:
            assert avro.decode(avro.encode("RetrainRequest", request))[1] == request
            found.append(request["reason"])
    return found


def test_one_cause_gives_one_request_until_the_quiet_is_over() -> None:
    alerts, retrain = Alerts(default_rules()), Retrain(quiet_ms=60 * MINUTE)
    low = {"alert_precision": {"champion": 0.8, "canary": 0.1}}
    drift = {"feature_psi": {"a": 0.5, "b": 0.5, "c": 0.5}}
    assert rounds(alerts, retrain, low, 0, 10) == ["precision"]
    assert rounds(alerts, retrain, drift, 10 * MINUTE, 40) == []
    assert rounds(alerts, retrain, drift, 50 * MINUTE, 30) == ["drift"]
    again = Retrain(quiet_ms=60 * MINUTE)
    again.restore([{"reason": "drift", "detail": {}, "occurred_at": 62 * MINUTE}])
    assert rounds(alerts, again, drift, 80 * MINUTE, 30) == []


def test_neither_two_features_nor_another_model_call_for_training() -> None:
    alerts, retrain = Alerts(default_rules()), Retrain()
    figures = {
        "feature_psi": {"a": 0.5, "b": 0.5},
        "score_psi": {"canary score": 0.9},
        "alert_precision": {"canary": 0.1, "champion": 0.9},
    }
    assert rounds(alerts, retrain, figures, 0, 10) == []
    figures["score_psi"]["champion score"] = 0.9
    assert rounds(alerts, retrain, figures, 10 * MINUTE, 10) == ["drift"]


def test_missed_frauds_ask_for_a_model_but_not_while_labels_have_stopped() -> None:
    alerts, retrain = Alerts(default_rules()), Retrain()
    missed: dict[str, dict[str, float]] = {"missed_frauds": {"labels": 9.0}}
    silent = {**missed, "label_silence_hours": {"labels": 30.0}}
    assert rounds(alerts, retrain, silent, 0, 5) == []
    back = {**missed, "label_silence_hours": {"labels": 0.0}}
    assert rounds(alerts, retrain, back, 10 * MINUTE, 5) == ["missed_frauds"]
    usual: dict[str, dict[str, float]] = {"missed_frauds": {"labels": 1.0}}
    assert rounds(alerts, Retrain(), usual, 20 * MINUTE, 3) == []


def test_by_default_an_alert_is_repeated_every_six_hours() -> None:
    rule = Rule(name="drift", severity="WARNING", figure="psi", bound=0.25, clear=0.2)
    turn = Turns(Alerts([rule]))
    told = [minute for minute in range(1, 13 * 60) if turn(a=0.3)]
    assert told == [3, 3 + 360, 3 + 720]


def test_a_start_repeats_no_alert_before_its_time() -> None:
    first, now = Alerts([RULE]), 1_700_000_000_000
    written = [
        each for n in range(3) for each in first.evaluate({"psi": {"a": 0.3}}, now + n * MINUTE)
    ]
    second = Alerts([RULE])
    second.restore(written)
    assert second.evaluate({"psi": {"a": 0.3}}, now + 61 * MINUTE) == []
    (again,) = second.evaluate({"psi": {"a": 0.3}}, now + 62 * MINUTE)
    assert again["detail"]["state"] == "repeated"


def test_alerts_of_other_services_are_not_taken_up() -> None:
    alerts, now = Alerts([RULE]), 1_700_000_000_000
    for n in range(3):
        written = alerts.evaluate({"psi": {"a": 0.3}}, now + n * MINUTE)
    again = Alerts([RULE])
    again.restore([{**written[0], "service": "scorer"}])
    assert again.raised("drift") == {}


def test_drift_of_a_model_whose_name_begins_alike_calls_for_nothing() -> None:
    alerts, retrain = Alerts(default_rules()), Retrain()
    figures = {"score_psi": {"champion-2 score": 0.9, "champion+online-1 score": 0.9}}
    assert rounds(alerts, retrain, figures, 0, 10) == []


DRIFTED = {"feature_psi": {"a": 0.5, "b": 0.5, "c": 0.5}}


def test_by_default_it_is_quiet_for_six_hours() -> None:
    alerts, retrain = Alerts(default_rules()), Retrain()
    assert rounds(alerts, retrain, DRIFTED, 0, 3) == ["drift"]  # at the third evaluation
    assert rounds(alerts, retrain, DRIFTED, 3 * MINUTE, 359) == []
    assert rounds(alerts, retrain, DRIFTED, 362 * MINUTE, 1) == ["drift"]


def test_after_a_start_it_is_quiet_since_its_own_newest_request() -> None:
    alerts, retrain = Alerts(default_rules()), Retrain(quiet_ms=60 * MINUTE)
    asked = [("drift", 0), ("precision", 50), ("manual", 100)]  # the last one by a person
    retrain.restore(
        [{"reason": why, "detail": {}, "occurred_at": at * MINUTE} for why, at in asked]
    )
    assert rounds(alerts, retrain, DRIFTED, 70 * MINUTE, 40) == []
    assert rounds(alerts, retrain, DRIFTED, 110 * MINUTE, 1) == ["drift"]
