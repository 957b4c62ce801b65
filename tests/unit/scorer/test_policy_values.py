"""What the values of a policy match, live and in a backtest, and which can never match."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.card_numbers import tokenised
from schemas.codec.vectors import decode_feature_vectors
from schemas.columns import KINDS, empty_columns
from schemas.errors import ConfigurationError
from schemas.features import VECTOR_SIZE
from schemas.keys import normalise_ip
from scorer.decision.judge import BLOCK, Serving, judge
from scorer.policy.addresses import Addresses
from scorer.policy.document import compile_policy
from scorer.policy.unmatchable import checked_policy
from tests.support.scorer.stand_ins import vector
from trainer.backtest.replayed_batch import ReplayedBatch

LISTED = ["192.0.2.7", "198.51.100.0/24", "2001:DB8::1"]
INSIDE = ["192.0.2.7", "::ffff:192.0.2.7", "::FFFF:c000:0207", "198.51.100.9", "2001:db8:0:0::1",
          "2001:db8::ffff", "::ffff:198.51.100.200"]  # fmt: skip
OUTSIDE = ["192.0.2.8", "198.51.101.9", "2001:db8:0:1::1", "::192.0.2.7", None]
PAN = "4111111111111111"


def document(**parts: Any) -> str:
    return json.dumps({"version": "v1", **parts})


def a_list(field: str, *values: str) -> dict[str, Any]:
    return {"id": "l", "action": "BLOCK", "field": field, "values": values, "text": "listed"}


def a_rule(when: str) -> dict[str, str]:
    return {"id": "r", "action": "BLOCK", "when": when, "text": "by rule"}


def blocked(text: str, addresses: list[str | None]) -> list[list[bool]]:
    """Return for each address whether it is blocked, live and in a backtest."""
    serving = Serving(checked_policy(text))
    live = decode_feature_vectors(
        [vector((0, place), ip=address) for place, address in enumerate(addresses)]
    )
    count = len(addresses)
    table = pa.table({"ip": pa.array(addresses, pa.string()).dictionary_encode()})
    replayed = ReplayedBatch(
        table, np.arange(count), empty_columns(count), np.zeros((count, VECTOR_SIZE), np.float32)
    )
    return [(judge(batch, serving).action == BLOCK).tolist() for batch in (live, replayed)]


@pytest.mark.parametrize(
    "text",
    [
        document(lists=[a_list("ip", *LISTED)]),
        document(rules=[a_rule(f"ip in {LISTED}")]),
        document(rules=[a_rule(" or ".join(f"ip == '{each}'" for each in LISTED))]),
        document(rules=[a_rule(f"not (ip not in {LISTED})")]),
        document(rules=[a_rule(" or ".join(f"not '{each}' != ip" for each in LISTED))]),
    ],
    ids=["list", "in", "equal", "not in", "unequal"],
)
def test_an_address_matches_however_it_is_written_live_and_in_a_backtest(text: str) -> None:
    live, replayed = blocked(text, [*INSIDE, *OUTSIDE])
    assert live == replayed == [True] * len(INSIDE) + [False] * len(OUTSIDE)


def test_a_missing_address_can_be_asked_for_in_a_rule() -> None:
    live, replayed = blocked(document(rules=[a_rule("ip == ''")]), ["192.0.2.7", None])
    assert live == replayed == [False, True]


def test_a_rule_sees_the_kind_live_and_in_a_backtest() -> None:
    serving = Serving(checked_policy(document(rules=[a_rule("kind in ['REFUND', 'REVERSAL']")])))
    live = decode_feature_vectors([vector((0, n), kind=kind) for n, kind in enumerate(KINDS)])
    columns = empty_columns(4)._replace(kind=np.arange(4, dtype=np.int8))
    table = pa.table({"kind": pa.array(KINDS).dictionary_encode()})
    replayed = ReplayedBatch(table, np.arange(4), columns, np.zeros((4, VECTOR_SIZE), np.float32))
    for batch in (live, replayed):
        assert (judge(batch, serving).action == BLOCK).tolist() == [False, True, True, False]


ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(v=6, network="2001:db8::/63"),
    st.ip_addresses(v=4, network="192.0.2.0/30"),
    st.ip_addresses(v=4, network="192.0.2.0/30").map(
        lambda each: ipaddress.IPv6Address(f"::ffff:{each}")
    ),
)


@given(ADDRESSES, ADDRESSES)
def test_an_address_of_a_policy_is_the_one_of_the_features(one: Any, other: Any) -> None:
    for text in (str(other), str(other).upper()):
        assert (text in Addresses([str(one)])) == (normalise_ip(str(one)) == normalise_ip(text))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("192.0.2.0/25", "192.0.2.127", "192.0.2.128"),
        ("192.0.2.77/24", "192.0.2.1", "192.0.3.1"),
        ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
        ("2001:db8::/48", "2001:db8:0:ffff::1", "2001:db8:1::1"),
        ("2001:db8::9/128", "2001:DB8::9", "2001:db8::8"),
        ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
    ],
)
def test_a_network_matches_its_addresses(network: str, inside: str, outside: str) -> None:
    listed = Addresses([network])
    assert inside in listed
    assert outside not in listed


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("ip", "192.0.2.300", "is not an IP address or network"),
        ("ip", "192.0.2.7:443", "is not an IP address or network"),
        ("ip", "example.org", "is not an IP address or network"),
        ("ip_country", "gb", "is read as GB"),
        ("ip_country", "T1", "is read as missing"),
        ("card_country", "GBR", "not an ISO 3166 code: send two letters"),
        ("merchant_country", "UK", "is read as GB"),
        ("card_id", PAN, "list the token"),
        ("card_id", "c" * 65, "has 65 characters: send 1 to 64"),
        ("device_id", "d" * 257, "has 257 characters"),
    ],
)
@pytest.mark.parametrize("where", ["list", "rule", "segment"])
def test_a_value_that_can_never_match_is_refused(
    field: str, value: str, remedy: str, where: str
) -> None:
    parts: dict[str, Any] = {
        "list": {"lists": [a_list(field, "DE" if field.endswith("country") else "::1", value)]},
        "rule": {"rules": [a_rule(f"amount > 1 and {field} in ['{value}']")]},
        "segment": {"segments": [
            {"name": "s", "when": f"'{value}' == {field}", "block": 1, "review": 1}
        ]},
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=f"can never match:\n  .*{remedy}") as raised:
        checked_policy(document(**parts[where]))
    assert PAN not in str(raised.value)
    compile_policy(document(**parts[where]))  # what is in force already goes on


@pytest.mark.parametrize("when", ["currency == 'eur'", "channel in ['ECOM', 'ecom']"])
def test_texts_of_a_closed_list_are_checked_in_rules(when: str) -> None:
    with pytest.raises(ConfigurationError, match="can never match"):
        checked_policy(document(rules=[a_rule(when)]))


def test_what_can_match_is_taken() -> None:
    checked_policy(
        document(
            lists=[a_list("ip_country", "GB", "XK"), a_list("card_id", "c" * 64) | {"id": "m"}],
            rules=[a_rule("device_id == '' and currency != 'EUR' and channel in ['POS', 'ATM']")],
        )
    )


def test_an_empty_value_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is empty"):
        checked_policy(document(lists=[a_list("device_id", "")]))


def test_the_refusal_of_a_card_number_names_its_token_where_there_is_a_key() -> None:
    token = tokenised(PAN, b"key")
    with pytest.raises(ConfigurationError, match=f"list its token {token}"):
        checked_policy(document(lists=[a_list("card_id", PAN)]), b"key")
    checked_policy(document(lists=[a_list("card_id", token)]), b"key")


def test_of_many_wrong_values_twenty_are_named() -> None:
    wrong = [f"no-address-{number}" for number in range(50)]
    with pytest.raises(ConfigurationError, match=r"no-address-19.*\n.*and 30 more"):
        checked_policy(document(lists=[a_list("ip", *wrong)]))
