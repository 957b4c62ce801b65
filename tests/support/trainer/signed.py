"""Keys with which tests sign bundles."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.features import FINGERPRINT
from trainer.registry.signing import Signer


class SigningKey:
    """A new key; `public` has 32 bytes."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()

    def sign(self, bundle: Path, number: int) -> str:
        """Sign a bundle that is called as its folder; return its manifest's SHA-256."""
        return Signer(self.private, lambda: number).sign(bundle, bundle.name, FINGERPRINT)

    def pem(self, path: Path) -> Path:
        """Write the private key to a file and return it."""
        path.write_bytes(
            self.private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path
