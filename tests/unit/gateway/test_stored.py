"""The original of a duplicate is looked for in the store, which is a little behind its topic."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from database.decisions.decisions import StoredDecision
from gateway.scoring import stored as module
from gateway.scoring.gateway import FoundDecision
from gateway.scoring.stored import StoredDecisions
from schemas.errors import DatabaseUnavailable
from tests.support.gateway.stand_ins import decision, transaction

SENT: Any = transaction(1)
ORIGINAL = decision(SENT, 4)


class Database:
    """Is never there itself: the look-ups are replaced."""

    def read(self) -> Any:
        return nullcontext()


def looked_up(
    monkeypatch: pytest.MonkeyPatch, *answers: Any
) -> tuple[FoundDecision | None, list[Any]]:
    """Return the original, and by which names it was asked for, if the store answers like this."""
    left, asked = list(answers), []

    def find(_: object, *names: str | None, limit: int) -> list[StoredDecision]:
        asked.append(names)
        answer = left.pop(0) if left else []
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    monkeypatch.setattr(module, "find", find)
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    found = asyncio.run(StoredDecisions(Database()).original(SENT))  # type: ignore[arg-type]
    return found, asked


@pytest.mark.parametrize("before", [[], [[], []], [DatabaseUnavailable("away"), []]])
def test_an_original_is_found_though_the_store_is_behind_or_away_at_first(
    monkeypatch: pytest.MonkeyPatch, before: list[Any]
) -> None:
    vector: Any = {"transaction": SENT}
    found, asked = looked_up(monkeypatch, *before, [StoredDecision(ORIGINAL, vector)])
    assert found == FoundDecision(ORIGINAL, SENT)
    assert asked == [("t-1", "card-1")] * (len(before) + 1)


def test_without_its_vector_the_decision_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = looked_up(monkeypatch, [StoredDecision(ORIGINAL, None)])
    assert found == FoundDecision(ORIGINAL, None)


def test_an_original_that_is_nowhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = looked_up(monkeypatch)
    assert found is None
    assert len(asked) == 5
