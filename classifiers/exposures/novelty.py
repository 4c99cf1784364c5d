"""Novelty score: distance of an exposure from the good ones, in units of their usual scatter.

A classifier learns from examples, and ignores what few of them showed: a readout pattern fifty
times stronger than on any good exposure, if no list named enough of the kind. Here the good
exposures alone decide, and no single feature: several have to be far out at once.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

#: Share of the good exposures within whose reach a feature says nothing. Lists miss bad ones: the
#: farthest of those that count as good are not.
_USUAL = 0.95
#: The feature that counts is the one that this share of all features exceeds, but no less than the
#: third: the farthest few are often flukes.
_RANK_FRACTION, _MIN_RANK = 0.0125, 3
#: A feature that hardly ever differs among good exposures counts from this part of their scatter.
_FLOOR = 0.05
_NORMAL_90 = 1.2816  # standard deviations within which 90 % of a normal distribution lie, one-sided
#: As far out as one of 10,000 good exposures, by a normal distribution.
_FAR = 3.72


class NoveltyScore(BaseEstimator):
    """Novelty of exposures against the good ones that it was fitted to.

    Parameters
    ----------
    n_measured : how many of the values count, the first ones.
    """

    def __init__(self, n_measured: int) -> None:
        self.n_measured = n_measured

    def fit(self, vectors: np.ndarray, labels: np.ndarray) -> NoveltyScore:
        """Learn what is usual from the vectors (n, d) labelled 0, good."""
        good = vectors[labels == 0, : self.n_measured].astype(np.float64)
        self.centre_ = np.median(good, axis=0)
        deviation = np.abs(good - self.centre_)
        floor = _FLOOR * good.std(axis=0) + 1e-3
        self.reach_ = np.maximum(np.quantile(deviation, _USUAL, axis=0), floor)
        return self

    def score(self, vectors: np.ndarray) -> np.ndarray:
        """Return the novelty score of each exposure, (n,) float64.

        It is the k-th largest scaled deviation, k = max(3, 1.25 % of the features).
        """
        check_is_fitted(self)
        ratio = np.abs(vectors[:, : self.n_measured] - self.centre_) / self.reach_
        rank = min(max(round(_RANK_FRACTION * self.n_measured), _MIN_RANK), self.n_measured)
        return np.partition(ratio, self.n_measured - rank, axis=1)[:, self.n_measured - rank]


def novelty_threshold(scores: np.ndarray) -> float:
    """Return the score that one good exposure of 10,000 reaches, from those of good ones.

    Their middle and their 90 % quantile decide, by a lognormal distribution, since the farthest
    may be bad ones that no list names.
    """
    middle, high = np.log(np.maximum(np.quantile(scores, [0.5, 0.9]), 1e-6))
    return float(np.exp(middle + _FAR / _NORMAL_90 * (high - middle)))
