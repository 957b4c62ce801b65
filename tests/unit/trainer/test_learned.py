"""When a model has learned: kept with it, told on its card, and left out when it is compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from schemas.features import DAY, FINGERPRINT
from schemas.manifest import write_manifest
from tests.unit.trainer.test_early_training import A_DAY, IMMATURE_DAYS, history
from tests.unit.trainer.test_training import options
from trainer.dataset.dataset import Dataset
from trainer.dataset.time_split import split
from trainer.registry.publication import champion_of
from trainer.training.learned import TRAINING, bundle_ranges, learned_ranges, within
from trainer.training.training_run import run_training


def of_yesterday(today: Dataset) -> Dataset:
    """Return what was known a day before: a day less, and as many immature days."""
    return replace(today.take(np.arange(len(today) - A_DAY)), immature=IMMATURE_DAYS * A_DAY)


def test_the_ranges_are_those_of_the_rows_that_are_learned_from() -> None:
    data = history()
    parts = split(data, gap_ms=7 * DAY)
    seen = within(data.time, learned_ranges(data, 7 * DAY))
    assert seen[: parts.calibration.stop].all()
    assert not seen[parts.calibration.stop : parts.test.stop].any()
    assert seen[data.mature :].all()
    mature = data.take(np.arange(data.mature))
    assert len(learned_ranges(mature, 7 * DAY)) == 1


def test_a_model_of_yesterday_is_compared_where_it_has_not_learned(tmp_path: Path) -> None:
    today = history()
    first = run_training(of_yesterday(today), {}, options(tmp_path, "m1"))
    assert first.bundle is not None
    card = (Path(first.bundle) / "model_card.md").read_text()
    assert f"the oldest, and {IMMATURE_DAYS * A_DAY:,} immature ones from " in card
    assert "between the oldest and the immature ones, from both of which" in card
    assert "that follow the training data; they" not in card
    champion = champion_of(Path(first.bundle))
    wanted = options(tmp_path, "m2")
    enough = wanted.bounds.champion.model_copy(update={"least_frauds": 50})
    wanted = replace(wanted, bounds=wanted.bounds.model_copy(update={"champion": enough}))
    second = run_training(today, {}, wanted, champion)
    assert second.gates is not None
    (verdict,) = [each for each in second.gates["gates"] if each["gate"] == "champion"]
    holdout = split(today, gap_ms=7 * DAY).test
    unseen = holdout.stop - holdout.start - A_DAY  # a day became mature since
    assert f"on the {unseen:,} same rows from which that one has not learned" in verdict["text"]
    assert verdict["bound"] == -0.01


def test_a_bundle_that_says_less_counts_as_having_learned_all_up_to_then(tmp_path: Path) -> None:
    def ranges(text: str | None) -> tuple[tuple[int, int], ...]:
        if text is not None:
            (tmp_path / TRAINING).write_text(text)
        return bundle_ranges(tmp_path, write_manifest(tmp_path, "m", FINGERPRINT))

    assert ranges(None) == ()
    assert ranges(json.dumps({"trained_until": 50})) == ((0, 50),)
    for broken in ("{}", "[", '{"learned": [1]}', "[]", '{"learned": 3}', "[" * 100_000):
        with pytest.raises(ConfigurationError, match="does not say when it learned"):
            ranges(broken)
    digest = write_manifest(tmp_path, "m", FINGERPRINT)
    (tmp_path / TRAINING).write_text('{"trained_until": 60}')  # nobody vouches for that
    with pytest.raises(ConfigurationError, match="the manifest says"):
        bundle_ranges(tmp_path, digest)
