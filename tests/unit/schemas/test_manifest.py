"""One hash vouches for every file of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.manifest import MANIFEST_NAME, read_verified, sha256, write_manifest


def test_round_trip_and_every_kind_of_damage(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b"{}")
    digest = write_manifest(tmp_path, "m1", b"12345678")
    manifest, contents = read_verified(tmp_path, digest)
    assert (manifest.model_id, manifest.fingerprint) == ("m1", b"12345678")
    assert contents == {"model.json": b"{}"}
    (tmp_path / "model.json").write_bytes(b"{ }")
    with pytest.raises(ConfigurationError, match=r"model\.json: SHA-256"):
        read_verified(tmp_path, digest)
    (tmp_path / "model.json").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_verified(tmp_path, digest)
    with pytest.raises(ConfigurationError, match="registry says"):
        read_verified(tmp_path, "0" * 64)


def test_a_file_name_cannot_leave_the_bundle(tmp_path: Path) -> None:
    write_manifest(tmp_path, "m1", b"12345678")
    document = json.loads((tmp_path / MANIFEST_NAME).read_bytes())
    document["files"] = {"../secret": "0" * 64}
    data = json.dumps(document).encode()
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(ConfigurationError, match="leaves the bundle"):
        read_verified(tmp_path, sha256(data))
