"""Feature vectors of many CCDs, held as small as they are exact, for parts that share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Rows that are put together at once, so that their single precision is never in memory twice.
_ROWS = 16_384


@dataclass(frozen=True)
class HeldVectors:
    """Feature vectors in the order of `classifiers.sample.features.Layout`.

    A million vectors of 768 dimensions are 1.5 GB so, half of what a classifier is given.

    Attributes
    ----------
    own : (n, layout.ccd) of each CCD, in the lake's half precision.
    shared : (m, s) float32: what the CCDs of an exposure have in common, once for each exposure.
    exposure : (n,) row of `shared`.
    columns : (n, layout.columns) float32, of the CCD table.
    """

    own: np.ndarray
    shared: np.ndarray
    exposure: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> HeldVectors:
        """Return vectors (n, d) held as they are."""
        n = len(vectors)
        nothing = np.empty((n, 0), np.float32)
        return cls(vectors, np.empty((1, 0), np.float32), np.zeros(n, np.intp), nothing)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of `rows` (indices), (len(rows), d) float32, a copy."""
        own, shared = self.own.shape[1], self.shared.shape[1]
        taken = np.empty((len(rows), own + shared + self.columns.shape[1]), np.float32)
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            block = taken[start : start + _ROWS]
            block[:, :own] = self.own[some]
            block[:, own : own + shared] = self.shared[self.exposure[some]]
            block[:, own + shared :] = self.columns[some]
        return taken
