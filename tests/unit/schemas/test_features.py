"""The catalogue and the identities."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from schemas import features
from schemas.columns import pack_position
from schemas.errors import ConfigurationError
from schemas.keys import entity_key, hash_id, hash_spans, normalise_ip
from stream_features.engine.plan import compile_plan


def test_names_are_unique() -> None:
    assert len(set(features.NAMES)) == features.VECTOR_SIZE


def feature(name: str, statistic: str, window: int) -> features.Feature:
    return features.Feature(
        name, "card", statistic, window, "merchants", "count", "merchants", "{} in a window"
    )


def test_the_fingerprint_is_that_of_the_vectors_state_and_bundles_that_are_out_there() -> None:
    """After a change to the catalogue, write the new values here."""
    assert features.FINGERPRINT.hex() == "3489fbedb8b96438"
    assert features.VECTOR_SIZE == 70
    assert slice(10, 48) == features.ANOMALY_INPUTS


def test_the_fingerprint_changes_with_any_definition() -> None:
    catalogue = features.CATALOGUE
    changed = (*catalogue[:-1], feature("x", "count", 1))
    assert features.fingerprint(catalogue) == features.FINGERPRINT
    assert features.fingerprint(changed) != features.FINGERPRINT
    assert features.fingerprint(catalogue[::-1]) != features.FINGERPRINT


def test_words_and_kinds_are_not_part_of_the_fingerprint() -> None:
    reworded = [
        replace(each, description="other", phrase="other {}", otherwise="", kind="count")
        for each in features.CATALOGUE
    ]
    assert features.fingerprint(tuple(reworded)) == features.FINGERPRINT


def test_a_new_window_is_one_line_in_the_catalogue() -> None:
    line = feature("card_distinct_merchants_5h", "distinct_merchants", 5 * features.HOUR)
    plan = compile_plan((*features.CATALOGUE, line))
    assert 5 * features.HOUR in plan.card.windows
    sources = plan.card.sources.tolist()
    assert plan.card.features[-1] == features.VECTOR_SIZE
    assert sources.count(sources[-1]) == 1


def test_an_unknown_statistic_is_refused_by_name() -> None:
    line = feature("x", "median", features.DAY)
    with pytest.raises(ConfigurationError, match="median"):
        compile_plan((line,))


def test_the_anomaly_model_sees_the_features_of_the_card_and_no_other() -> None:
    assert {each.entity for each in features.CATALOGUE[features.ANOMALY_INPUTS]} == {"card"}


def test_calendar_and_ages_are_known_by_their_kind() -> None:
    assert features.names_of("calendar") == {"hour_of_day", "day_of_week", "is_weekend", "is_night"}
    assert features.names_of("age") == {"card_age_days", "merchant_age_days", "device_age_days"}


KINDS_OF_UNITS = {
    "major units": {"amount"}, "0/1": {"flag", "calendar"}, "h UTC": {"calendar"},
    "day": {"calendar"}, "code": {"code"}, "standard deviations": {"deviation"},
    "ratio": {"ratio"}, "share": {"share"}, "s": {"duration"}, "h": {"duration"}, "d": {"age"},
    "km": {"distance"}, "km/h": {"speed"}, "transactions": {"count"}, "merchants": {"count"},
    "categories": {"count"}, "devices": {"count"}, "countries": {"count"},
    "addresses": {"count"}, "cards": {"count"}, "frauds": {"count"},
}  # fmt: skip


def test_every_unit_goes_with_its_kinds_and_each_is_in_use() -> None:
    found: dict[str, set[str]] = {}
    for each in features.CATALOGUE:
        found.setdefault(each.unit, set()).add(each.kind)
    assert found == KINDS_OF_UNITS
    assert set(get_args(features.Unit)) == set(KINDS_OF_UNITS)
    assert set(get_args(features.Kind)) == set.union(*KINDS_OF_UNITS.values())


def window_words(window: int) -> list[str]:
    """Return how people name a window: 24 hours are 1 day, too."""
    found = []
    for unit, word in ((features.MINUTE, "minute"), (features.HOUR, "hour"), (features.DAY, "day")):
        count, rest = divmod(window, unit)
        if count and not rest:
            found.append(f" {count} {word}" + ("s" if count > 1 else ""))
    return found


def test_a_window_is_named_in_whole_units() -> None:
    assert window_words(5 * features.MINUTE) == [" 5 minutes"]
    assert window_words(features.HOUR) == [" 60 minutes", " 1 hour"]
    assert window_words(features.DAY) == [" 1440 minutes", " 24 hours", " 1 day"]


@pytest.mark.parametrize("each", features.CATALOGUE, ids=features.NAMES)
def test_the_words_of_a_feature_name_its_windows_and_its_entity(each: features.Feature) -> None:
    entities = {
        "transaction": "", "card": "card", "merchant": "merchant", "device": "device",
        "ip": "IP address",
    }  # fmt: skip
    for text in (each.description, each.phrase, each.otherwise):
        if text and each.window:
            assert any(told in text for told in window_words(each.window)), text
        if text and each.baseline:
            assert any(told in text for told in window_words(each.baseline)), text
        if text:
            assert entities[each.entity] in text
    assert bool(each.otherwise) == each.is_flag
    assert each.phrase.count("{}") == (0 if each.is_flag else 1)


def test_a_hash_is_the_same_in_another_process() -> None:
    code = "from schemas.keys import hash_id; print(hash_id('kärte-1'))"
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert int(other) == hash_id("kärte-1")


def test_hashes_never_change_between_versions() -> None:
    """State in Redis lies under them, and the split of a canary's cards goes by them."""
    assert hash_id("card-1") == 0x35FBC0B8FF929F92
    assert hash_id("") == 0xF52A15E9A9B5E89B


def test_spans_hash_as_single_ids_do_and_empty_is_missing() -> None:
    data = np.frombuffer(b"abc", np.uint8)
    hashes = hash_spans(data, np.array([0, 1, 1, 3]))
    assert hashes.tolist() == [hash_id("a"), 0, hash_id("bc")]


def test_v6_addresses_share_their_network_and_mapped_v4_is_v4() -> None:
    assert normalise_ip("2001:db8::1") == normalise_ip("2001:db8::ffff")
    assert normalise_ip("::ffff:192.0.2.1") == normalise_ip("192.0.2.1") == "192.0.2.1"


def test_keys_are_the_prefix_a_letter_and_eight_bytes() -> None:
    assert entity_key(b"p:", "merchant", 1) == b"p:m\x01\0\0\0\0\0\0\0"


def test_a_missing_coordinate_is_a_missing_position() -> None:
    packed = pack_position(np.array([52.5, np.nan]), np.array([13.4, 1.0]))
    assert packed[1] == 0
    assert packed[0] >> np.uint64(32) == 2**31 + 525_000_000
