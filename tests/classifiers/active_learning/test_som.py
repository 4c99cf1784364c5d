"""The self-organising map: alike goes together, one of a kind is told."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.active_learning.som import Map, fit_map, sparse_cells


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Two dense groups of vectors, and ten that are like nothing else."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(700, 20)) + 8 * side for side in (-1, 1)]
    return np.concatenate([*groups, rng.normal(size=(10, 20)) * 12])


@pytest.fixture(scope="module")
def fitted(points: np.ndarray) -> Map:
    return fit_map(points, seed=1, side=12)


def test_a_cell_is_the_nearest(points: np.ndarray, fitted: Map) -> None:
    placed = (points.astype(np.float32) - fitted.centre) @ fitted.components.T
    distances = ((placed[:, None] - fitted.weights) ** 2).sum(axis=2)
    found = np.take_along_axis(distances, fitted.cells(points)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(found, distances.min(axis=1), rtol=1e-3, atol=1e-2)


def test_groups_lie_apart_and_what_is_alike_together(points: np.ndarray, fitted: Map) -> None:
    cells = fitted.cells(points)
    assert not set(cells[:700]) & set(cells[700:1400])
    row, column = np.divmod(cells[:1400], fitted.side)
    middle = [(row[part].mean(), column[part].mean()) for part in (slice(700), slice(700, 1400))]
    assert np.hypot(*np.subtract(*middle)) > fitted.side / 4


def test_one_of_a_kind_is_in_a_sparse_cell(points: np.ndarray, fitted: Map) -> None:
    cells = fitted.cells(points)
    occupancy = np.bincount(cells, minlength=fitted.n_cells)
    sparse = sparse_cells(occupancy, percentile=40)[cells]
    assert sparse[1400:].mean() > 0.5
    assert sparse[:1400].mean() < 0.15


def test_sparse_is_below_the_percentile() -> None:
    occupancy = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert np.flatnonzero(sparse_cells(occupancy, 30)).tolist() == [0, 1, 2]
    assert not sparse_cells(np.array([0, 0, 0, 5]), 15).any()


def test_the_same_seed_gives_the_same_map(points: np.ndarray, fitted: Map) -> None:
    np.testing.assert_array_equal(fit_map(points, seed=1, side=12).weights, fitted.weights)
    assert (fit_map(points, seed=2, side=12).weights != fitted.weights).any()


def test_clusters_are_squares_of_neighbouring_cells() -> None:
    grid = Map(12, np.zeros(1), np.zeros((1, 1)), np.zeros((144, 1)))
    clusters = grid.clusters(np.arange(144)).reshape(12, 12)
    assert len(np.unique(clusters)) == 9
    assert (clusters[:5, :5] == 0).all()
    assert clusters[0, 5] == 1 and clusters[5, 0] == 3 and clusters[11, 11] == 8
