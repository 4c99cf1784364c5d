"""The model card: what a model was trained on and how, and what it is worth."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from classifiers.estimators import registry as estimators
from classifiers.estimators.spec import ClassifierSpec
from classifiers.sample.sample import Sample
from classifiers.sample.spec import SampleSpec
from classifiers.validation.metrics import Scores
from classifiers.validation.search import Search
from classifiers.validation.splits import SplitSpec
from lake.record import tool_version

#: What a model card says a model is for.
INTENDED_USE = (
    "Proposes CCD images and exposures that may be unfit, for people to confirm; for the cameras, "
    "embedder and kinds of defects that it was trained on. Probabilities are of a balanced sample, "
    "in which bad images are far more common than in a survey."
)


def model_card(
    sample: Sample,
    held_out: np.ndarray,
    estimator: Pipeline,
    scores: Mapping[str, Mapping[float, Scores]],
    *,
    drawn: SampleSpec,
    split: SplitSpec,
    classifier: ClassifierSpec,
    seed: int,
    found: Search | None,
) -> dict[str, Any]:
    """Return the card of a classifier fitted to the rows of `sample` that are not `held_out`.

    Parameters
    ----------
    scores : by what was kept on one side, and by the least probability.
    drawn : how `sample` was drawn.
    classifier : with the settings that it was fitted with, and `found` : the search that gave them.
    """
    features = sample.features
    return {
        "intended_use": INTENDED_USE,
        "classes": list(sample.classes),
        "embedders": [
            {"name": name, "settings": settings}
            for name, settings in zip(features.embedders, sample.settings, strict=True)
        ],
        "context": features.context,
        "columns": list(features.columns),
        "classifier": classifier.name,
        "class_weight": classifier.class_weight,
        "settings": None if classifier.settings is None else dict(classifier.settings),
        "steps": estimators.settings(estimator),
        "training": {
            "fingerprint": sample.fingerprint,
            "release": sample.release,
            **drawn.to_card(),
            "n_train": int((~held_out).sum()),
            "n_test": int(held_out.sum()),
            "n_missing": sample.n_missing,
            "n_by_class": {
                name: int((sample.labels == index).sum())
                for index, name in enumerate(sample.classes)
            },
        },
        "split": {
            "by": split.by,
            "test_fraction": split.test_fraction,
            "held_out": sample.nights_of(held_out),
            "trained_on": sample.nights_of(~held_out),
        },
        "seed": seed,
        "search": "none" if found is None else "halving",
        "searched": None if found is None else found.to_dict(),
        "scores": {
            name: {str(cut): value.to_dict() for cut, value in by_cut.items()}
            for name, by_cut in scores.items()
        },
        "versions": {
            "survey-qa": tool_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scikit-learn", "skops", "torch")},
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
