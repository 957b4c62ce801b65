"""Ctrl-C as a wish to end the measuring in order, not the program. Used while traffic flows."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Context manager for the main thread; true once Ctrl-C or SIGTERM came. The second one raises
    KeyboardInterrupt."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        """Tell whether to end."""
        return self._asked

    def __enter__(self) -> Self:
        """Listen from now on."""
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
