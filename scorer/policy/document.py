"""The policy document: JSON that people write, checked and compiled as a whole.

It arrives on the `policy` topic. Precedence, highest first: block lists; allow lists; the severest
of the REVIEW and BLOCK rules and the model. An APPROVE rule overrides the model where no REVIEW or
BLOCK rule fires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import ConfigurationError
from schemas.features import NAMES
from schemas.records import Action
from scorer.policy.addresses import Addresses
from scorer.policy.expressions import ADDRESS_FIELD, Rule, compile_rule

TEXT_FIELDS: Final = (
    "transaction_id", "card_id", "customer_id", "merchant_id", "currency", "device_id", "ip",
    "ip_country", "card_country", "merchant_country", "channel", "kind",
)  # fmt: skip
COLUMN_NAMES: Final = frozenset((*NAMES, *TEXT_FIELDS, "score", "anomaly_score"))
"""Names that an expression may use: features, transaction fields and the model's scores."""
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ThresholdsPart(_Strict):
    """Limits on the score: BLOCK above `block`, else REVIEW above `review`."""

    block: Probability
    review: Probability

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdsPart:
        if self.review > self.block:
            raise ValueError(f"review {self.review} is above block {self.block}")
        return self


class SegmentPart(ThresholdsPart):
    """Thresholds for the transactions where `when` is true; the first matching segment counts."""

    name: Identifier
    when: str


class RulePart(_Strict):
    """A rule: `action` applies where `when` is true; `text` is the reason shown to people."""

    id: Identifier
    action: Action
    when: str
    text: Annotated[str, Field(min_length=1, max_length=300)]


class ListPart(_Strict):
    """Values of a transaction field that are always blocked or always approved."""

    id: Identifier
    action: Literal["BLOCK", "APPROVE"]
    field: Literal["card_id", "customer_id", "merchant_id", "device_id", "ip", "ip_country",
                   "card_country", "merchant_country"]  # fmt: skip
    values: Annotated[tuple[str, ...], Field(max_length=100_000)]
    text: Annotated[str, Field(min_length=1, max_length=300)]


class PolicyDocument(_Strict):
    """The whole document. Without `thresholds`, those of the model's bundle apply.

    `fallback` is the action where no model scores: there is none, or it does not know the vector's
    catalogue.
    """

    version: Identifier
    thresholds: ThresholdsPart | None = None
    segments: tuple[SegmentPart, ...] = ()
    rules: tuple[RulePart, ...] = ()
    lists: tuple[ListPart, ...] = ()
    fallback: Action = "REVIEW"


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled document; `segments` pairs conditions with thresholds."""

    document: PolicyDocument
    segments: tuple[tuple[Rule, ThresholdsPart], ...]
    rules: tuple[Rule, ...]
    lists: tuple[tuple[ListPart, Addresses | frozenset[bytes]], ...]
    """Each list with what it matches: addresses, or the UTF-8 of the field's values."""

    @property
    def version(self) -> str:
        """The document's version, which every decision carries."""
        return self.document.version


def compile_policy(text: str | bytes) -> Policy:
    """Check and compile a JSON document.

    Raises:
        ConfigurationError: the document is invalid; the text names every fault.
    """
    try:
        document = PolicyDocument.model_validate_json(text)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigurationError("policy refused:\n  " + "\n  ".join(wrong)) from error
    names = [rule.id for rule in document.rules] + [part.id for part in document.lists]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"policy refused: the id {twice[0]} is given twice")
    policy = Policy(
        document=document,
        segments=tuple(
            (compile_rule(part.name, "REVIEW", part.when, "", COLUMN_NAMES), part)
            for part in document.segments
        ),
        rules=tuple(
            compile_rule(part.id, part.action, part.when, part.text, COLUMN_NAMES)
            for part in document.rules
        ),
        lists=tuple(
            (
                part,
                Addresses(part.values)
                if part.field == ADDRESS_FIELD
                else frozenset(value.encode() for value in part.values),
            )
            for part in document.lists
        ),
    )
    for condition in (*(segment[0] for segment in policy.segments), *policy.rules):
        _try_out(condition)
    return policy


def _try_out(rule: Rule) -> None:
    """Refuse rules that would fail in service, such as comparisons of texts with numbers."""
    sample: dict[str, npt.NDArray[Any]] = dict.fromkeys(NAMES, np.ones(1, np.float32))
    sample |= dict.fromkeys(("score", "anomaly_score"), np.ones(1))
    sample |= dict.fromkeys(TEXT_FIELDS, np.array(["text"]))
    try:
        rule.hits(sample, 1)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"policy refused: {rule.rule_id!r} cannot be evaluated: {error}"
        ) from error


DEFAULT_POLICY: Final = compile_policy('{"version": "default"}')
"""In force until the first document arrives: the model's own thresholds and no rules."""
