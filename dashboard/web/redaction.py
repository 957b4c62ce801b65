"""What each role may see of the personal fields of a payment. Pure.

Every page, event stream and export that shows a payment or a policy goes through this module, so
that a role sees the same everywhere. Personal is whatever tells something about the cardholder:
card, customer, device, IP address, place and attributes. Viewers see the end of a card's id and
otherwise that there is a value; from FULL_ROLE on people see all of it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any, Final

from dashboard.accounts.access import Person
from database.accounts.roles import Role

FULL_ROLE: Final[Role] = "analyst"
PERSONAL: Final = frozenset(
    {"card_id", "customer_id", "device_id", "ip", "latitude", "longitude", "attributes"}
)
HIDDEN: Final = "••••"
SHOWN: Final = 4
"""Characters of a card id that everyone may see."""


def masked(card_id: str) -> str:
    """Return a card id reduced to its last characters, as on a receipt.

    >>> masked("card-004711")
    '••••4711'
    """
    return HIDDEN + (card_id[-SHOWN:] if len(card_id) > SHOWN else "")


@dataclass(frozen=True, slots=True)
class Redaction:
    """The view of one role; `in_full` shows everything."""

    in_full: bool

    @classmethod
    def of(cls, person: Person) -> Redaction:
        """Return what the person may see."""
        return cls(person.may(FULL_ROLE))

    def text(self, field: str, value: object) -> str:
        """Return a field's value as this role may see it.

        >>> Redaction(False).text("ip", "192.0.2.7"), Redaction(False).text("mcc", 5411)
        ('••••', '5411')
        """
        if self.in_full or field not in PERSONAL:
            return str(value)
        return masked(str(value)) if field == "card_id" else HIDDEN

    def policy(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a valid policy document; without the values of lists and in conditions.

        Args:
            document: a document that `compile_policy` accepts.
        """
        if self.in_full:
            return document
        lists = [
            part | {"values": f"{HIDDEN} ({len(part['values'])})"}
            for part in document.get("lists", ())
        ]
        conditional = {
            name: [part | {"when": condition(part["when"])} for part in document[name]]
            for name in ("segments", "rules")
            if name in document
        }
        return document | conditional | ({"lists": lists} if lists else {})


def condition(text: str) -> str:
    """Return the condition of a rule without the values that it compares a personal field with.

    >>> condition("amount > 500 and card_id in ['card-7', 'card-8']")
    "amount > 500 and card_id in ['••••', '••••']"
    """
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and _names(node) & PERSONAL:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant):
                    inner.value = HIDDEN
    return ast.unparse(tree)


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
