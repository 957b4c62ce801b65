"""Values in a policy that no transaction can have, because of how transactions are read.

Such a value is not an error of the document: scorers serve it, and it matches nothing. But whoever
wrote it believes that something is blocked, so it is refused before it is published.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from schemas.card_numbers import card_number, masked, tokenised
from schemas.currency import CURRENCIES, CurrencyTable
from schemas.errors import ConfigurationError, InvalidField
from schemas.rules.transaction import Rules, read_field
from scorer.policy.addresses import network_of
from scorer.policy.document import TEXT_FIELDS, Policy, PolicyDocument, compile_policy

_RULES: Final = Rules(latest=2**62, currencies=CurrencyTable(rates=dict.fromkeys(CURRENCIES, 1.0)))
"""Rates are of the processes that read transactions, not of a policy: every currency has one."""
SHOWN: Final = 20
"""Values named in one refusal."""


def checked_policy(text: str | bytes, pan_key: bytes | None = None) -> Policy:
    """Compile a document that is to be published.

    Args:
        pan_key: FRAUD_PAN_HMAC_KEY, with which the refusal of a card number names its token.

    Raises:
        ConfigurationError: the document is invalid, or has values that can never match.
    """
    policy = compile_policy(text)
    wrong = unmatchable(policy.document, pan_key)
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise ConfigurationError(
            "policy refused, because these values can never match:\n  "
            + "\n  ".join(wrong[:SHOWN] + more)
        )
    return policy


def unmatchable(document: PolicyDocument, pan_key: bytes | None = None) -> list[str]:
    """Return a line for each value in lists, rules and segments that can never match."""
    found = []
    for part in document.lists:
        for value in part.values:
            reason = _never(part.field, value, pan_key) if value else "is empty: leave it out"
            if reason:
                found.append(f"{part.id}: {part.field} {masked(value)!r} {reason}")
    conditions = [(rule.id, rule.when) for rule in document.rules]
    conditions += [(segment.name, segment.when) for segment in document.segments]
    for name, condition in conditions:
        for field, value in _compared(condition):
            reason = _never(field, value, pan_key) if value else ""  # "" asks for a missing one
            if reason:
                found.append(f"{name}: {field} {masked(value)!r} {reason}")
    return found


def _compared(condition: str) -> Iterator[tuple[str, str]]:
    """Yield the text fields of a condition with the texts that they must equal."""
    for node in ast.walk(ast.parse(condition, mode="eval")):
        if not isinstance(node, ast.Compare):
            continue
        if not isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            continue
        sides = [node.left, *node.comparators]
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        constants = [item for side in sides for item in getattr(side, "elts", [side])]
        for name in names:
            for item in constants:
                if name in TEXT_FIELDS and isinstance(item, ast.Constant):
                    yield name, str(item.value)


def _never(field: str, value: str, pan_key: bytes | None) -> str:
    """Return why no transaction has this value in this field, "" if one may have it."""
    if field == "ip":
        return _not_an_address(value)
    if field == "card_id" and (number := card_number(value)) is not None:
        if pan_key is None:
            return "is a card number, which is never stored: list the token in its place"
        return (
            f"is a card number, which is never stored: list its token {tokenised(number, pan_key)}"
        )
    try:
        read = read_field(field, {field: value}, _RULES)
    except InvalidField as error:
        wrong, remedy = error.fault.removeprefix(field).strip(), error.reason.rpartition(": ")[2]
        return f"{wrong}: {remedy}"
    if read is None:
        return "is read as missing: leave it out"
    return "" if read == value else f"is read as {read}: write that"


def _not_an_address(value: str) -> str:
    if network_of(value) is None:
        return "is not an IP address or network: write 192.0.2.7, 198.51.100.0/24 or 2001:db8::/48"
    return ""
