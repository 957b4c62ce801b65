"""Compares the gateway's answers with the pipeline's decisions, id by id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import BadMessage

ACCEPTED = 200


class Exchange(NamedTuple):
    """One request and its answer, with their times (ns, monotonic); status 0 without an answer."""

    transaction_id: str
    asked: int
    answered: int
    status: int
    body: bytes

    @property
    def latency(self) -> int:
        """Latency in ns, or -1 without an answer."""
        return self.answered - self.asked if self.status else -1


class GatewayCounts(NamedTuple):
    """The balance of a run.

    Attributes:
        decided: ids answered with the pipeline's decision.
        fallback: ids answered by the policy in its place.
        problems: requests answered with an error.
        unanswered: requests without an answer.
        lost: accepted ids that have no decision.
        duplicated: accepted ids that have several decisions.
        conflicting: ids whose answers differ from each other or from the decision.
    """

    sent: int
    answered: int
    decided: int
    fallback: int
    problems: int
    unanswered: int
    lost: int
    duplicated: int
    conflicting: int


@dataclass(slots=True)
class GatewayAccount:
    """Collects exchanges, to be compared with the decisions after the run."""

    exchanges: list[Exchange] = field(default_factory=list)

    def latencies(self) -> npt.NDArray[np.int64]:
        """Return the latency of every exchange in ns, -1 without an answer."""
        return np.array([each.latency for each in self.exchanges], np.int64)

    def slowest(self, count: int) -> list[tuple[float, float]]:
        """Return the start (s after the first request) and latency (ms) of the slowest ones."""
        first = min((each.asked for each in self.exchanges), default=0)
        found = nlargest(count, self.exchanges, key=lambda each: each.latency)
        return [
            (round((each.asked - first) / 1e9, 1), round(each.latency / 1e6, 1)) for each in found
        ]

    def accepted(self) -> set[str]:
        """Return the ids that the gateway accepted."""
        return {each.transaction_id for each in self.exchanges if each.status == ACCEPTED}

    def statuses(self) -> dict[str, int]:
        """Return the number of answers by HTTP status; "0" counts missing answers."""
        return {str(status): n for status, n in Counter(x.status for x in self.exchanges).items()}

    def counts(self, decisions: Mapping[str, list[dict[str, Any]]]) -> GatewayCounts:
        """Return the balance, given the decisions of each id in their order."""
        answers: dict[str, bytes] = {}
        conflicting: set[str] = set()
        for each in self.exchanges:
            if each.status != ACCEPTED:
                continue
            if answers.setdefault(each.transaction_id, each.body) != each.body:
                conflicting.add(each.transaction_id)
        fallback = 0
        for name, body in answers.items():
            answer = json.loads(body)
            fallback += answer["fallback"]
            found = decisions.get(name)
            if not answer["fallback"] and found and not _same(answer, found[0]):
                conflicting.add(name)
        answered = sum(each.status != 0 for each in self.exchanges)
        good = sum(each.status == ACCEPTED for each in self.exchanges)
        return GatewayCounts(
            sent=len(self.exchanges),
            answered=answered,
            decided=len(answers) - fallback,
            fallback=fallback,
            problems=answered - good,
            unanswered=len(self.exchanges) - answered,
            lost=len(answers.keys() - decisions.keys()),
            duplicated=sum(len(decisions.get(name, ())) > 1 for name in answers),
            conflicting=len(conflicting),
        )


def _same(answer: Mapping[str, Any], decision: Mapping[str, Any]) -> bool:
    place = answer["position"]
    return bool(
        answer["decision"] == decision["decision"]
        and answer["score"] == decision["score"]
        and (place["partition"], place["offset"])
        == (decision["source_partition"], decision["source_offset"])
    )


def by_transaction(messages: Iterable[Message]) -> dict[str, list[dict[str, Any]]]:
    """Return the decisions of each id in their order; a repeated message counts once."""
    found: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for message in messages:
        try:
            _, decision = avro.decode(message.value or b"")
        except BadMessage:
            continue
        place = decision["source_partition"], decision["source_offset"]
        found.setdefault(decision["transaction_id"], {}).setdefault(place, decision)
    return {name: list(each.values()) for name, each in found.items()}
