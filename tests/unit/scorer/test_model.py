"""A bundle is served only if everything about it is right."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xgboost

from schemas.bundle_files import MB
from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.manifest import MANIFEST_NAME, SIGNATURE_NAME, BundleTrust, write_manifest
from scorer.model import bundle as served
from scorer.model.bundle import load_model
from tests.support.scorer.stand_ins import small_bundle
from tests.support.trainer.signed import SigningKey


def test_scores_are_those_of_the_xgboost_model_in_the_bundle(tmp_path: Path) -> None:
    model = load_model(tmp_path / "m", small_bundle(tmp_path / "m", "m"))
    draw = np.random.default_rng(2)
    vectors = draw.normal(5.0, 20.0, (100_000, VECTOR_SIZE)).astype(np.float32)
    vectors[:, 0] = draw.uniform(0, 1_500, len(vectors))
    vectors[draw.random(vectors.shape) < 0.2] = np.nan
    inputs = model.inputs(vectors)
    booster = xgboost.Booster(model_file=str(tmp_path / "m" / "model.ubj"))
    expected = booster.inplace_predict(inputs, validate_features=False)
    assert np.max(np.abs(model.score(inputs) - expected)) <= 1e-6


def test_scores_are_calibrated_as_the_bundle_says(tmp_path: Path) -> None:
    small_bundle(tmp_path / "m", "m")
    knots = {"x": [0.0, 0.5, 1.0], "y": [0.0, 0.1, 0.9]}
    (tmp_path / "m" / "calibration.json").write_text(json.dumps(knots))
    model = load_model(tmp_path / "m", write_manifest(tmp_path / "m", "m", FINGERPRINT))
    vectors = np.ones((400, VECTOR_SIZE), np.float32)
    vectors[:, 0] = np.linspace(400, 600, 400)
    inputs = model.inputs(vectors)
    before = model.probability(inputs).astype(np.float64)
    assert before.min() < 0.2
    assert before.max() > 0.8
    expected = np.where(before < 0.5, 0.2 * before, 0.1 + 1.6 * (before - 0.5))
    np.testing.assert_allclose(model.score(inputs), expected, atol=1e-9)


def test_another_catalogue_is_refused(tmp_path: Path) -> None:
    small_bundle(tmp_path / "m", "m")
    digest = write_manifest(tmp_path / "m", "m", b"otherone")
    with pytest.raises(ConfigurationError, match="train the model again"):
        load_model(tmp_path / "m", digest)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("forest.npz", b"no archive"),
        ("anomaly.npz", b""),
        ("calibration.json", b'{"x": [0, 1], "y": [1, 0]}'),
        ("calibration.json", b'{"x": [], "y": []}'),
        ("thresholds.json", b'{"block": 0.5, "review": 0.9}'),
        ("calibration.json", b'{"x": [0, 1], "y": [0, 1.5]}'),
        ("thresholds.json", b'{"block": 1.5, "review": 0.9}'),
        ("thresholds.json", b'{"block": 0.5, "review": -0.1}'),
        ("thresholds.json", b"[]"),
        ("thresholds.json", None),
    ],
)
def test_contents_that_fit_their_hash_but_not_the_scorer_are_refused(
    tmp_path: Path, name: str, change: bytes | None
) -> None:
    small_bundle(tmp_path / "m", "m")
    if change is None:
        (tmp_path / "m" / name).unlink()
    else:
        (tmp_path / "m" / name).write_bytes(change)
    digest = write_manifest(tmp_path / "m", "m", FINGERPRINT)
    with pytest.raises(ConfigurationError, match=r"cannot be served|lacks"):
        load_model(tmp_path / "m", digest)


@pytest.mark.parametrize(
    ("column", "place", "value"),
    [("child", 0, 10**6), ("split", 0, 10**6), ("depth", 0, 10**6), ("roots", 1, 0)],
)
def test_trees_that_would_lead_out_of_their_arrays_are_refused(
    tmp_path: Path, column: str, place: int, value: int
) -> None:
    small_bundle(tmp_path / "m", "m")
    with np.load(tmp_path / "m" / "forest.npz") as stored:
        arrays = dict(stored)
    arrays[column][place] = value
    np.savez(tmp_path / "m" / "forest.npz", **arrays)
    digest = write_manifest(tmp_path / "m", "m", FINGERPRINT)
    with pytest.raises(ConfigurationError, match="cannot be served"):
        load_model(tmp_path / "m", digest)


def packed(content: bytes, *, compression: int = zipfile.ZIP_STORED, name: str = "roots") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def array_file(shape: str, kind: str = "<i4", content: bytes = b"") -> bytes:
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


def altered(data: bytes, place: int, value: bytes) -> bytes:
    """Change a field of the zip directory, `place` bytes behind its first signature."""
    at = data.index(b"PK\x01\x02") + place
    return data[:at] + value + data[at + len(value) :]


ARRAY = packed(array_file("(1,)", content=bytes(4)))


@pytest.mark.parametrize(
    ("forest", "reason"),
    [
        (
            packed(bytes(80 * MB), compression=zipfile.ZIP_DEFLATED),
            "at most 67,108,864 are allowed",
        ),
        (
            altered(packed(bytes(80 * MB), compression=zipfile.ZIP_DEFLATED), 24, bytes([100, 0])),
            "forest.npz cannot be served",
        ),
        (altered(ARRAY, 24, b"\xff\xff\xff\x00"), "forest.npz cannot be served"),
        (altered(ARRAY, 10, b"\x63"), "NotImplementedError"),
        (altered(ARRAY, 8, b"\x01"), "RuntimeError"),
        (packed(array_file("(1000000000000,)")), "which is not shape"),
        (packed(array_file("(-1,)", content=bytes(4))), "an array of int32 of shape"),
        (packed(array_file("(1,)", "|O", bytes(8))), "an array of object"),
        (packed(array_file("-" * 9_000 + "1")), "ValueError"),
        (packed(b"no array"), "forest.npz cannot be served"),
    ],
    ids=range(10),
)
def test_an_archive_is_not_believed_about_its_sizes(
    tmp_path: Path, forest: bytes, reason: str
) -> None:
    small_bundle(tmp_path / "m", "m")
    (tmp_path / "m" / "forest.npz").write_bytes(forest)
    digest = write_manifest(tmp_path / "m", "m", FINGERPRINT)
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        load_model(tmp_path / "m", digest)


def test_a_slow_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = small_bundle(tmp_path / "m", "m")
    monkeypatch.setattr(served, "MAX_ROW_S", 1e-9)
    with pytest.raises(ConfigurationError, match="train fewer trees"):
        load_model(tmp_path / "m", digest)


def test_with_a_key_the_manifest_must_be_signed(tmp_path: Path) -> None:
    bundle = tmp_path / "m"
    digest = small_bundle(bundle, "m")
    key = SigningKey()
    trust = BundleTrust(public_key=key.public, oldest=7)
    with pytest.raises(ConfigurationError, match="not signed"):
        load_model(bundle, digest, trust)
    (bundle / SIGNATURE_NAME).write_bytes(key.private.sign((bundle / MANIFEST_NAME).read_bytes()))
    with pytest.raises(ConfigurationError, match="has no number"):
        load_model(bundle, digest, trust)
    with pytest.raises(ConfigurationError, match="number 6, but FRAUD_BUNDLE_OLDEST is 7"):
        load_model(bundle, key.sign(bundle, number=6), trust)
    digest = key.sign(bundle, number=7)
    loaded = load_model(bundle, digest, trust)
    assert (loaded.model_id, loaded.number) == ("m", 7)
    assert load_model(bundle, digest).model_id == "m"
    signature = (bundle / SIGNATURE_NAME).read_bytes()
    for wrong in (signature[::-1], signature[:-1], signature + b"0", b""):
        (bundle / SIGNATURE_NAME).write_bytes(wrong)
        with pytest.raises(ConfigurationError, match="not signed"):
            load_model(bundle, digest, trust)


def test_the_manifest_names_every_file(tmp_path: Path) -> None:
    small_bundle(tmp_path / "m", "m")
    document = json.loads((tmp_path / "m" / MANIFEST_NAME).read_text())
    present = {path.name for path in (tmp_path / "m").iterdir()}
    assert set(document["files"]) == present - {MANIFEST_NAME}
