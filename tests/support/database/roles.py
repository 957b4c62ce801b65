"""Logging in to PostgreSQL as one of the services."""

from __future__ import annotations

from sqlalchemy.engine import make_url

from database.core.opening import open_database
from database.core.rights import RIGHTS, create_roles, role_of
from runtime.settings import load_settings


def as_service(url: str, service: str) -> str:
    """Return the URL with which a service opens the database of the owner's `url`.

    SQLite has no roles, and its URL is returned as it is.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url
    with open_database(load_settings(database_url=url)) as owned:
        create_roles(owned, dict.fromkeys(RIGHTS, "a password of tests"))
    return parsed.set(username=role_of(service)).render_as_string(hide_password=False)
