"""Measures the CPU and memory that the processes of a run use."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import psutil


class ProcessCost(NamedTuple):
    """CPU seconds since the start of the process, and resident bytes now."""

    cpu_s: float
    rss: int


class Meter:
    """Measures named processes from `start` to `read`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self.start()

    def start(self) -> None:
        """Measure from now on."""
        self._began = time.monotonic()
        self._first = self._costs()

    def read(self) -> dict[str, dict[str, float]]:
        """Return cpu_s, cpu_share (1.0 is a whole core) and rss_mb of each process that lives."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        out = {}
        for name, cost in self._costs().items():
            used = cost.cpu_s - self._first.get(name, ProcessCost(0.0, 0)).cpu_s
            out[name] = {
                "cpu_s": round(used, 3),
                "cpu_share": round(used / seconds, 4),
                "rss_mb": round(cost.rss / 1e6, 1),
            }
        return out

    def _costs(self) -> dict[str, ProcessCost]:
        found = {}
        for name, pid in self._pids.items():
            try:
                process = psutil.Process(pid)
                times = process.cpu_times()
                found[name] = ProcessCost(times.user + times.system, process.memory_info().rss)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def machine() -> dict[str, Any]:
    """Return a description of the machine, on which all figures depend."""
    model = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(
                (line.split(":", 1)[1].strip() for line in lines if "model name" in line), ""
            )
    except OSError:
        model = platform.processor()
    return {
        "cores": psutil.cpu_count(),
        "cpu": model,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(each, 2) for each in psutil.getloadavg()],
    }
