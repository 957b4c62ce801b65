"""Every error that the gateway answers with: problem details (RFC 9457)."""

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
    "forbidden": (403, "The API key has not the scope for this"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This address does not take the method"),
    "too-slow": (408, "The body came too slowly"),
    "conflict": (409, "This transaction_id was used for another transaction"),
    "too-large": (413, "The body is too large"),
    "invalid-transaction": (422, "The transaction breaks a rule"),
    "refused-transaction": (422, "The feature engine refused the transaction"),
    "rate-limit": (429, "More than this key may send"),
    "internal": (500, "The gateway failed"),
    "unavailable": (503, "The gateway cannot take this now"),
}
"""Last part of the type, with its status and title."""


class Problem(Exception):
    """An answer that is an error. `more` are extension members; `headers` go with the answer."""

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
        """Return the members of the problem."""
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
    """Return the problem of a transaction whose fields break rules, naming all of them."""
    found = [{"field": error.field, "reason": error.reason} for error in errors]
    names = ", ".join(str(each["field"]) for each in found)
    return Problem("invalid-transaction", f"not valid: {names}", errors=found)


def of_body(refused: RefusedBody) -> Problem:
    """Return the problem of a body that was not read to its end."""
    return of_status(refused.status, refused.reason, {"Connection": "close"})


def of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem of a status that the web framework answers with."""
    for kind, (each, _title) in KINDS.items():
        if each == status:
            return Problem(kind, detail, headers=headers)
    problem = Problem("internal" if status >= 500 else "bad-request", detail, headers=headers)
    problem.status = status
    problem.title = HTTPStatus(status).phrase
    return problem
