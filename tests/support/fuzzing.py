"""Fuzz tests: a few seconds each in the suite, and for as long as FUZZ_SECONDS says.

A fuzz test is a property test of Hypothesis under `fuzzed`, in a file test_*fuzz*.py, beside a
corpus of the inputs that once did harm. `make fuzz` runs them all.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Inputs = ParamSpec("Inputs")
SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
Edits = list[tuple[float, int, str]]
"""Changes of bytes: at which share of them, how many go, and which come in hexadecimal digits."""


def fuzzed(examples: int) -> Callable[[Callable[Inputs, None]], Callable[Inputs, None]]:
    """Return a decorator that goes above `given`: it runs a test on `examples` inputs, or longer.

    With FUZZ_SECONDS it begins anew, with other inputs, until they are over, and says how many
    there were.
    """

    def decorate(test: Callable[Inputs, None]) -> Callable[Inputs, None]:
        bounded: Any = settings(
            deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck)
        )(test)

        @functools.wraps(bounded)
        def run(*args: Inputs.args, **kwargs: Inputs.kwargs) -> None:
            until, rounds = time.monotonic() + SECONDS, 1
            bounded(*args, **kwargs)
            while time.monotonic() < until:
                bounded(*args, **kwargs)
                rounds += 1
            if SECONDS:
                print(f"{test.__name__}: {rounds * examples} inputs")

        return run

    return decorate


def edits(interesting: tuple[bytes, ...] = ()) -> st.SearchStrategy[Edits]:
    """Return a strategy of changes, some of which put in one of the interesting bytes."""
    new = st.binary(max_size=9) | st.sampled_from((b"", b"\0", b"\xff" * 9, *interesting))
    edit = st.tuples(st.floats(0, 1, allow_nan=False), st.integers(0, 12), new.map(bytes.hex))
    return st.lists(edit, max_size=4)


def edited(data: bytes, changes: Edits) -> bytes:
    """Return the bytes after some changes."""
    for share, count, new in changes:
        place = int(share * len(data))
        data = data[:place] + bytes.fromhex(new) + data[place + count :]
    return data
