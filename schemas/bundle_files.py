"""Reading the files of a model bundle, whoever may have put them there.

A file is read once, from an open folder, and only if it is a regular file of a bounded size. A
link, a FIFO or a device is refused at once, so that reading never waits and never leaves the
folder.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from schemas.errors import ConfigurationError

MB: Final = 2**20
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class BundleFolder:
    """An open folder; a context manager.

    Raises:
        ConfigurationError: `path` is not a folder, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:  # ValueError: a NUL or a surrogate in the path
            raise ConfigurationError(f"{path} is not a bundle that can be read: {error}") from error

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of the file `name`, which may have at most `most` bytes.

        Raises:
            ConfigurationError: it cannot be read, is not a regular file, or is too large.
        """
        path = self.path / name
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=self._folder)
            try:
                mode = os.fstat(descriptor).st_mode
                if not stat.S_ISREG(mode):
                    raise ConfigurationError(
                        f"{path} is {_kind(mode)}: a bundle holds regular files only"
                    )
                with open(descriptor, "rb", closefd=False) as file:
                    data = file.read(most + 1)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}") from error
        if len(data) > most:
            raise ConfigurationError(
                f"{path} has more than {most:,} bytes, which is too large for a bundle"
            )
        return data

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the folder."""
        os.close(self._folder)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for matches, name in kinds if matches(mode)), "a device")
