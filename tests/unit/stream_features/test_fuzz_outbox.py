"""Whatever stands in an outbox, it is read as messages or refused; nothing is made up."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.errors import UnreadableValue
from stream_features.worker.outbox import Messages, pack, unpack
from tests.support.fuzzing import Edits, edited, edits, fuzzed

BYTES = st.binary(max_size=40)
BATCHES = st.lists(st.tuples(st.none() | BYTES, BYTES), max_size=4)


@fuzzed(150)
@given(vectors=BATCHES, dead=BATCHES, changes=edits((b"\1", b"\0\0\0\x80")))
@example(vectors=[(b"k", b"v")], dead=[], changes=[(0.0, 4, "ffffffff")])
@example(vectors=[(b"k", b"v")], dead=[], changes=[(0.0, 4, "ffffff1f")])
@example(vectors=[(b"k", b"v")], dead=[], changes=[(0.5, 0, "ffffffff" * 2)])
def test_a_changed_outbox_is_messages_or_refused(
    vectors: list[tuple[bytes | None, bytes]],
    dead: list[tuple[bytes | None, bytes]],
    changes: Edits,
) -> None:
    messages = Messages(
        [key for key, _ in vectors],
        [value for _, value in vectors],
        [key for key, _ in dead],
        [value for _, value in dead],
    )
    data = edited(pack(messages) * 2, changes)
    try:
        found = unpack(data)
    except UnreadableValue:
        return
    assert len(found.keys) == len(found.vectors)
    assert len(found.dead_keys) == len(found.dead_letters)
    texts = [*found.keys, *found.vectors, *found.dead_keys, *found.dead_letters]
    assert sum(len(text) for text in texts if text is not None) <= len(data)
    assert all(text in data for text in texts if text is not None)
