"""Exact nearest neighbours whose votes carry a weight, fast on many queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from classifiers.estimators.threads import single_threads

if TYPE_CHECKING:
    from torch import Tensor

#: Distances that a thread holds at once: queries x training vectors, 4 MiB of float32.
_BLOCK = 1 << 20
#: Orders of the distance, of the paper's, whose powers are products.
_POWERS = (3, 5)
#: Neighbours found in single precision beyond those asked for, from which the exact ones are taken.
_SPARE = 9
#: More than what single precision can lose in a distance of a thousand dimensions.
_ROUNDING = 1e-4


class WeightedNeighbours(ClassifierMixin, BaseEstimator):
    """k-nearest-neighbour classifier in which each training vector votes with its own weight.

    With equal weights it is scikit-learn's ``KNeighborsClassifier(n_neighbors, p=p)``, whose
    neighbours it finds exactly; weights undo the down-sampling of the large classes (Luo et al.
    2026, section 2.4). In the paper's 15 dimensions a tree prunes little, so all distances are
    taken, in single precision and whole vector registers, and the nearest few are ranked again in
    double precision. Equal distances go to the earlier training vector.

    Parameters
    ----------
    n_neighbors : how many neighbours vote.
    p : order of the Minkowski distance; 1 is the paper's.
    """

    def __init__(self, n_neighbors: int = 7, p: float = 1) -> None:
        self.n_neighbors = n_neighbors
        self.p = p

    def fit(
        self, vectors: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> WeightedNeighbours:
        """Keep the training vectors (n, d), their labels (n,) and their weights (n,)."""
        self.vectors_ = np.ascontiguousarray(vectors, dtype=np.float32)
        self.classes_, self.labels_ = np.unique(labels, return_inverse=True)
        self.weights_ = (
            np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, float)
        )
        self.n_features_in_ = self.vectors_.shape[1]
        return self

    def kneighbors(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and training indices, both (n, k), of the neighbours, nearest first."""
        import torch

        check_is_fitted(self)
        wanted = min(self.n_neighbors, len(self.vectors_))
        pool = min(wanted + _SPARE, len(self.vectors_))
        train = torch.from_numpy(_padded(self.vectors_))
        if self.p in _POWERS:
            # The same vectors, laid out as `_distances` reads them: value by value.
            train = train.T.contiguous().T
        queries = torch.from_numpy(_padded(np.ascontiguousarray(vectors, dtype=np.float32)))
        distances = np.empty((len(queries), wanted))
        indices = np.empty((len(queries), wanted), dtype=np.intp)
        step = max(_BLOCK // max(len(self.vectors_), 1), 1)

        def find(start: int) -> None:
            block = slice(start, start + step)
            rough = _distances(queries[block], train, self.p)
            nearest = torch.topk(rough, pool, dim=1, largest=False, sorted=False)
            exact_queries = np.asarray(vectors[block], dtype=np.float64)
            found = self._ranked(exact_queries, np.sort(nearest.indices.numpy(), axis=1), wanted)
            # Rounding can hide a neighbour only where the pool ends as near as the last of them.
            reach = nearest.values.max(dim=1).values.numpy() * (1 - _ROUNDING)
            for row in np.flatnonzero(found[0][:, -1] >= reach) if pool < len(train) else ():
                everything = np.arange(len(train))[None]
                again = self._ranked(exact_queries[row : row + 1], everything, wanted)
                found[0][row], found[1][row] = again[0][0], again[1][0]
            distances[block], indices[block] = found

        with single_threads() as workers:
            list(workers.map(find, range(0, len(queries), step)))
        return distances, indices

    def _ranked(
        self, vectors: np.ndarray, candidates: np.ndarray, wanted: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `wanted` nearest of the `candidates` (n, m), which are sorted by index."""
        difference = np.abs(vectors[:, None, :] - self.vectors_[candidates])
        distances = (
            difference.sum(axis=2)
            if self.p == 1
            else (difference**self.p).sum(axis=2) ** (1 / self.p)
        )
        # Stable: of equal distances the earlier training vector comes first.
        order = np.argsort(distances, axis=1, kind="stable")[:, :wanted]
        return (
            np.take_along_axis(distances, order, axis=1),
            np.take_along_axis(candidates, order, axis=1),
        )

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Return the share of the neighbours' weight that each class has, (n, n_classes)."""
        _, indices = self.kneighbors(vectors)
        votes = self.weights_[indices]
        labels = self.labels_[indices]
        shares = np.stack(
            [(votes * (labels == label)).sum(axis=1) for label in range(len(self.classes_))], axis=1
        )
        return shares / votes.sum(axis=1, keepdims=True)

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """Return the most probable class of each vector; of equals the first class."""
        return self.classes_[self.predict_proba(vectors).argmax(axis=1)]


def _distances(queries: Tensor, train: Tensor, p: float) -> Tensor:
    """Return the Minkowski distances (n, m) of queries (n, d) from training vectors (m, d)."""
    import torch

    if p not in _POWERS:
        # The expansion into products loses the small distances that matter here.
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(queries, train, p=float(p), compute_mode=exact)
    # cdist raises every difference to a power by the general function, ten times slower.
    total = torch.zeros(len(queries), len(train))
    difference, product = torch.empty_like(total), torch.empty_like(total)
    for ours, theirs in zip(queries.T, train.T, strict=True):
        torch.sub(ours[:, None], theirs, out=difference).abs_()
        torch.mul(difference, difference, out=product)
        if p == 5:
            product.mul_(product)
        total.addcmul_(product, difference)
    return total.pow_(1 / p)


def _padded(vectors: np.ndarray) -> np.ndarray:
    """Fill the last axis with zeros up to whole registers of eight floats: no distance changes."""
    missing = -vectors.shape[1] % 8
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors
