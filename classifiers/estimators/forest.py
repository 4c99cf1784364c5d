"""Good or bad first, then which: forests over how far a vector lies from what is usual.

Luo et al. (2026, section 5.4) name a good-or-bad step before the category as what their
classifier lacks. With few bad exposures of a kind to learn from, what helps most is to measure
every feature against the good ones: a defect never seen before is then far off as well.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.utils.validation import check_is_fitted

#: RobustZScore beyond this are all equally far.
_LIMIT = 15.0
#: Share of the full scatter that the robust one is raised by, for features that are mostly equal.
_FLOOR = 0.05
#: Features that the detector tries at a split: this share of them, up to this number, beyond which
#: the vectors of large models would take hours.
_TRIED, _TRIED_AT_MOST = 0.3, 300
#: From the median of absolute deviations to the standard deviation of a normal distribution.
_NORMAL = 1.4826


class RobustZScore(TransformerMixin, BaseEstimator):
    """Deviation of each feature from the good vectors', in units of their scatter.

    Takes feature vectors as `classifiers.sample.features.Layout` orders them.

    Parameters
    ----------
    median : how many values have their exposure's median beside them (the first ones; 0 for none);
        the output then has the deviation of one from the other too.
    band : whether there is the number of the band; each has its own usual values then, and the
        output has the deviation from them beside that from those of all bands, which more vectors
        decide. A band that was not seen has those of all.
    columns : how many columns of the CCD table come last.
    """

    def __init__(self, median: int = 0, band: bool = False, columns: int = 0) -> None:
        self.median = median
        self.band = band
        self.columns = columns

    def fit(self, inputs: np.ndarray, labels: np.ndarray) -> RobustZScore:
        """Learn what is usual from the vectors labelled 0, good."""
        good = inputs[labels == 0]
        vectors, residuals, bands = self._parts(good)
        self.bands_ = np.unique(bands)
        chosen = [np.ones(len(good), bool), *(bands == band for band in self.bands_)]
        self.centres_ = np.stack([np.median(vectors[rows], axis=0) for rows in chosen])
        self.scales_ = np.stack([_scatter(vectors[rows]) for rows in chosen])
        self.residual_scale_ = _scatter(residuals)
        self.n_features_in_ = inputs.shape[1]
        return self

    def transform(self, inputs: np.ndarray) -> np.ndarray:
        """Return the signed deviations, (n, d) to (n, 3 d) float32, cut at 15."""
        check_is_fitted(self)
        vectors, residuals, bands = self._parts(inputs)
        place = np.searchsorted(self.bands_, bands)
        known = self.bands_[np.minimum(place, len(self.bands_) - 1)] == bands
        row = np.where(known, place + 1, 0)
        n, width = vectors.shape
        references = [np.zeros(n, np.intp), row][: 1 + int(self.band)]
        start = len(references) * width
        # Filled in place: of vectors as long as an exposure's each copy takes as long as the rest.
        deviations = np.empty((n, start + self.median), vectors.dtype)
        for part, usual in enumerate(references):
            block = deviations[:, part * width : (part + 1) * width]
            np.subtract(vectors, self.centres_[usual], out=block)
            block /= self.scales_[usual]
        if self.median:
            np.divide(residuals, self.residual_scale_, out=deviations[:, start:])
        np.clip(deviations, -_LIMIT, _LIMIT, out=deviations)
        return deviations.astype(np.float32, copy=False)

    def _parts(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return vectors, their deviations from the exposure's median, and bands."""
        end = inputs.shape[1] - self.columns
        bands = inputs[:, end - 1] if self.band else np.zeros(len(inputs), inputs.dtype)
        start = end - int(self.band) - self.median
        vectors = inputs[:, :start]
        if self.columns:
            vectors = np.concatenate([vectors, inputs[:, end:]], axis=1)
        medians = inputs[:, start : start + self.median]
        return vectors, vectors[:, : self.median] - medians, bands


class TwoStep(ClassifierMixin, BaseEstimator):
    """Good or bad from the size of the deviations, then which class from their signs too.

    Parameters
    ----------
    n_estimators : trees of each forest.
    min_samples_leaf : fewest vectors in a leaf.
    seed : decides the trees.
    """

    def __init__(self, n_estimators: int = 300, min_samples_leaf: int = 1, seed: int = 0) -> None:
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.seed = seed

    def fit(
        self, deviations: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> TwoStep:
        """Fit both steps; label 0 is good."""
        weights = np.ones(len(labels)) if sample_weight is None else sample_weight
        bad = labels > 0
        tried = min(max(int(_TRIED * deviations.shape[1]), 1), _TRIED_AT_MOST)
        self.detector_ = self._forest(tried).fit(np.abs(deviations), bad, weights)
        self.sorter_ = self._forest("sqrt").fit(deviations[bad], labels[bad], weights[bad])
        for forest in (self.detector_, self.sorter_):
            # Threads would add the trees' votes in any order: not the same bits on every run.
            forest.n_jobs = 1
        self.classes_ = np.concatenate([[0], self.sorter_.classes_])
        self.n_features_in_ = deviations.shape[1]
        return self

    def predict_proba(self, deviations: np.ndarray) -> np.ndarray:
        """Return (n, n_classes): of good, and of each bad class times that of being bad."""
        bad, kinds = self.predict_steps(deviations)
        return np.concatenate([1 - bad[:, None], bad[:, None] * kinds], axis=1)

    def predict_steps(self, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of being bad, (n,), and if so, of each bad class, (n, n_bad)."""
        check_is_fitted(self)
        bad = self.detector_.predict_proba(np.abs(deviations))[:, 1]
        return bad, self.sorter_.predict_proba(deviations)

    def predict(self, deviations: np.ndarray) -> np.ndarray:
        """Return the most probable class."""
        return self.classes_[self.predict_proba(deviations).argmax(axis=1)]

    def _forest(self, max_features: int | str) -> ExtraTreesClassifier:
        return ExtraTreesClassifier(
            self.n_estimators,
            max_features=max_features,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.seed,
            n_jobs=-1,
        )


def _scatter(vectors: np.ndarray) -> np.ndarray:
    """Return a robust scatter of each column, never 0."""
    middle = np.median(vectors, axis=0)
    robust = _NORMAL * np.median(np.abs(vectors - middle), axis=0)
    return robust + _FLOOR * vectors.std(axis=0) + 1e-3
