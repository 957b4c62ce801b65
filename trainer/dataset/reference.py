"""Missing rates of the champion's training data, from its bundle."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.errors import ConfigurationError
from schemas.features import NAMES
from schemas.manifest import read_verified
from scorer.model.bundle import HISTOGRAMS


def missing_rates(directory: Path, sha256: str) -> dict[str, float]:
    """Return the share of missing values by feature in a bundle's reference histograms.

    A feature without a histogram, or with an empty one, is left out. `sha256` is the manifest's.

    Raises:
        ConfigurationError: the bundle cannot be read, is another, or its histograms make no sense.
    """
    files = read_verified(directory, sha256)[1]
    try:
        known = json.loads(files.get(HISTOGRAMS, b"{}"))
        counted = {
            name: (float(known[name]["missing"]), float(sum(known[name]["counts"])))
            for name in NAMES
            if name in known
        }
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"{directory / HISTOGRAMS} is not readable ({type(error).__name__} {error}): "
            "train again with --champion none"
        ) from error
    return {
        name: missing / (missing + there)
        for name, (missing, there) in counted.items()
        if missing + there > 0
    }
