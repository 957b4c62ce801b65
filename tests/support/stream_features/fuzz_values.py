"""Runs changed stored values through the engine until a time is up; a process of its own.

What is being run is written to a file first, so that the bytes are known even if they end the
process: python -m tests.support.stream_features.fuzz_values SECONDS SEED FILE
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.support.stream_features.damaged_values import Subject, changed, good_values


def main(seconds: float, seed: int, path: Path) -> None:
    """Run for so many seconds from the first value on; print how many values met which fate."""
    faulthandler.enable()
    subject, draw, fates = Subject(list(good_values())), np.random.default_rng(seed), Counter[str]()
    end = time.monotonic() + seconds
    with path.open("w+", buffering=1) as running:
        while time.monotonic() < end:
            kind, value = subject.good[int(draw.integers(0, len(subject.good)))]
            value = changed(value, draw)
            running.seek(0)
            running.truncate()
            running.write(f'["{kind}", "{value.hex()}"]\n')
            refused = subject.harm(kind, value)
            fates[refused[0].fault if refused else "taken as it is"] += 1
    print(f"{fates.total()} values: {dict(fates.most_common())}")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
