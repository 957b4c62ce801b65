"""The roles of people on the dashboard."""

from __future__ import annotations

from typing import Final, Literal, get_args

Role = Literal["viewer", "analyst", "model owner", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""In ascending order: each role may do everything that the roles before it may do."""
