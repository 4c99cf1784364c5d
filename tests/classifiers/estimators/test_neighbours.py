"""The neighbours are scikit-learn's, and their votes carry weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from classifiers.estimators.neighbours import WeightedNeighbours


def _data(seed: int = 0, dimension: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    train = rng.normal(size=(3000, dimension)).astype(np.float32)
    labels = (train[:, 0] > 0).astype(int) + (train[:, 1] > 1)
    return train, labels, rng.normal(size=(400, dimension)).astype(np.float32)


@pytest.mark.parametrize(("p", "k", "dimension"), [(1, 7, 15), (2, 1, 8), (3, 30, 3), (5, 10, 17)])
def test_agrees_with_scikit_learn(p: int, k: int, dimension: int) -> None:
    train, labels, queries = _data(dimension=dimension)
    theirs = KNeighborsClassifier(k, p=p, algorithm="kd_tree").fit(train, labels)
    ours = WeightedNeighbours(k, p=p).fit(train, labels)
    distances, indices = ours.kneighbors(queries)
    expected_distances, expected = theirs.kneighbors(queries)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)
    np.testing.assert_array_equal(np.sort(indices, axis=1), np.sort(expected, axis=1))
    np.testing.assert_allclose(ours.predict_proba(queries), theirs.predict_proba(queries))
    np.testing.assert_array_equal(ours.predict(queries), theirs.predict(queries))


def test_equal_distances_go_to_the_earlier_vector() -> None:
    train = np.zeros((50, 4), dtype=np.float32)
    _, indices = WeightedNeighbours(3).fit(train, np.arange(50)).kneighbors(train[:2])
    np.testing.assert_array_equal(indices, [[0, 1, 2], [0, 1, 2]])


def test_weights_count_in_the_vote() -> None:
    train = np.array([[0.0], [0.1], [0.2], [9.0]], dtype=np.float32)
    model = WeightedNeighbours(3).fit(train, np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 6.0, 1.0]))
    np.testing.assert_allclose(model.predict_proba(train[:1]), [[0.25, 0.75]])
    assert model.predict(train[:1]) == [1]


def test_fewer_training_vectors_than_neighbours() -> None:
    model = WeightedNeighbours(7).fit(np.eye(3), np.array([0, 1, 1]))
    np.testing.assert_allclose(model.predict_proba(np.eye(3)), [[1 / 3, 2 / 3]] * 3)
