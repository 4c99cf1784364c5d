"""Gradient boosting of trees on histograms of the features."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from classifiers.sample.features import Layout

#: Boosting rounds, each of a tree per class, and how far each goes.
ROUNDS, RATE = 50, 0.2
#: Keeps the leaves of classes with a dozen images from growing without bound.
PENALTY = 1.0
#: A tree looks at every feature: longer vectors are reduced to as many components. Those of
#: statistics, whose features mean something each, are not.
MAX_VALUES = 256


def steps(layout: Layout, n_samples: int, seed: int) -> list[tuple[str, Any]]:
    """Return the steps of a pipeline for vectors that `layout` describes.

    No round is judged by a part held out at random, as scikit-learn would by default: CCDs of one
    exposure would be on both sides of it.
    """
    last = BoostedTrees(
        learning_rate=RATE,
        max_iter=ROUNDS,
        l2_regularization=PENALTY,
        early_stopping=False,
        random_state=seed,
    )
    n_values = layout.ccd + layout.exposure + layout.median
    if n_values <= MAX_VALUES:
        return [("classifier", last)]
    reducer = VectorReducer(n_values, min(MAX_VALUES, n_samples))
    return [("reducer", reducer), ("classifier", last)]


class BoostedTrees(HistGradientBoostingClassifier):
    """scikit-learn's, whose trees are asked one after the other by one thread.

    Theirs are asked by all cores at once, which meet after each of several hundred trees: on a
    busy machine that takes a hundred times as long.
    """

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Return (n, n_classes)."""
        with threadpool_limits(1):
            return super().predict_proba(vectors)


class VectorReducer(TransformerMixin, BaseEstimator):
    """Principal components of the first values, standardised; the last ones stay as they are.

    Parameters
    ----------
    n_values : how many values are reduced.
    n_components : to how many.
    """

    def __init__(self, n_values: int, n_components: int) -> None:
        self.n_values = n_values
        self.n_components = n_components

    def fit(self, vectors: np.ndarray, labels: np.ndarray | None = None) -> VectorReducer:
        """Learn the components of vectors (n, d)."""
        values = vectors[:, : self.n_values]
        self.scaler_ = StandardScaler().fit(values)
        self.components_ = PCA(self.n_components, svd_solver="covariance_eigh").fit(
            self.scaler_.transform(values)
        )
        self.n_features_in_ = vectors.shape[1]
        return self

    def transform(self, vectors: np.ndarray) -> np.ndarray:
        """Return (n, n_components + d - n_values)."""
        check_is_fitted(self)
        reduced = self.components_.transform(self.scaler_.transform(vectors[:, : self.n_values]))
        return np.concatenate([reduced, vectors[:, self.n_values :]], axis=1)
