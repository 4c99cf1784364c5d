"""Models of earlier days stay readable."""

from __future__ import annotations

from importlib import import_module

from classifiers.estimators import TYPES

#: Our types that model files name, each where it was when the first files were written.
IN_FILES = {
    "classifiers.boosted.BoostedTrees",
    "classifiers.boosted.VectorReducer",
    "classifiers.forest.Deviations",
    "classifiers.forest.TwoStep",
    "classifiers.imputer.ColumnImputer",
    "classifiers.logistic.LogisticProbe",
    "classifiers.neighbours.WeightedNeighbours",
    "classifiers.surprise.Surprise",
}


def test_types_stay_where_model_files_name_them() -> None:
    """A file names its types by module: a class that moves leaves every saved model unreadable."""
    assert set(TYPES) >= IN_FILES
    for name in TYPES:
        module, _, kind = name.rpartition(".")
        assert getattr(import_module(module), kind).__module__ == module
