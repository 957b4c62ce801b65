"""Changes to the files of a good bundle, as a fuzzer makes them; each is a JSON value.

- `["bytes", file, [[place, count, "hex"], …]]` replaces `count` bytes at `place` (a share of the
  file from 0 to 1) by others.
- `["array", file, name, place, value]` replaces one number of an array of an .npz file.
- `["json", file, place, "text"]` replaces one value of a JSON file by another text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

ARRAYS: Final = {
    "forest.npz": ("roots", "depth", "split", "condition", "child", "expected", "base"),
    "anomaly.npz": ("roots", "depth", "split", "condition", "child", "length", "normaliser"),
}
DOCUMENTS: Final = ("calibration.json", "thresholds.json", "adjustment.json", "manifest.json")
FILES: Final = (*ARRAYS, *DOCUMENTS)
NUMBERS: Final = ("nan", "inf", "-inf", "0", "1", "-1", "2", "1e38", "-1e38", "2147483647", "1e-40")
TEXTS: Final = (
    "null", "true", '""', "[]", "{}", "[[]]", '"é"', "NaN", "-Infinity", "1e400", "-1", "0",
    "1e308", "9" * 400, "[" * 20_000,
    '{"a":' * 2_000, '"' + "x" * 70_000 + '"', "[1,2", '"\\u0000"',
)  # fmt: skip
SHARES: Final = st.floats(0, 1, allow_nan=False)
Mutation = list[Any]


def mutations() -> st.SearchStrategy[Mutation]:
    """Return a strategy of mutations."""
    edit = st.tuples(SHARES, st.integers(0, 9), st.binary(max_size=9).map(bytes.hex)).map(list)
    raw = st.tuples(
        st.just("bytes"), st.sampled_from(FILES), st.lists(edit, min_size=1, max_size=3)
    )
    number = st.sampled_from(NUMBERS) | st.integers(-(2**31), 2**31 - 1).map(str)
    array = st.sampled_from([(file, name) for file in ARRAYS for name in ARRAYS[file]]).flatmap(
        lambda at: st.tuples(st.just("array"), st.just(at[0]), st.just(at[1]), SHARES, number)
    )
    document = st.tuples(
        st.just("json"), st.sampled_from(DOCUMENTS), SHARES, st.sampled_from(TEXTS)
    )
    return (raw | array | document).map(list)


def mutated(files: Mapping[str, bytes], mutation: Mutation) -> dict[str, bytes]:
    """Return the files with one of them changed."""
    kind, name, *how = mutation
    changes: dict[str, Callable[..., bytes]] = {"bytes": _bytes, "array": _array, "json": _json}
    return {**files, name: changes[kind](files[name], *how)}


def _bytes(data: bytes, edits: list[Any]) -> bytes:
    for share, count, new in edits:
        place = int(share * len(data))
        data = data[:place] + bytes.fromhex(new) + data[place + count :]
    return data


def _array(data: bytes, name: str, share: float, value: str) -> bytes:
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    place = min(int(share * arrays[name].size), arrays[name].size - 1)
    if arrays[name].dtype.kind == "i":
        number = float(value)
        arrays[name][place] = int(number) if abs(number) < 2**31 else 2**31 - 1
    else:
        arrays[name][place] = float(value)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _json(data: bytes, share: float, text: str) -> bytes:
    """Replace one value, whose place is filled by a marker first: `text` need not be JSON."""
    document = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    collect(document)
    holder, key = places[min(int(share * len(places)), len(places) - 1)]
    holder[key] = "the marker"
    return json.dumps(document).replace('"the marker"', text).encode()
