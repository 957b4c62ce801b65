"""Names of adjusted models: `<base>+online-<n>` is the n-th adjustment of the model `base`. Pure.

No trained model has such a name: the commands refuse a plus sign.
"""

from __future__ import annotations

import re
from typing import Final

_ADJUSTED: Final = re.compile(r"(.+)\+online-(\d+)")


def adjusted_name(base: str, version: int) -> str:
    """Return the model id of the `version`-th adjustment of `base`.

    >>> adjusted_name("model-7", 2)
    'model-7+online-2'
    """
    return f"{base}+online-{version}"


def base_of(model_id: str) -> str:
    """Return the trained model beneath an adjusted one; any other model is its own base.

    >>> base_of("model-7+online-2"), base_of("model-7")
    ('model-7', 'model-7')
    """
    found = _ADJUSTED.fullmatch(model_id)
    return model_id if found is None else found[1]


def version_of(model_id: str) -> int | None:
    """Return the number of an adjustment; None for any other model."""
    found = _ADJUSTED.fullmatch(model_id)
    return None if found is None else int(found[2])
