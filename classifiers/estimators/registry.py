"""The classifiers, each a scikit-learn pipeline from vectors to class probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from threadpoolctl import ThreadpoolController, threadpool_limits

from classifiers.estimators import boosted, knn
from classifiers.estimators.forest import RobustZScore, TwoStep
from classifiers.estimators.imputer import ColumnImputer
from classifiers.estimators.logistic import LogisticProbe
from classifiers.sample.features import Layout
from lake.errors import BadInput, NotFound

#: The names that `build` knows.
CLASSIFIERS = ("knn", "two-step", "logistic", "boosted")
#: What each classifier's vectors are joined with unless told otherwise.
CONTEXT = {"knn": "none", "two-step": "band", "logistic": "none", "boosted": "band"}

#: Classifiers that decide between good and bad before the class.
GOOD_FIRST = ("two-step",)

#: Settings that can be searched, by classifier: the paper's, and parameters of the last step.
SPACES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "knn": knn.SPACE,
    "two-step": {"n_estimators": (100, 300), "min_samples_leaf": (1, 2, 4, 8)},
    "logistic": {"C": (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)},
    "boosted": {
        "learning_rate": (0.05, 0.1, 0.2),
        "max_iter": (50, 100, 200),
        "max_leaf_nodes": (7, 15, 31),
        "l2_regularization": (0.1, 1.0, 10.0),
    },
}

#: Step of a classifier, and setting that alone decides it, which takes longer to fit than the rest:
#: a search fits it once for all candidates.
SHARED = {"knn": "scaler"}

#: Trees of each step of ``two-step``.
TREES = 100

#: Types that a model file may hold, beside those that skops takes for harmless.
TYPES = (
    "classifiers.estimators.boosted.BoostedTrees",
    "classifiers.estimators.boosted.VectorReducer",
    "classifiers.estimators.forest.RobustZScore",
    "classifiers.estimators.forest.TwoStep",
    "classifiers.estimators.imputer.ColumnImputer",
    "classifiers.estimators.logistic.LogisticProbe",
    "classifiers.estimators.neighbours.WeightedNeighbours",
    "classifiers.exposures.novelty.NoveltyScore",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)


def build(
    name: str,
    layout: Layout,
    n_samples: int,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Return an unfitted classifier of vectors of which `layout` says what their values are.

    `settings` are of its space in `SPACES`; None for the default ones.

    Where these have columns of the CCD table, what is missing is filled in first, by the median of
    the good images.

    ``knn`` is the paper's optimum (Luo et al. 2026, section 3.2): MinMaxScaler, PCA to 15
    components, VarianceThreshold 0.001, and 7 neighbours by the L1 distance.
    ``two-step`` asks whether an image is good, by how far it is from what is usual, and then what
    is wrong with it (`classifiers.estimators.forest`).
    ``logistic`` is a linear probe (`classifiers.estimators.logistic`), fitted in minutes to
    millions. ``boosted`` boosts trees on histograms (`classifiers.estimators.boosted`).

    Raises
    ------
    SurveyError : an unknown name.
    """
    steps: list[tuple[str, Any]] = []
    if layout.columns:
        steps.append(("imputer", ColumnImputer(layout.columns)))
    if name == "knn":
        return Pipeline([*steps, *knn.steps(layout.width, n_samples, seed, settings)])
    if name == "two-step":
        deviations = RobustZScore(layout.median, bool(layout.band), layout.columns)
        steps.append(("deviations", deviations))
        steps.append(("classifier", TwoStep(TREES, min_samples_leaf=2, seed=seed)))
    elif name == "logistic":
        steps.append(("classifier", LogisticProbe()))
    elif name == "boosted":
        steps += boosted.steps(layout, n_samples, seed)
    else:
        raise NotFound(f"no classifier {name!r}; choose one of {', '.join(CLASSIFIERS)}")
    steps[-1][1].set_params(**(settings or {}))
    return Pipeline(steps)


def fit(
    estimator: Pipeline,
    vectors: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    overwrite: bool = False,
) -> Pipeline:
    """Fit a pipeline whose last step takes the weights; bit for bit the same on every run.

    With `overwrite` steps may change `vectors` in place, which saves a copy of them.
    """
    last = estimator.steps[-1][0]
    # A sum over several threads depends on how many there are.
    with threadpool_limits(1), _in_place(estimator) if overwrite else nullcontext():
        try:
            return estimator.fit(vectors, labels, **{f"{last}__sample_weight": weights})
        except ValueError as error:
            raise BadInput(f"the classifier cannot be fitted: {error}") from error


@contextmanager
def _in_place(estimator: Pipeline) -> Iterator[None]:
    """Let the steps that can work in place do so, for as long as they are fitted."""
    scalers = [step for _, step in estimator.steps if step.get_params(deep=False).get("copy")]
    for step in scalers:
        step.set_params(copy=False)
    try:
        yield
    finally:
        for step in scalers:
            step.set_params(copy=True)


def probabilities(estimator: Pipeline, vectors: np.ndarray, n_classes: int) -> np.ndarray:
    """Return (n, n_classes) float32; a class that was absent in training has probability 0."""
    result = np.zeros((len(vectors), n_classes), dtype=np.float32)
    if len(vectors):
        # The last bits of a product depend on the number of threads that share it.
        with _libraries().limit(limits=1, user_api="blas"):
            result[:, estimator.classes_] = estimator.predict_proba(vectors)
    return result


@cache  # finding them takes longer than many a night
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def settings(estimator: Pipeline) -> Mapping[str, Any]:
    """Return the steps and their parameters, as a model card lists them."""
    return {
        name: {"type": type(step).__name__, **step.get_params(deep=False)}
        for name, step in estimator.steps
    }
