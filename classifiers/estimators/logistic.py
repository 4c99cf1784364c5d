"""A linear probe: multinomial logistic regression fitted by L-BFGS on the whole batch.

Stein et al. (2022, section 4) find rare objects so among millions of vectors within minutes. Each
step reads the vectors once, in blocks that stay in the cache; no copy of them is made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from classifiers.estimators.threads import single_threads

if TYPE_CHECKING:
    from torch import Tensor

#: Vectors taken at once; part of what decides the last bits of the result.
_BLOCK = 2048
#: Pairs of steps and gradients that L-BFGS remembers.
_HISTORY = 10


class LogisticProbe(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression with an L2 penalty on standardised inputs.

    The minimum is that of scikit-learn's ``LogisticRegression(C)`` after a ``StandardScaler``: of
    ``C`` times the weighted sum of the log-losses plus half the squared coefficients, of which two
    classes have a row each (there of one alone, with a penalty twice as strong). Products are
    taken in single precision, sums over blocks in double and in the order of the blocks, each by
    one thread: the same bits with any number of threads.

    Parameters
    ----------
    C : inverse strength of the penalty; the intercept bears none.
    max_iter : most steps of L-BFGS.
    tol : the largest component of the mean loss's gradient at which it ends.
    """

    def __init__(self, C: float = 1.0, max_iter: int = 200, tol: float = 1e-4) -> None:  # noqa: N803
        self.C = C
        self.max_iter = max_iter
        self.tol = tol

    def fit(
        self, vectors: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> LogisticProbe:
        """Fit to vectors (n, d), labels (n,) and weights (n,).

        Raises
        ------
        ValueError : labels of one class alone, weights that sum to 0, or `C` that is not positive.
        """
        self.classes_, targets = np.unique(labels, return_inverse=True)
        weights = (
            np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, float)
        )
        if len(self.classes_) < 2:
            raise ValueError("there are labels of one class alone")
        if not weights.sum() > 0 or not self.C > 0:
            raise ValueError("the weights and C must be positive")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.n_features_in_ = vectors.shape[1]
        with single_threads() as workers:
            self.mean_, self.scale_ = _standard(vectors, workers)
            objective = _Objective(vectors, targets, weights, self, workers)
            self.coef_, self.intercept_, self.n_iter_ = objective.minimise(self.max_iter, self.tol)
        return self

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, n_classes) float32."""
        import torch

        check_is_fitted(self)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        coefficients = torch.from_numpy(self.coef_.astype(np.float32)).T.contiguous()
        intercept = torch.from_numpy(self.intercept_.astype(np.float32))

        def chances(rows: slice) -> np.ndarray:
            inputs = _standardised(vectors[rows], self.mean_, self.scale_)
            return torch.softmax(torch.addmm(intercept, inputs, coefficients), dim=1).numpy()

        with single_threads() as workers:
            parts = list(workers.map(chances, _blocks(len(vectors))))
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes_)), np.float32)

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """Return the most probable class of each vector."""
        return self.classes_[self.predict_proba(vectors).argmax(axis=1)]


class _Objective:
    """The penalised mean loss and its gradient, over vectors that stay where they are."""

    def __init__(
        self,
        vectors: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        probe: LogisticProbe,
        workers: ThreadPoolExecutor,
    ) -> None:
        import torch

        self._vectors, self._workers = vectors, workers
        self._mean, self._scale = probe.mean_, probe.scale_
        self._targets = torch.from_numpy(targets.astype(np.int64))
        self._weights = torch.from_numpy((weights / weights.sum()).astype(np.float32))
        self._penalty = 1 / (probe.C * weights.sum())
        self._shape = (len(probe.classes_), vectors.shape[1] + 1)

    def minimise(self, max_iter: int, tol: float) -> tuple[np.ndarray, np.ndarray, int]:
        """Return coefficients (n_classes, d), intercepts (n_classes,) and the steps taken."""
        import torch

        values = torch.zeros(self._shape, dtype=torch.float64)
        search = torch.optim.LBFGS(
            [values],
            max_iter=max_iter,
            max_eval=2 * max_iter,
            tolerance_grad=tol,
            tolerance_change=1e-12,
            history_size=_HISTORY,
            line_search_fn="strong_wolfe",
        )

        def evaluate() -> float:
            loss, values.grad = self(values)
            return loss

        search.step(evaluate)
        # Only differences between classes matter; centred, the coefficients are unique.
        centred = (values - values.mean(dim=0)).numpy()
        return centred[:, :-1], centred[:, -1], search.state_dict()["state"][0]["n_iter"]

    def __call__(self, values: Tensor) -> tuple[float, Tensor]:
        """Return the objective at coefficients and intercepts (n_classes, d + 1), and gradient."""
        import torch

        single = values.to(torch.float32)
        coefficients, intercept = single[:, :-1].T.contiguous(), single[:, -1].contiguous()

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            inputs = _standardised(self._vectors[rows], self._mean, self._scale)
            logs = torch.log_softmax(torch.addmm(intercept, inputs, coefficients), dim=1)
            targets, weights = self._targets[rows, None], self._weights[rows, None]
            loss = -(logs.gather(1, targets) * weights).sum(dtype=torch.float64)
            slopes = logs.exp_()
            slopes.scatter_add_(1, targets, torch.full_like(weights, -1.0))
            slopes *= weights
            return loss, torch.cat([slopes.T @ inputs, slopes.sum(0)[:, None]], dim=1)

        penalised = values.clone()
        penalised[:, -1] = 0
        loss = float((penalised**2).sum()) * self._penalty / 2
        gradient = penalised * self._penalty
        # In the order of the blocks, whichever thread was first.
        for one, slope in self._workers.map(part, _blocks(len(self._vectors))):
            loss += float(one)
            gradient += slope
        return loss, gradient


def _standard(vectors: np.ndarray, workers: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each feature, float32; 1 for one that is constant."""

    def sums(rows: slice) -> np.ndarray:
        return vectors[rows].sum(axis=0, dtype=np.float64)

    zero = np.zeros(vectors.shape[1])
    mean = sum(workers.map(sums, _blocks(len(vectors))), zero) / len(vectors)

    def squares(rows: slice) -> np.ndarray:
        return ((vectors[rows] - mean) ** 2).sum(axis=0)

    scatter = np.sqrt(sum(workers.map(squares, _blocks(len(vectors))), zero) / len(vectors))
    # What differs by rounding alone is constant.
    constant = scatter <= np.finfo(np.float32).eps * np.abs(mean)
    return mean.astype(np.float32), np.where(constant, 1, scatter).astype(np.float32)


def _standardised(block: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    """Return a block as a tensor of its own, whose memory is aligned alike on every run."""
    import torch

    inputs = torch.empty(block.shape, dtype=torch.float32)
    torch.sub(torch.from_numpy(block), torch.from_numpy(mean), out=inputs)
    return inputs.div_(torch.from_numpy(scale))


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
