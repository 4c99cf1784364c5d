"""The ensemble: exact, bootstrapped by exposure, and what is made of its votes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from classifiers.active_learning.ensemble import (
    NeighbourEnsemble,
    RefittedEnsemble,
    bootstrap,
    class_shares,
    fit_ensemble,
)
from classifiers.active_learning.strategies import entropy, label_error, least_certain, lot, margin
from classifiers.estimators.boosted import BoostedTrees
from classifiers.estimators.forest import TwoStep
from classifiers.estimators.neighbours import WeightedNeighbours
from classifiers.validation.metrics import decide

N_CLASSES = 4


def training(
    n_exposures: int, n_ccds: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return points, labels, weights and exposures; the CCDs of an exposure are near each other."""
    rng = np.random.default_rng(seed)
    exposure = np.repeat(np.arange(n_exposures), n_ccds)
    labels = rng.permutation(np.arange(n_exposures) % N_CLASSES)[exposure]
    centres = rng.normal(size=(n_exposures, 3))
    points = centres[exposure] + 0.3 * rng.normal(size=(len(exposure), 3))
    weights = np.array([1.0, 3.0, 2.0, 1.333])[labels]
    return points, labels, weights, exposure


@pytest.mark.parametrize(
    # The last two: neighbours of few exposures, and fewer points than vote.
    ("n_exposures", "n_ccds", "n_neighbors", "p"),
    [(60, 5, 7, 1), (60, 5, 1, 2), (12, 40, 7, 1), (2, 2, 7, 1)],
)
def test_neighbours_of_each_draw_are_those_of_a_refit(
    n_exposures: int, n_ccds: int, n_neighbors: int, p: float
) -> None:
    points, labels, weights, exposure = training(n_exposures, n_ccds)
    queries = np.random.default_rng(9).normal(size=(150, 3))
    classifier = WeightedNeighbours(n_neighbors, p=p)
    ensemble = fit_ensemble(
        classifier, points, labels, weights, exposure, N_CLASSES, n_models=25, seed=3
    )
    assert isinstance(ensemble, NeighbourEnsemble)
    decisions = ensemble.decisions(queries)
    for member, counts in enumerate(ensemble.counts.T):
        rows = np.repeat(np.arange(len(labels)), counts[exposure])
        refit = WeightedNeighbours(n_neighbors, p=p)
        refit.fit(points[rows], labels[rows], sample_weight=weights[rows])
        shares = np.zeros((len(queries), N_CLASSES), np.float32)
        shares[:, refit.classes_] = refit.predict_proba(queries)
        np.testing.assert_array_equal(decisions[:, member], decide(shares, good_first=False))


@pytest.mark.parametrize(
    ("classifier", "good_first"),
    [(TwoStep(100, seed=0), True), (BoostedTrees(max_iter=100), False)],
)
def test_other_classifiers_are_refitted_on_whole_exposures(
    classifier: BaseEstimator, good_first: bool
) -> None:
    points, labels, weights, exposure = training(40, 5)
    settings = points, labels, weights, exposure, N_CLASSES
    ensemble = fit_ensemble(classifier, *settings, n_models=8, good_first=good_first)
    assert isinstance(ensemble, RefittedEnsemble)
    decisions = ensemble.decisions(points)
    assert decisions.shape == (200, 8)
    drawn = ensemble.counts[exposure] > 0
    right = decisions == labels[:, None]
    assert right[drawn].mean() > 0.9  # learned by heart
    assert right[~drawn].mean() < 0.7
    again = fit_ensemble(classifier, *settings, n_models=8, good_first=good_first)
    np.testing.assert_array_equal(again.decisions(points), decisions)


def test_a_bootstrap_draws_exposures_with_replacement_and_by_number() -> None:
    _, labels, _, exposure = training(50, 3)
    counts = bootstrap(exposure, labels, 100, seed=1)
    assert (counts.sum(axis=0) == 50).all()
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)
    np.testing.assert_array_equal(counts[:, :10], bootstrap(exposure, labels, 10, seed=1))
    assert (counts != bootstrap(exposure, labels, 100, seed=2)).any()


def test_a_draw_always_has_good_and_bad() -> None:
    exposure, labels = np.arange(10), np.eye(10, dtype=int)[0]
    counts = bootstrap(exposure, labels, 50, seed=0)
    assert (counts[0] > 0).all()
    assert (counts[1:].sum(axis=0) > 0).all()
    with pytest.raises(ValueError, match="good and bad"):
        bootstrap(exposure, np.ones(10, int), 2, seed=0)


def test_shares_and_what_is_made_of_them_by_hand() -> None:
    decisions = np.array([[0, 0, 1, 2], [3, 3, 3, 3], [0, 0, 1, 1]])
    shares = class_shares(decisions, 4)
    np.testing.assert_allclose(shares[0], [0.5, 0.25, 0.25, 0])
    np.testing.assert_allclose(entropy(shares), [1.5, 0, 1])
    np.testing.assert_allclose(margin(shares), [0.75, 0, 1])
    np.testing.assert_allclose(least_certain(shares), [0.5, 0, 0.5])
    np.testing.assert_allclose(label_error(shares, np.array([0, 0, 2])), [0.5, 1, 1])
    counted = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    kept = class_shares(decisions, 4, counted)
    np.testing.assert_allclose(kept[0], [1, 0, 0, 0])
    np.testing.assert_allclose(kept[2], [0.5, 0.5, 0, 0])  # nobody counts: all do


@given(st.lists(st.integers(0, 30), min_size=2, max_size=12).filter(any))
def test_entropy_is_that_of_any_order_and_at_most_the_logarithm(votes: list[int]) -> None:
    shares = np.array([votes]) / sum(votes)
    bits = entropy(shares)[0]
    assert 0 <= bits <= np.log2(len(votes)) + 1e-12
    assert entropy(shares[:, ::-1])[0] == pytest.approx(bits)
    assert (bits == 0) == (max(votes) == sum(votes))


def test_a_lot_depends_on_the_exposure_and_the_seed_alone() -> None:
    numbers = np.arange(300_000, 310_000)
    drawn = lot(numbers, 1)
    np.testing.assert_array_equal(lot(numbers[::-7], 1), drawn[::-7])
    assert len(np.unique(drawn)) == len(drawn)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0].std() < 60
    assert abs(np.corrcoef(drawn, lot(numbers, 2))[0, 1]) < 0.05
