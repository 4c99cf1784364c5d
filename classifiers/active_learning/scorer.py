"""Scoring points by a strategy: the ensemble, or the isolation forest, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from classifiers.active_learning import strategies
from classifiers.active_learning.ensemble import Ensemble, class_shares, fit_ensemble
from classifiers.active_learning.pool import labels_by_night
from classifiers.model import Model
from classifiers.sample.class_weight import reweighted
from classifiers.sample.sample import Sample
from classifiers.sample.vectors import look_up
from lake.errors import NotFound
from lake.store import Lake

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

#: CCDs that are scored at once.
_CHUNK = 4096


@dataclass
class Scorer:
    """Scores and class shares of points by a strategy."""

    model: Model
    strategy: str
    seed: int
    sample: Sample | None
    ensemble: Ensemble | None
    shown: np.ndarray | None
    _forest: IsolationForest | None = field(default=None, init=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that shares are of."""
        return self.model.classes if self.sample is None else self.sample.classes

    def labels(self, lake: Lake) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """Return the labelled CCDs by night."""
        assert self.sample is not None
        sources = self.model.card["training"]["sources"]
        return labels_by_night(lake, self.sample.release, sources, self.classes)

    def __call__(
        self, points: np.ndarray, expnum: np.ndarray, label: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the score (n,) of each point and, from an ensemble, its shares."""
        if self.ensemble is None:
            if self.strategy == "random":
                return strategies.lot(expnum, self.seed), None
            return self._anomaly(points), None
        decisions = self.ensemble.decisions(points)
        counted = None
        if self.strategy == "label-error":
            counted = self._out_of_bag(expnum)
        shares = class_shares(decisions, len(self.classes), counted)
        if self.strategy == "label-error":
            return strategies.label_error(shares, label), shares
        return strategies.OF_SHARES[self.strategy](shares), shares

    def _out_of_bag(self, expnum: np.ndarray) -> np.ndarray:
        """Return which members did not draw the exposure of each point, (n, n_models)."""
        assert self.sample is not None and self.ensemble is not None
        at, known = look_up(np.unique(self.sample.expnum), expnum)
        return ~known[:, None] | (self.ensemble.counts[at] == 0)

    def _anomaly(self, points: np.ndarray) -> np.ndarray:
        if self._forest is None:
            from sklearn.ensemble import IsolationForest

            self._forest = IsolationForest(random_state=self.seed % 2**32).fit(self.shown)
        return -self._forest.score_samples(points)


def fit_members(model: Model, sample: Sample, n_models: int, seed: int) -> Ensemble:
    """Fit the ensemble of a model to its sample; raises `SurveyError` when a side is missing."""
    for side, which in (("good", sample.labels == 0), ("bad", sample.labels > 0)):
        if not which.any():
            raise NotFound(
                f"what model {model.name} learns from has no {side} images any more; train again"
            )
    points = np.concatenate(list(points_of(model, sample.vectors)))
    return fit_ensemble(
        model.estimator[-1],
        points,
        sample.labels,
        reweighted(sample.labels, sample.weights, sample.classes, model.card["class_weight"]),
        np.unique(sample.expnum, return_inverse=True)[1],
        len(sample.classes),
        n_models=n_models,
        seed=seed,
        good_first=model.good_first,
    )


def points_of(model: Model, vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what the model's classifier sees of vectors (n, d), some thousand at a time."""
    for start in range(0, len(vectors), _CHUNK):
        part = vectors[start : start + _CHUNK]
        if len(model.estimator) > 1:
            # The last bits of a product depend on the number of threads that share it.
            with threadpool_limits(1, user_api="blas"):
                part = model.estimator[:-1].transform(part)
        yield part
