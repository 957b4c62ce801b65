"""Which columns of a file are meant: by their names, without regard to case and blanks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.errors import ConfigurationError


def matched(wanted: Sequence[str], present: Sequence[str]) -> dict[str, str]:
    """Return the present column of each wanted one that there is.

    >>> matched(["id", "Amount"], ["ID", "amount", "Amount", "note"])
    {'id': 'ID', 'Amount': 'Amount'}
    """
    return {name: fits[0] for name in wanted if len(fits := _fitting(name, present)) == 1}


def chosen(path: Path, wanted: Sequence[str], present: Sequence[str]) -> dict[str, str]:
    """Return the present column of each wanted one that there is.

    Raises:
        ConfigurationError: several columns fit one name.
    """
    for name in wanted:
        fits = _fitting(name, present)
        if len(fits) > 1:
            listed = ", ".join(map(repr, fits))
            raise ConfigurationError(
                f"{path} has several columns that {name!r} may mean: {listed}; rename one of them"
            )
    return matched(wanted, present)


def _fitting(name: str, present: Sequence[str]) -> list[str]:
    same = [each for each in present if each == name]
    bare = name.strip().lower()
    return same or [each for each in present if each.strip().lower() == bare]
