"""The paper's classifier, and the settings among which it was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn import preprocessing
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold

from classifiers.estimators.neighbours import WeightedNeighbours

#: Settings that Luo et al. (2026, section 3.2 and table 2) searched, in their order. The leaf size
#: is that of a tree, which decides its speed and nothing else; the neighbours here are found
#: without one.
SPACE: Mapping[str, tuple[Any, ...]] = {
    "scaler": (
        "StandardScaler",
        "MinMaxScaler",
        "Normalizer",
        "MaxAbsScaler",
        "RobustScaler",
        "PowerTransformer",
    ),
    "n_components": (5, 10, 15, 25, 30, 50, 70, 100),
    "min_variance": (0.0, 0.001, 0.01),
    "n_neighbors": (1, 3, 5, 7, 10, 20, 30),
    "p": (1, 2, 3, 5),
    "leaf_size": (1, 5, 10, 15, 30, 35),
}

#: What they found.
OPTIMUM: Mapping[str, Any] = {
    "scaler": "MinMaxScaler",
    "n_components": 15,
    "min_variance": 0.001,
    "n_neighbors": 7,
    "p": 1,
    "leaf_size": 1,
}


def steps(
    width: int, n_samples: int, seed: int, settings: Mapping[str, Any] | None = None
) -> list[tuple[str, Any]]:
    """Return the steps of a pipeline: scaler, PCA, variance threshold and weighted neighbours.

    Parameters
    ----------
    width, n_samples : of the vectors to be fitted; there are no more components than either.
    settings : values for names of `SPACE`; those of `OPTIMUM` for the others. A scaler may be one
        that is fitted already.
    """
    chosen = {**OPTIMUM, **(settings or {})}
    scaler = chosen["scaler"]
    components = min(chosen["n_components"], width, n_samples)
    return [
        ("scaler", getattr(preprocessing, scaler)() if isinstance(scaler, str) else scaler),
        ("reducer", PCA(components, svd_solver="covariance_eigh", random_state=seed)),
        ("selector", VarianceThreshold(chosen["min_variance"])),
        ("classifier", WeightedNeighbours(chosen["n_neighbors"], p=chosen["p"])),
    ]
