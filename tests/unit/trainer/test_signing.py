"""Where scorers want signatures the trainer signs, or refuses to work."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT
from schemas.manifest import BundleTrust, manifest_sha256, write_manifest
from scorer.model.bundle import load_model
from tests.support.scorer.stand_ins import small_bundle
from tests.support.trainer.signed import SigningKey
from trainer.commands.sign import sign
from trainer.registry.publication import loaded_registration
from trainer.registry.signing import signer_of


def settings(public: SigningKey | None, private: Path | None) -> Settings:
    return load_settings(
        bundle_public_key=None if public is None else public.public.hex(),
        bundle_signing_key=private,
    )


def test_a_signature_is_made_where_it_is_wanted_and_numbers_rise(tmp_path: Path) -> None:
    key = SigningKey()
    signer = signer_of(settings(key, key.pem(tmp_path / "key.pem")), required=True)
    assert signer is not None
    small_bundle(tmp_path / "m", "m")
    trust = BundleTrust(public_key=key.public)
    numbers = [
        load_model(tmp_path / "m", signer.sign(tmp_path / "m", "m", FINGERPRINT), trust).number
        for _ in range(2)
    ]
    assert numbers[0] is not None
    assert numbers[1] is not None
    assert 1_700_000_000_000 < numbers[0] <= numbers[1]


def test_with_a_public_key_nothing_is_published_without_the_private_one(tmp_path: Path) -> None:
    key = SigningKey()
    with pytest.raises(ConfigurationError, match="FRAUD_BUNDLE_SIGNING_KEY is not"):
        signer_of(settings(key, None), required=True)
    assert signer_of(settings(key, None), required=False) is None
    assert signer_of(settings(None, None), required=True) is None
    other = SigningKey().pem(tmp_path / "other.pem")
    with pytest.raises(ConfigurationError, match="is not the private key of"):
        signer_of(settings(key, other), required=False)


def test_a_file_that_holds_no_key_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "key.pem"
    wrong.write_text("no key")
    with pytest.raises(ConfigurationError, match=r"key\.pem is not a private key"):
        signer_of(settings(None, wrong), required=False)
    elliptic = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    wrong.write_bytes(elliptic)
    with pytest.raises(ConfigurationError, match="openssl genpkey -algorithm ed25519"):
        signer_of(settings(None, wrong), required=False)


def test_an_unsigned_bundle_is_registered_only_once_it_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, bundle = SigningKey(), tmp_path / "m"
    small_bundle(bundle, "m")
    trust = BundleTrust(public_key=key.public)
    with pytest.raises(ConfigurationError, match="not signed"):
        loaded_registration(bundle, actor="jane", trust=trust)
    monkeypatch.setenv("FRAUD_BUNDLE_PUBLIC_KEY", key.public.hex())
    monkeypatch.setenv("FRAUD_BUNDLE_SIGNING_KEY", str(key.pem(tmp_path / "key.pem")))
    sign(bundle)
    event = loaded_registration(bundle, actor="jane", trust=trust)
    assert event["sha256"] == manifest_sha256(bundle)


def test_a_bundle_that_no_scorer_could_load_is_not_registered(tmp_path: Path) -> None:
    small_bundle(tmp_path / "m", "m")
    (tmp_path / "m" / "thresholds.json").write_text("{}")
    write_manifest(tmp_path / "m", "m", FINGERPRINT)
    with pytest.raises(ConfigurationError, match=r"thresholds\.json cannot be served"):
        loaded_registration(tmp_path / "m", actor="jane")
