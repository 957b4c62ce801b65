"""Values in a policy that no transaction can have, because of how transactions are read.

Such a value is no error of the document: scorers serve it, and it matches nothing. But whoever
wrote it believes that something is blocked, so it is refused before it is published.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from schemas.card_numbers import looks_like_pan, masked, tokenised
from schemas.codec.transactions_kernel import MAX_ID, MAX_OPTIONAL_ID
from schemas.columns import CHANNELS, KINDS
from schemas.currency import CURRENCIES
from schemas.errors import ConfigurationError
from schemas.rules.countries import country_code
from scorer.policy.addresses import network_of
from scorer.policy.document import TEXT_FIELDS, Policy, PolicyDocument, compile_policy

_COUNTRIES: Final = ("ip_country", "card_country", "merchant_country")
_LONGEST: Final = {
    "transaction_id": MAX_ID, "card_id": MAX_ID, "merchant_id": MAX_ID,
    "customer_id": MAX_OPTIONAL_ID, "device_id": MAX_OPTIONAL_ID,
}  # fmt: skip
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
        return _no_address(value)
    if field in _COUNTRIES:
        return _no_country(value)
    if field == "currency":
        known = value in CURRENCIES
        return "" if known else "is no ISO 4217 code: write three capital letters, such as EUR"
    if field == "channel":
        return "" if value in CHANNELS else f"is no channel: write one of {', '.join(CHANNELS)}"
    if field == "kind":
        return "" if value in KINDS else f"is not a kind: write one of {', '.join(KINDS)}"
    if field == "card_id" and looks_like_pan(value):
        if pan_key is None:
            return "is a card number, which is never stored: list the token in its place"
        return (
            f"is a card number, which is never stored: list its token {tokenised(value, pan_key)}"
        )
    if len(value) > _LONGEST[field]:
        return f"has {len(value)} characters, and a {field} at most {_LONGEST[field]}"
    return ""


def _no_address(value: str) -> str:
    if network_of(value) is None:
        return "is no IP address or network: write 192.0.2.7, 198.51.100.0/24 or 2001:db8::/48"
    return ""


def _no_country(value: str) -> str:
    try:
        code = country_code(value)
    except ValueError:
        return "is no ISO 3166 code: write two capital letters, such as GB"
    if code is None:
        return "stands for no country and is read as missing: leave it out"
    return "" if code == value else f"is read as {code}: write that"
