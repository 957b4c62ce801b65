"""The catalogue and the identities."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from schemas import features
from schemas.columns import pack_position
from schemas.errors import ConfigurationError
from schemas.keys import entity_key, hash_id, hash_spans, normalise_ip
from stream_features.engine.plan import compile_plan


def test_the_catalogue_has_seventy_features_with_unique_names() -> None:
    assert features.VECTOR_SIZE == 70
    assert len(set(features.NAMES)) == 70


def test_the_fingerprint_changes_with_any_definition() -> None:
    catalogue = features.CATALOGUE
    changed = (*catalogue[:-1], features.Feature("x", "ip", "count", 1, "u", "text"))
    assert features.fingerprint(catalogue) == features.FINGERPRINT
    assert features.fingerprint(changed) != features.FINGERPRINT
    assert features.fingerprint(catalogue[::-1]) != features.FINGERPRINT


def test_a_new_window_is_one_line_in_the_catalogue() -> None:
    line = features.Feature(
        "card_distinct_merchants_2h", "card", "distinct_merchants", 2 * features.HOUR, "m", "text"
    )
    plan = compile_plan((*features.CATALOGUE, line))
    assert 2 * features.HOUR in plan.card.windows
    sources = plan.card.sources.tolist()
    assert plan.card.features[-1] == 70
    assert sources.count(sources[-1]) == 1


def test_an_unknown_statistic_is_refused_by_name() -> None:
    line = features.Feature("x", "card", "median", features.DAY, "u", "text")
    with pytest.raises(ConfigurationError, match="median"):
        compile_plan((line,))


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
