"""One hash vouches for every file of a bundle."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.manifest import (
    MANIFEST_NAME,
    MAX_FILE_BYTES,
    SIGNATURE_NAME,
    read_verified,
    sha256,
    write_manifest,
)


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


def test_the_signature_is_checked_on_the_bytes_that_were_read(tmp_path: Path) -> None:
    """A FIFO gave the hash one manifest and the signature another."""
    (tmp_path / "model.json").write_bytes(b"{}")
    digest = write_manifest(tmp_path, "m1", b"12345678")
    (tmp_path / MANIFEST_NAME).unlink()
    os.mkfifo(tmp_path / MANIFEST_NAME)
    with pytest.raises(ConfigurationError, match="a FIFO: a bundle holds regular files only"):
        read_verified(tmp_path, digest)  # at once, although nobody writes


@pytest.mark.parametrize("name", ["model.json", MANIFEST_NAME])
def test_only_regular_files_are_read_and_no_link_is_followed(tmp_path: Path, name: str) -> None:
    bundle, elsewhere = tmp_path / "bundle", tmp_path / "elsewhere"
    bundle.mkdir()
    (bundle / "model.json").write_bytes(b"{}")
    digest = write_manifest(bundle, "m1", b"12345678")
    elsewhere.write_bytes((bundle / name).read_bytes())
    (bundle / name).unlink()
    (bundle / name).symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match=rf"{name} cannot be read"):
        read_verified(bundle, digest)
    (bundle / name).unlink()
    (bundle / name).mkdir()
    with pytest.raises(ConfigurationError, match="a folder: a bundle holds regular files"):
        read_verified(bundle, digest)
    (bundle / name).rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bundle / name))
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_verified(bundle, digest)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b"{}")
    digest = write_manifest(tmp_path, "m1", b"12345678")
    os.truncate(tmp_path / "model.json", MAX_FILE_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(ConfigurationError, match=r"more than 67,108,864 bytes"):
        read_verified(tmp_path, digest)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 1}, "format 1 is not 2"),
        ({"model_id": {}}, "is not a name"),
        ({"fingerprint": "00"}, "has 1 bytes"),
        ({"files": {"a\0b": "0" * 64}}, "not a plain name"),
        ({"files": {MANIFEST_NAME: "0" * 64}}, "leaves the bundle"),
        ({"files": {"a": "0"}}, "is not the SHA-256 of a"),
        ({"files": {f"f{n}": "0" * 64 for n in range(65)}}, "names 65 files"),
        ({"files": ["a"]}, "AttributeError"),
        ({"number": 0}, "is not a positive integer"),
        ({"number": True}, "is not a positive integer"),
        ({"number": 1e400}, "is not a positive integer"),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    write_manifest(tmp_path, "m1", b"12345678")
    document = json.loads((tmp_path / MANIFEST_NAME).read_bytes()) | change
    data = json.dumps(document).encode()
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(ConfigurationError, match=reason):
        read_verified(tmp_path, sha256(data))


def test_a_manifest_nested_without_end_is_refused(tmp_path: Path) -> None:
    data = b"[" * 60_000
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(ConfigurationError, match="RecursionError"):
        read_verified(tmp_path, sha256(data))


def test_a_signature_is_not_among_the_files_and_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / SIGNATURE_NAME).write_bytes(b"old")
    manifest, contents = read_verified(tmp_path, write_manifest(tmp_path, "m1", b"12345678", 5))
    assert (manifest.number, contents) == (5, {})
