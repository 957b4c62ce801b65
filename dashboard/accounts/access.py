"""Permissions: each handler names the lowest role that may use it, by `require(role)`.

The gate (gate.py) has already refused requests without a log-in; this module checks the role.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from database.accounts.roles import ROLES, Role
from database.accounts.sessions import Session


@dataclass(frozen=True, slots=True)
class Person:
    """The person who is logged in."""

    username: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether the person's role is `role` or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


def session_of(request: Request) -> Session | None:
    """Return the session that the gate found; None without a log-in."""
    found: Session | None = request.scope.get("session")
    return found


def person_of(request: Request) -> Person | None:
    """Return the person who is logged in; None without a log-in."""
    session = session_of(request)
    return None if session is None else Person(session.username, session.role)


def require(role: Role) -> Callable[[Request], Person]:
    """Return a dependency that gives the Person and admits `role` and higher roles.

    It answers 403 to lower roles and 401 without a log-in. Its attribute `required` is the role.
    """

    async def checked(request: Request) -> Person:
        person = person_of(request)
        if person is None:
            raise HTTPException(401, "log in first")
        if not person.may(role):
            raise HTTPException(403, f"this needs the role {role}, and yours is {person.role}")
        return person

    checked.required = role  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]


Viewer = Annotated[Person, Depends(require("viewer"))]
Analyst = Annotated[Person, Depends(require("analyst"))]
ModelOwner = Annotated[Person, Depends(require("model owner"))]
Admin = Annotated[Person, Depends(require("admin"))]
