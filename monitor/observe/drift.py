"""Drift: the difference between the last hours and a bundle's reference histograms. Pure.

The population stability index (PSI) of a column is Σ (a - e) · ln(a / e) over the bins, with share
a now and e in the reference; an empty bin counts as half an observation. Source: Siddiqi, Credit
Risk Scorecards (2006), who calls 0.1 a small and 0.25 a major shift. Memory is hours · columns ·
bins, whatever the traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from monitor.observe import drift_kernel as kernel
from schemas.errors import ConfigurationError
from schemas.features import ANOMALY_FEATURE, HOUR, NAMES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
SCORE: Final = "score"
STORED_SCORES: Final = (ANOMALY_FEATURE, SCORE)


@dataclass(frozen=True, slots=True)
class Reference:
    """Histograms of f columns.

    `edges` float64 holds the inner edges of column k at `starts[k]:starts[k+1]`. `counts` is
    float64[f, b+1], with the missing values last.
    """

    names: tuple[str, ...]
    edges: Floats
    starts: Ints
    counts: Floats

    @classmethod
    def from_bundle(
        cls, histograms: Mapping[str, Mapping[str, Any]], names: Sequence[str]
    ) -> Reference:
        """Return the reference of those columns `names` that are in a bundle's histograms.json.

        Raises:
            ConfigurationError: a histogram is invalid.
        """
        known = tuple(name for name in names if name in histograms)
        try:
            edges = [np.asarray(histograms[name]["edges"], np.float64) for name in known]
            counts = [np.asarray(histograms[name]["counts"], np.float64) for name in known]
            missing = [float(histograms[name]["missing"]) for name in known]
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ConfigurationError(
                f"histograms.json is not readable ({type(error).__name__} {error}): train again"
            ) from error
        if not all(
            each.ndim == 1 and np.isfinite(each).all()
            for each in (*edges, *counts, np.array(missing))
        ):
            raise ConfigurationError(
                "histograms.json holds something else than lists of finite numbers: train again"
            )
        for name, own, of in zip(known, edges, counts, strict=True):
            if len(of) != len(own) + 1 or (np.diff(own) <= 0).any() or (of < 0).any():
                raise ConfigurationError(
                    f"histograms.json: {name} has {len(own)} edges and {len(of)} counts, which do "
                    "not match: train again"
                )
        width = max((len(of) for of in counts), default=1) + 1
        table = np.zeros((len(known), width))
        for column, (of, absent) in enumerate(zip(counts, missing, strict=True)):
            table[column, : len(of)] = of
            table[column, -1] = absent
        sizes = [len(own) for own in edges]
        return cls(
            known,
            np.concatenate(edges) if edges else np.zeros(0),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            table,
        )

    def bins(self) -> Ints:
        """Return the number of bins of each column, without the bin for missing values."""
        return np.diff(self.starts) + 1


class Window:
    """Histograms of the last `hours` hours over the edges of a reference."""

    def __init__(self, reference: Reference, hours: int = 24) -> None:
        self.reference = reference
        self._hours = hours
        self._newest = -(2**31)
        self._counts = np.zeros((hours, *reference.counts.shape), np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the histograms; they never grow."""
        return int(self._counts.nbytes)

    def advance(self, now_ms: int) -> None:
        """Make room for the hour of `now_ms` and drop expired hours."""
        newest = now_ms // HOUR
        if newest > self._newest:
            fresh = np.arange(max(self._newest + 1, newest - self._hours + 1), newest + 1)
            self._counts[fresh % self._hours] = 0
            self._newest = newest

    def add(self, matrix: Matrix | Floats, time: Ints) -> None:
        """Add the values [n, f] of the reference's columns, with times in ms.

        Pass values in the precision of the reference's data (float32 features, float64 scores):
        edges are observed values, and a rounded value would fall on the wrong side of its edge.
        """
        hour = time // HOUR
        kept = (hour > self._newest - self._hours) & (hour <= self._newest)
        places = np.where(kept, hour % self._hours, -1)
        reference = self.reference
        kernel.add_rows(matrix, places, reference.edges, reference.starts, self._counts)

    def counts(self) -> Ints:
        """Return the histograms of the whole window, int64[f, b + 1]."""
        summed: Ints = self._counts.sum(axis=0)
        return summed

    @property
    def rows(self) -> int:
        """Rows in the window."""
        return int(self._counts[:, 0].sum()) if self.reference.names else 0

    def covered(self) -> float:
        """Return the share of the window's hours that have rows."""
        return float(np.mean(self._counts[:, 0].sum(axis=1) > 0)) if self.reference.names else 0.0

    def psi(self) -> dict[str, float]:
        """Return the PSI of each column, missing values as a bin of their own."""
        reference = self.reference
        found = psi(reference.counts, self.counts(), reference.bins())
        return dict(zip(reference.names, found.tolist(), strict=True))

    def missing(self) -> dict[str, tuple[float, float]]:
        """Return the missing rates of each column, in the window and in the reference."""
        now = _shares(self.counts().astype(np.float64))[:, -1]
        before = _shares(self.reference.counts)[:, -1]
        return {
            name: (float(now[place]), float(before[place]))
            for place, name in enumerate(self.reference.names)
        }


def feature_window(histograms: Mapping[str, Mapping[str, Any]], hours: int = 24) -> Window:
    """Return a window over the 70 features of a vector."""
    return Window(Reference.from_bundle(histograms, NAMES), hours)


def score_window(histograms: Mapping[str, Mapping[str, Any]], hours: int = 24) -> Window:
    """Return a window over the two outputs of a model: anomaly score and calibrated score."""
    return Window(Reference.from_bundle(histograms, STORED_SCORES), hours)


def psi(expected: npt.NDArray[Any], actual: npt.NDArray[Any], bins: Ints) -> Floats:
    """Return the PSI of each row of two count tables [f, b + 1], missing values in the last bin.

    >>> psi(np.array([[50, 50, 0]]), np.array([[80, 20, 0]]), np.array([2])).round(2).tolist()
    [0.42]
    """
    width = expected.shape[1]
    used = np.arange(width)[None, :] < bins[:, None]
    used[:, -1] = True
    e, a = _kept_from_zero(expected, used), _kept_from_zero(actual, used)
    terms: Floats = np.where(used, (a - e) * np.log(a / e), 0.0)
    summed: Floats = terms.sum(axis=1)
    return summed


def _kept_from_zero(counts: npt.NDArray[Any], used: npt.NDArray[np.bool_]) -> Floats:
    """Return shares, counting an empty bin as half an observation; 1 for unused bins."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    shares: Floats = np.maximum(counts, 0.5) / total
    return np.where(used, shares, 1.0)


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return shares
