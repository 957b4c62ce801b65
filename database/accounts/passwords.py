"""Passwords: argon2 hashes, the rules for new passwords, and one-time passwords."""

from __future__ import annotations

import secrets
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from database.accounts.guessable import is_guessable
from schemas.errors import ConfigurationError

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 256
ONE_TIME_BYTES: Final = 12
AT_ONCE: Final = 2
"""Hashes computed at the same time: each needs 64 MB and a whole processor core."""


class Passwords:
    """Hashes and verifies passwords; both block for about 50 ms, on purpose. Thread-safe.

    Args:
        hasher: argon2 with its parameters; tests use cheap ones.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = BoundedSemaphore(AT_ONCE)
        self._nobody = self._hasher.hash(secrets.token_hex())

    def hash(self, password: str) -> str:
        """Return the hash to store."""
        with self._turns:
            return self._hasher.hash(password)

    def one_time(self) -> tuple[str, str]:
        """Return a random password for one log-in, and its hash."""
        password = secrets.token_urlsafe(ONE_TIME_BYTES)
        return password, self.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Return whether the password matches. Without a stored hash, False takes just as long."""
        if len(password) > MAX_LENGTH:
            password = ""  # do not hash so much text, but take as long as for any wrong password
        with self._turns:
            try:
                self._hasher.verify(stored or self._nobody, password)
            except (VerifyMismatchError, InvalidHashError):
                return False
        return stored is not None

    def outdated(self, stored: str) -> bool:
        """Return whether the hash has outdated parameters and should be replaced."""
        return self._hasher.check_needs_rehash(stored)


def check(password: str, username: str) -> None:
    """Check a new password against the rules.

    Raises:
        ConfigurationError: it breaks a rule; the text says which.
    """
    if len(password) < MIN_LENGTH:
        raise ConfigurationError(f"a password has at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise ConfigurationError(f"a password has at most {MAX_LENGTH} characters")
    if username.lower() in password.lower():
        raise ConfigurationError("the password contains the username")
    if len(set(password)) < 5:
        raise ConfigurationError("the password repeats a few characters only")
    if is_guessable(password, username):
        raise ConfigurationError(
            "the password consists of common words, rows of keys, years or repetitions, which are "
            "guessed first: add a few words of your own"
        )
