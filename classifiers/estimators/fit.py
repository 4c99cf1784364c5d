"""Fitting an estimator to labelled CCDs, and asking it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from classifiers.estimators import registry
from classifiers.sample.class_weight import NONE, reweighted
from classifiers.sample.sample import Sample


def fit_part(
    part: Sample,
    classifier: str,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    class_weight: str = NONE,
) -> Pipeline:
    """Return `classifier`, fitted to all of `part`; `settings` as in `registry.build`.

    `class_weight` is as in `classifiers.sample.class_weight.reweighted`.

    Raises
    ------
    SurveyError : it cannot be fitted, or a class weight that does not apply.
    """
    weights = reweighted(part.labels, part.weights, part.classes, class_weight)
    estimator = registry.build(classifier, part.layout, len(part), seed, settings)
    return registry.fit(estimator, part.vectors, part.labels, weights, overwrite=True)


def predict_proba(estimator: Pipeline, part: Sample) -> np.ndarray:
    """Return the class probabilities of all of `part`, (n, n_classes) float32."""
    n_classes = len(part.classes)
    return np.concatenate(
        [registry.probabilities(estimator, some.vectors, n_classes) for some in part.pieces()]
    )
