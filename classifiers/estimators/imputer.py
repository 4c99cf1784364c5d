"""Filling in columns of the CCD table that are null."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.utils.validation import check_is_fitted


class ColumnImputer(TransformerMixin, BaseEstimator):
    """Puts the median of the good training vectors where one of the last columns is NaN.

    A CCD whose table lacks a value is not lost, and the value says neither good nor bad. A column
    without a value for any good vector becomes 0.

    Parameters
    ----------
    n_columns : how many columns come last, 1 or more; the others are left alone.
    """

    def __init__(self, n_columns: int) -> None:
        self.n_columns = n_columns

    def fit(self, vectors: np.ndarray, labels: np.ndarray) -> ColumnImputer:
        """Learn the medians of the vectors (n, d) labelled 0, good."""
        good = vectors[labels == 0, -self.n_columns :]
        self.medians_ = (
            SimpleImputer(strategy="median", keep_empty_features=True).fit(good).statistics_
        )
        self.n_features_in_ = vectors.shape[1]
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d), filled in; the same array where nothing is missing."""
        check_is_fitted(self)
        missing = np.isnan(vectors[:, -self.n_columns :])
        if not missing.any():
            return vectors
        filled = vectors.copy()
        columns = filled[:, -self.n_columns :]
        columns[:] = np.where(missing, self.medians_, columns)
        return filled
