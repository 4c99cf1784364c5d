"""A self-organising map, to tell what is like much else from what is like nothing else.

Green et al. (2025, section 3) drop objects in cells of a 45 x 45 map whose occupancy is below the
15th percentile of all cells' before they choose what people look at: one of a kind teaches little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from lake.extras import import_extra

#: Cells along a side, and the percentile of occupancy below which a cell is sparse (section 3).
SIDE = 45
SPARSE_PERCENTILE = 15.0
#: Vectors that a map learns from at most, and how often it sees each.
SAMPLE = 20_000
_EPOCHS = 2
#: Dimensions that the map works in at most: what the paper's classifier has (Luo et al. 2026).
_COMPONENTS = 15
#: Cells along a side of the squares that count as one cluster: 9 x 9 of them in the map.
_CLUSTER_SIDE = 5


@dataclass(frozen=True)
class Map:
    """A fitted map.

    Attributes
    ----------
    side : cells along a side.
    components : (k, d) directions that vectors are projected onto, and `centre` (d,) before that.
    weights : (side * side, k) float32, where the cells are in that space; row by row.
    """

    side: int
    centre: np.ndarray
    components: np.ndarray
    weights: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.side * self.side

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Return the nearest cell of each point (n, d), (n,) from 0."""
        nearest = np.empty(len(points), np.int32)
        # The last bits of a product depend on the number of threads that share it.
        with threadpool_limits(1, user_api="blas"):
            for start in range(0, len(points), 8192):
                block = slice(start, start + 8192)
                placed = (points[block].astype(np.float32) - self.centre) @ self.components.T
                # |x - w|^2 without |x|^2, which is the same for every cell.
                nearest[block] = (self._squares - 2 * placed @ self.weights.T).argmin(axis=1)
        return nearest

    def clusters(self, cells: np.ndarray) -> np.ndarray:
        """Return the cluster of each cell: squares of neighbouring cells, which are alike."""
        across = -(-self.side // _CLUSTER_SIDE)
        row, column = np.divmod(cells, self.side)
        return row // _CLUSTER_SIDE * across + column // _CLUSTER_SIDE

    @cached_property
    def _squares(self) -> np.ndarray:
        return (self.weights**2).sum(axis=1)


def fit_map(points: np.ndarray, seed: int, side: int = SIDE) -> Map:
    """Fit a map to points (n, d), of which it is shown `SAMPLE` at most; the same on every run."""
    minisom = import_extra("minisom", "som", "--outlier-step")
    rng = np.random.default_rng([seed, 45])
    if len(points) > SAMPLE:
        points = points[np.sort(rng.choice(len(points), SAMPLE, replace=False))]
    points = points.astype(np.float32)
    with threadpool_limits(1):
        n_components = min(_COMPONENTS, *points.shape)
        # The covariance's eigenvectors: no random start that a thread could change.
        reducer = PCA(n_components, svd_solver="covariance_eigh").fit(points)
        placed = reducer.transform(points).astype(np.float64)
        som = minisom.MiniSom(
            side, side, n_components, sigma=side / 4, learning_rate=0.5, random_seed=seed % 2**32
        )
        som.random_weights_init(placed)
        som.train(placed, _EPOCHS * len(placed), random_order=True)
    weights = som.get_weights().reshape(-1, n_components).astype(np.float32)
    return Map(
        side,
        reducer.mean_.astype(np.float32),
        reducer.components_.astype(np.float32),
        weights,
    )


def sparse_cells(occupancy: np.ndarray, percentile: float = SPARSE_PERCENTILE) -> np.ndarray:
    """Return which cells hold fewer than the percentile of all cells' occupancy, (n_cells,) bool.

    Where so few objects are spread over the map that the percentile is 0, no cell is sparse.
    """
    return occupancy < np.percentile(occupancy, percentile)
