"""Whatever comes as a message, it is read or refused with a reason, and its neighbour is served."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.protocols import Message
from runtime.kafka.wire_format import ConfluentRegistry
from schemas.codec import avro
from schemas.codec.decisions import decode_decisions
from schemas.codec.transactions import decode_transactions
from schemas.codec.vectors import decode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, ConfigurationError
from schemas.model_stages import ModelStates
from schemas.validation import SchemaRegistry, read_label, read_transaction
from scorer.policy.event import read_policy
from tests.support.fuzzing import edited, edits, fuzzed
from tests.support.http_server import Answer, Asked, serving

EXAMPLES: Final = Path("schemas/examples")
CORPUS: Final = json.loads(Path(__file__).with_name("decoder_corpus.json").read_text())
"""Messages at the edges of every encoding, and those that once did harm, in hexadecimal digits."""
NOW: Final = 1_800_000_000_000
CURRENCIES: Final = CurrencyTable("EUR", {"USD": 0.9, "JPY": 0.006})
KEY: Final = b"an example key of 32 bytes......"
NAMES: Final = tuple(avro.SCHEMA_FILES)
GOOD: Final = {
    path.stem: path.read_bytes() for path in sorted(EXAMPLES.iterdir()) if path.suffix == ".avro"
}
JSONS: Final = {
    path.stem: path.read_bytes() for path in sorted(EXAMPLES.iterdir()) if path.suffix == ".json"
}
REGISTERED: Final = {
    1: avro.raw_schema("Transaction"),
    2: avro.raw_schema("Label"),
    3: {**avro.raw_schema("Transaction"), "doc": "of another team"},
    4: {"type": "record", "name": "Transaction", "fields": [
        {"name": "transaction_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "card_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "merchant_id", "type": "string"}, {"name": "currency", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9}},
        {"name": "attributes", "type": {"type": "map", "values": ["null", "string", "double"]}},
    ]},
}  # fmt: skip
LONGS: Final = tuple(
    map(bytes.fromhex, (
        "01", "02", "8001", "ffffffff0f", "8080808004", "feffffffffffffffff01",
        "ffffffffffffffffff01", "808080808080808080", "eda080",
    ))
)  # fmt: skip
"""Lengths and branches of Avro, some of them too large, and half a surrogate pair."""
TOKENS: Final = (
    b"null", b"true", b"1e400", b"-1", b"NaN", b"Infinity", b'"\\ud800"', b'"\\u0000"', b"[", b"{",
    b"[" * 3000, b"9" * 5000, b'"4111111111111111"', b"1e308", b'"2025-02-30"', b'"card_id":',
    b"{}", b'""', b"\xef\xbb\xbf", b"12.0", b'"', b"\xff",
)  # fmt: skip
"""What JSON may be where something else belongs."""


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return a strategy of messages: changed good ones, others under a good header, and noise."""
    how = draw(st.integers(0, 4))
    if how == 0:
        return draw(st.binary(max_size=200))
    if how == 1:
        return avro.header(draw(st.sampled_from(NAMES))) + draw(st.binary(max_size=120))
    if how == 2:
        number = draw(st.sampled_from((*REGISTERED, 0, 99, 2**32 - 1)))
        body = draw(st.binary(max_size=120) | st.sampled_from(sorted(GOOD.values())).map(_body))
        return b"\0" + number.to_bytes(4, "big") + edited(body, draw(edits(LONGS)))
    if how == 3:
        return edited(draw(st.sampled_from(sorted(JSONS.values()))), draw(edits(TOKENS)))
    return edited(draw(st.sampled_from(sorted(GOOD.values()))), draw(edits(LONGS)))


def _body(message: bytes) -> bytes:
    return message[avro.HEADER_SIZE :]


@pytest.fixture(scope="module")
def registry() -> Iterator[SchemaRegistry]:
    def answer(asked: Asked) -> Answer:
        number = int(asked.path.rpartition("/")[2])
        if number not in REGISTERED:
            return Answer(404)
        return Answer(200, json.dumps({"schema": json.dumps(REGISTERED[number])}).encode())

    with serving(answer) as url:
        yield ConfluentRegistry(url)


def refused(read: Callable[[], Any]) -> str | None:
    """Return why a message is refused, None if it is read."""
    try:
        read()
    except (BadMessage, ConfigurationError) as error:
        return str(error) or "no reason"
    return None


def harm(message: bytes, registry: SchemaRegistry) -> None:
    """Read a message in every way in which one is read; fails if that does any harm."""
    readers: list[Callable[[], Any]] = [
        lambda: avro.decode(message),
        lambda: read_label(message, now_ms=NOW, pan_key=KEY, registry=registry),
        lambda: read_label(message, now_ms=NOW),
        lambda: read_policy(Message("policy", 0, 0, 0, b"fraud", message)),
    ]
    for read in readers:
        refused(read)
    ModelStates.of([(b"m1", message), (b"\xff", message)])
    _transactions(message, registry)
    decoded = decode_feature_vectors([message, GOOD["feature_vector-v1"]])
    assert (
        decoded.raw("card_id")[-1]
        == decode_feature_vectors([GOOD["feature_vector-v1"]]).raw("card_id")[0]
    )
    for row in range(len(decoded)):
        decoded.transaction(row)
    _decisions(message)


def _transactions(message: bytes, registry: SchemaRegistry) -> None:
    good = GOOD["transaction-v1"]
    for known in (None, registry):
        decoded = decode_transactions(
            [message, good], now_ms=NOW, currencies=CURRENCIES, pan_key=KEY, registry=known
        )
        assert decoded.rows.tolist()[-1] == 1, "its neighbour is served"
        assert len(decoded.rows) + len(decoded.rejected) == 2
        reason = refused(
            partial(
                read_transaction, message, now_ms=NOW, currencies=CURRENCIES, pan_key=KEY,
                registry=known,
            )
        )  # fmt: skip
        assert (len(decoded.rows) == 2) == (reason is None), "one rule book"


def _decisions(message: bytes) -> None:
    decoded = decode_decisions([message, GOOD["decision-v1"]])
    assert len(decoded) >= 1
    decoded.model_ids()
    decoded.base_amount(CURRENCIES)
    for field in ("transaction_id", "card_id"):
        for text in decoded.raw(field):
            text.decode()


@fuzzed(examples=800)
@given(messages())
def test_any_message_is_read_or_refused(registry: SchemaRegistry, message: bytes) -> None:
    harm(message, registry)


@pytest.mark.parametrize("message", CORPUS)
def test_what_once_did_harm_is_read_or_refused(registry: SchemaRegistry, message: str) -> None:
    harm(bytes.fromhex(message), registry)


def test_good_messages_are_read(registry: SchemaRegistry) -> None:
    for message in (*GOOD.values(), *JSONS.values()):
        harm(message, registry)
