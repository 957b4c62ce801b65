"""Whatever is in the files of a bundle, it is refused with a reason, or served with numbers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.manifest import MANIFEST_NAME, sha256, write_manifest
from scorer.model import adjustment
from scorer.model.adjustment import Adjustment
from scorer.model.bundle import load_model
from scorer.model.leaf_masks import MIN_MASKED_ROWS
from tests.support.fuzzing import fuzzed
from tests.support.scorer.bundle_mutations import Mutation, mutated, mutations
from tests.support.scorer.stand_ins import small_bundle

CORPUS: Path = Path(__file__).with_name("bundle_corpus.json")
"""Mutations that once ended a process, or were served with something that is not a number."""


class Mutated:
    """A good bundle in memory, of which changed copies are loaded from a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "m"
        small_bundle(self.folder, "m")
        change = Adjustment(
            base="m", version=1, created_at=1, bound=2.0, champion=0.1, intercept=0.0,
            features=("amount",), means=np.zeros(1), scales=np.ones(1), weights=np.ones(1),
        )  # fmt: skip
        (self.folder / adjustment.FILE).write_text(change.document())
        write_manifest(self.folder, "m", FINGERPRINT)
        self.good = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        draw = np.random.default_rng(3)
        self.vectors = draw.normal(5, 300, (2 * MIN_MASKED_ROWS, VECTOR_SIZE)).astype(np.float32)
        self.vectors[draw.random(self.vectors.shape) < 0.2] = np.nan

    def loads(self, mutation: Mutation) -> bool:
        """Return whether the changed bundle loads; fail if that does any harm."""
        self._write(mutated(self.good, mutation))
        if mutation[1] != MANIFEST_NAME:
            write_manifest(self.folder, "m", FINGERPRINT)
        digest = sha256((self.folder / MANIFEST_NAME).read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                model = load_model(self.folder, digest)
            except ConfigurationError as error:
                named = str(self.folder) in str(error)
                if not named:
                    pytest.fail(f"{error} does not name the file")
                return False
            inputs = model.inputs(self.vectors)
            scores = model.score(inputs)
            few = np.concatenate([model.score(inputs[row : row + 8]) for row in range(0, 64, 8)])
            assert np.array_equal(scores, few), "one walk for every batch size"
            assert ((scores >= 0) & (scores <= 1)).all()
            assert ((inputs[:, -1] >= 0) & (inputs[:, -1] <= 1)).all()
            assert np.isfinite(model.contributions(inputs)).all()
        return True

    def _write(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            (self.folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Mutated:
    return Mutated(tmp_path_factory.mktemp("fuzz"))


def test_the_bundle_that_is_changed_is_good(bundle: Mutated) -> None:
    assert bundle.loads(["json", "thresholds.json", 0.0, "0.96"])


@fuzzed(examples=250)
@given(mutation=mutations())
def test_no_change_of_a_bundle_does_harm(bundle: Mutated, mutation: Mutation) -> None:
    bundle.loads(mutation)


@pytest.mark.parametrize("mutation", json.loads(CORPUS.read_text()), ids=repr)
def test_what_once_did_harm_is_refused(bundle: Mutated, mutation: Mutation) -> None:
    assert not bundle.loads(mutation)
