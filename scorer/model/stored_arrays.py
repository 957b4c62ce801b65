"""Reads the arrays of an .npz file of a bundle within fixed bounds. Pure.

Nothing is allocated because the file asks for it: the zip directory and each array's head say how
large everything is, that is compared with what is there, and only then are bytes taken.
Source of the format: numpy.lib.format, versions 1.0 and 2.0.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.bundle_files import MB

MAX_ARRAYS: Final = 16
MAX_BYTES: Final = 64 * MB
"""Most bytes of all arrays of a file; those of 300 trees of depth 6 have half a megabyte."""
_HEAD_BYTES: Final = 4096
_MAX_HEADER_CHARACTERS: Final = 512
"""numpy writes 118 and evaluates them as a Python literal, so that longer ones are not tried."""
_NUMBERS: Final = "iuf"
_SUFFIX: Final = ".npy"


def read_arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file by name; they hold plain numbers.

    Raises:
        ValueError: there are too many arrays, they are too large, or one is not of numbers.
        Exception: whatever zipfile and numpy raise for damaged files.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) > MAX_ARRAYS:
            raise ValueError(f"it holds {len(members)} arrays, at most {MAX_ARRAYS} are allowed")
        total = sum(member.file_size for member in members)
        if total > MAX_BYTES:
            raise ValueError(f"its arrays have {total:,} bytes, at most {MAX_BYTES:,} are allowed")
        return {
            member.filename.removesuffix(_SUFFIX): _array(
                member.filename, _content(archive, member)
            )
            for member in members
        }


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member, as many as the directory says, and no more inflated."""
    with archive.open(member) as file:
        parts = [file.read(_HEAD_BYTES)]
        left = member.file_size - len(parts[0])
        while left > 0:
            part = file.read(min(left, MB))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        if left or file.read(1):
            raise ValueError(f"{member.filename} has not the size that the directory says")
    return b"".join(parts)


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    file = io.BytesIO(content)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"{name} has version {version} of the format, only 1.0 and 2.0 are read")
    shape, by_column, kind = readers[version](file, max_header_size=_MAX_HEADER_CHARACTERS)
    if kind.kind not in _NUMBERS or by_column or any(size < 0 for size in shape):
        raise ValueError(f"{name} is an array of {kind} of shape {shape}")
    values = content[file.tell() :]
    if math.prod(shape) * kind.itemsize != len(values):
        raise ValueError(f"{name} has {len(values):,} bytes, which is not shape {shape} of {kind}")
    return np.frombuffer(values, kind).reshape(shape).copy()
