"""The decorators of kernels that allocate nothing; their arrays come from the caller.

They are compiled without numba's reference counting (`_nrt=False`): its atomic counters cost more
than the arithmetic, and the engine runs several times faster without them.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

_njit: Any = njit

compiled: Final[Any] = _njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
leaf: Final[Any] = _njit(cache=True, nogil=True, error_model="numpy", _nrt=False, forceinline=True)
"""For small functions of inner loops, where copying the arrays' descriptors would dominate."""
view: Final[Any] = _njit(nogil=True, error_model="numpy", _nrt=False, inline="always")
"""For functions that return a slice: without reference counting they have to be inlined."""
