"""The gateway's error answers: problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from runtime.web.bodies import RefusedBody
from schemas.card_numbers import masked
from schemas.errors import BadMessage

MEDIA_TYPE: Final = "application/problem+json"
KINDS: Final = {
    "bad-request": (400, "The request cannot be read"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "The API key lacks the required scope"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "This path does not support the method"),
    "too-slow": (408, "The body arrived too slowly"),
    "conflict": (409, "This transaction_id was used for another transaction"),
    "too-large": (413, "The body is too large"),
    "unsupported-encoding": (415, "The body has an encoding that is not supported"),
    "invalid-transaction": (422, "The transaction breaks a rule"),
    "refused-transaction": (422, "The feature engine refused the transaction"),
    "rate-limit": (429, "The key has exceeded its limit"),
    "internal": (500, "The gateway failed"),
    "unavailable": (503, "The gateway cannot accept this now"),
}
"""Status and title by the last part of the problem's type."""
MAX_ERRORS: Final = 20
"""Invalid fields that one answer names; whoever has more will not mend them one by one."""
MAX_NAME, MAX_REASON = 64, 300
"""Characters of a field's name and of a reason: both may repeat what the client sent."""


class Problem(Exception):
    """An error answer. `more` are extension members; `headers` are sent with the answer."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, masked(detail)
        self.status, self.title = KINDS[kind]
        self.headers = dict(headers or {})
        self.more = more

    def document(self) -> dict[str, Any]:
        """Return the problem's members as a dictionary."""
        return {
            "type": f"urn:fraud-scoring:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }

    def body(self) -> bytes:
        """Return the problem as JSON."""
        return json.dumps(self.document()).encode()


def invalid(errors: Iterable[BadMessage]) -> Problem:
    """Return the problem for a transaction with invalid fields; it names at most MAX_ERRORS."""
    every = list(errors)
    found = [
        {
            "field": None if error.field is None else shortened(error.field, MAX_NAME),
            "reason": shortened(error.reason, MAX_REASON),
        }
        for error in every[:MAX_ERRORS]
    ]
    names = ", ".join(str(each["field"]) for each in found)
    more = f" and {len(every) - len(found)} more" if len(every) > len(found) else ""
    return Problem("invalid-transaction", f"invalid: {names}{more}", errors=found)


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def of_body(refused: RefusedBody) -> Problem:
    """Return the problem for a body that was not read to its end."""
    headers = {"Connection": "close"}
    if refused.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "gzip"
    return of_status(refused.status, refused.reason, headers)


def of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem for a status that the web framework raised."""
    for kind, (each, _title) in KINDS.items():
        if each == status:
            return Problem(kind, detail, headers=headers)
    problem = Problem("internal" if status >= 500 else "bad-request", detail, headers=headers)
    problem.status = status
    problem.title = HTTPStatus(status).phrase
    return problem
