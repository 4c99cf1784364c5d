"""An ensemble of classifiers, each fitted on a bootstrap of what a model learned from.

Green et al. (2025, section 3) fit each member on a bootstrap of their spectra, one an object. Here
an object is an exposure: its CCDs look alike, and a draw of CCDs would leave a twin of nearly every
one in each member, which then agree out of habit. So whole exposures are drawn, with replacement.

What comes before the classifier (scaler, principal components, deviations) stays the model's, which
makes the members' points the same points. For neighbours that saves fitting altogether.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, clone
from threadpoolctl import threadpool_limits

from classifiers.estimators import registry as estimators
from classifiers.estimators.boosted import BoostedTrees
from classifiers.estimators.forest import TwoStep
from classifiers.estimators.neighbours import WeightedNeighbours
from classifiers.validation.metrics import decide

#: Members unless told otherwise (section 3).
MODELS = 200
#: Neighbours that are looked up first, for each that votes.
_REACH = 16
#: Elements of the largest array that a block of neighbours makes.
_BLOCK = 1 << 22
#: What a member has less of than the model: two hundred of them are to be fitted, and applied.
_SMALLER: dict[type, dict[str, int]] = {
    TwoStep: {"n_estimators": 5},
    BoostedTrees: {"max_iter": 30},
}


@dataclass(frozen=True)
class Training:
    """What the members learn from.

    Attributes
    ----------
    points : (n, d), what the steps before the classifier make of the training vectors.
    labels, weights, exposure : (n,) class index, weight, and index of the exposure from 0.
    counts : (n_exposures, n_models), how often each member drew each exposure.
    good_first : see `classifiers.validation.metrics.decide`.
    """

    points: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    exposure: np.ndarray
    counts: np.ndarray
    n_classes: int
    good_first: bool


class Ensemble(ABC):
    """Members that each decide on a class; `counts` as `Training` has them."""

    def __init__(self, training: Training) -> None:
        self.counts = training.counts
        self.n_classes = training.n_classes
        self.good_first = training.good_first

    @abstractmethod
    def decisions(self, points: np.ndarray) -> np.ndarray:
        """Return the class that each member gives each point (n, d), as an index: (n, n_models)."""


def bootstrap(exposure: np.ndarray, labels: np.ndarray, n_models: int, seed: int) -> np.ndarray:
    """Draw as many exposures as there are, with replacement, once for each member.

    Parameters
    ----------
    exposure : (n,) index of the exposure of each training vector, from 0.
    labels : (n,) class index, 0 for good. Draws without a good and a bad vector are drawn again.

    Returns
    -------
    (n_exposures, n_models) uint8, how often each was drawn. A member's draw depends on the seed
    and its number alone, so that more members are the same ones and others.
    """
    n_exposures = int(exposure.max()) + 1
    has_good = np.bincount(exposure, labels == 0, n_exposures) > 0
    has_bad = np.bincount(exposure, labels > 0, n_exposures) > 0
    if not has_good.any() or not has_bad.any():
        raise ValueError("good and bad vectors are needed")
    counts = np.zeros((n_exposures, n_models), np.uint8)
    for member in range(n_models):
        rng = np.random.default_rng([seed, member])
        while not (counts[has_good, member].any() and counts[has_bad, member].any()):
            drawn = rng.integers(0, n_exposures, n_exposures)
            counts[:, member] = np.bincount(drawn, minlength=n_exposures)
    return counts


def fit_ensemble(
    classifier: BaseEstimator,
    points: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    exposure: np.ndarray,
    n_classes: int,
    *,
    n_models: int = MODELS,
    seed: int = 0,
    good_first: bool = False,
) -> Ensemble:
    """Return an ensemble of `classifier`s, the last step of a model.

    Parameters
    ----------
    points : (n, d), what the steps before it make of the training vectors.
    labels, weights, exposure : (n,) class index, weight, and index of the exposure from 0.
    good_first : see `classifiers.validation.metrics.decide`.
    """
    counts = bootstrap(exposure, labels, n_models, seed)
    training = Training(points, labels, weights, exposure, counts, n_classes, good_first)
    if isinstance(classifier, WeightedNeighbours):
        return NeighbourEnsemble(classifier, training)
    return RefittedEnsemble(classifier, training)


class RefittedEnsemble(Ensemble):
    """A classifier refitted on each draw, smaller where it is made of many parts."""

    def __init__(self, classifier: BaseEstimator, training: Training) -> None:
        super().__init__(training)
        size = classifier.get_params(deep=False)
        limits = _SMALLER.get(type(classifier), {})
        smaller = {name: min(size[name], limit) for name, limit in limits.items()}
        seeds = {"seed", "random_state"} & set(size)
        self.members = []
        for member in range(training.counts.shape[1]):
            drawn = training.counts[training.exposure, member]
            rows = np.repeat(np.arange(len(drawn)), drawn)
            one = clone(classifier).set_params(**smaller, **dict.fromkeys(seeds, member))
            with threadpool_limits(1):
                one.fit(
                    training.points[rows],
                    training.labels[rows],
                    sample_weight=training.weights[rows],
                )
            self.members.append(one)

    def decisions(self, points: np.ndarray) -> np.ndarray:
        decided = np.empty((len(points), len(self.members)), np.int8)
        for member, one in enumerate(self.members):
            shares = estimators.probabilities(one, points, self.n_classes)
            decided[:, member] = decide(shares, self.good_first)
        return decided


class NeighbourEnsemble(Ensemble):
    """Nearest neighbours refitted on each draw, without refitting any.

    The neighbours among a draw are the first of all neighbours that were drawn, each as often as it
    was drawn. So one search among all training points serves every member, and what comes out is
    exactly what each member would find by itself. How far down the list the last of them stands is
    not known beforehand: points for which some member still lacks neighbours are searched again,
    four times as far.
    """

    def __init__(self, classifier: WeightedNeighbours, training: Training) -> None:
        super().__init__(training)
        self.n_neighbors = classifier.n_neighbors
        self.search = WeightedNeighbours(classifier.n_neighbors, p=classifier.p)
        self.search.fit(training.points, training.labels)
        self._exposure = training.exposure
        # A row is what a neighbour gives its class: its weight.
        self._votes = training.weights[:, None] * np.eye(self.n_classes)[training.labels]

    def decisions(self, points: np.ndarray) -> np.ndarray:
        n_train, n_models = len(self._exposure), self.counts.shape[1]
        decided = np.empty((len(points), n_models), np.int8)
        pending = np.arange(len(points))
        reach = min(_REACH * self.n_neighbors, n_train)
        while len(pending):
            lacking = []
            self.search.n_neighbors = reach
            step = max(_BLOCK // (reach * n_models), 1)
            for start in range(0, len(pending), step):
                rows = pending[start : start + step]
                near = self.search.kneighbors(points[rows])[1]
                decided[rows], whole = self._vote(near)
                lacking.append(rows[~whole])
            if reach == n_train:  # a draw may have fewer than vote
                break
            pending = np.concatenate(lacking)
            reach = min(4 * reach, n_train)
        return decided

    def _vote(self, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each member's class by the neighbours (n, reach), and where none lacks any."""
        drawn = self.counts[self._exposure[near]]  # (n, reach, n_models)
        reached = np.minimum(drawn.cumsum(axis=1, dtype=np.uint16), self.n_neighbors)
        seats = np.diff(reached, axis=1, prepend=np.uint16(0))
        shares = seats.transpose(0, 2, 1).astype(np.float64) @ self._votes[near]
        total = shares.sum(axis=2, keepdims=True)
        shares = (shares / np.maximum(total, 1e-300)).astype(np.float32)
        decided = decide(shares.reshape(-1, self.n_classes), self.good_first)
        return decided.reshape(shares.shape[:2]), (reached[:, -1] == self.n_neighbors).all(axis=1)


def class_shares(
    decisions: np.ndarray, n_classes: int, counted: np.ndarray | None = None
) -> np.ndarray:
    """Return C, the share of the members that give each class (eq. 3.1): (n, n_classes) float64.

    Parameters
    ----------
    decisions : (n, n_models) class indices.
    counted : (n, n_models) bool, which members count for which point; where none does, all do.
    """
    if counted is None:
        counted = np.ones(decisions.shape, bool)
    else:
        counted = counted | ~counted.any(axis=1, keepdims=True)
    shares = np.stack(
        [((decisions == index) & counted).sum(axis=1) for index in range(n_classes)], axis=1
    )
    return shares / counted.sum(axis=1, keepdims=True)
