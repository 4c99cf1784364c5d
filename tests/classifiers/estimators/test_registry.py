"""What every classifier must do, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from classifiers.estimators import registry as estimators
from classifiers.estimators.boosted import MAX_VALUES, VectorReducer
from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.estimators.spec import ClassifierSpec
from classifiers.model import load_model
from classifiers.sample.features import Features, Layout
from classifiers.sample.held import HeldVectors
from classifiers.sample.sample import Sample
from classifiers.train import train
from classifiers.validation.splits import split_by_group
from lake.errors import SurveyError
from lake.model_files import model_folder
from lake.paths import MODEL_FILE
from lake.store import Lake
from tests.classifiers.conftest import fill_survey

CONTEXTS = {"none": Layout(8, columns=1), "band": Layout(8, 0, 8, 1, 1)}


def made_sample(seed: int = 0, n: int = 900, context: str = "none") -> Sample:
    """Return three classes of vectors and a column with gaps, of 9 nights."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], n // 3)
    values = rng.normal(size=(n, 8)) + 3 * np.eye(8)[labels]
    parts = [values, values + 0.1 * rng.normal(size=(n, 8)), np.full((n, 1), 103.0)]
    column = rng.normal(size=(n, 1))
    column[::9] = np.nan
    vectors = np.concatenate([*(parts if context == "band" else parts[:1]), column], axis=1)
    return Sample(
        held=HeldVectors.of(vectors.astype(np.float32)),
        rows=np.arange(n),
        layout=CONTEXTS[context],
        labels=labels,
        weights=np.ones(n),
        expnum=np.arange(n),
        ccdnum=np.ones(n, np.int16),
        night=np.arange(n) % 9,
        classes=("good", "PSF", "Noise"),
        nights=tuple(f"decam/2014080{index}" for index in range(9)),
        release="sim",
        features=Features(("toy",), context, ("fwhm",)),
        settings=("",),
        fingerprint="",
        n_missing=0,
    )


def accuracy(sample: Sample, classifier: str) -> float:
    held_out = split_by_group(sample, "night", 0.3, 0)
    test = sample.take(held_out)
    found = predict_proba(fit_part(sample.take(~held_out), classifier, 0), test)
    assert found.shape == (len(test), 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    return float((found.argmax(axis=1) == test.labels).mean())


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("classifier", estimators.CLASSIFIERS)
def test_learns_classes_and_nothing_from_permuted_labels(classifier: str, context: str) -> None:
    sample = made_sample(context=context)
    assert accuracy(sample, classifier) > 0.9
    shuffled = np.random.default_rng(1).permutation(sample.labels)
    assert accuracy(replace(sample, labels=shuffled), classifier) < 0.45


@pytest.mark.parametrize("classifier", estimators.CLASSIFIERS)
def test_weights_make_a_class_more_likely(classifier: str) -> None:
    """Three classes that cannot be told apart, one of them with weight 5."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    vectors = rng.normal(size=(600, 4)).astype(np.float32)
    means = []
    for heavy in (1, 2):
        weights = np.where(labels == heavy, 5.0, 1.0)
        estimator = estimators.build(classifier, Layout(4), len(labels))
        estimators.fit(estimator, vectors, labels, weights)
        fresh = rng.normal(size=(300, 4)).astype(np.float32)
        means.append(estimators.probabilities(estimator, fresh, 3).mean(axis=0))
    assert means[0][1] > 1.5 * means[0][2] and means[1][2] > 1.5 * means[1][1]


@pytest.mark.parametrize("classifier", estimators.CLASSIFIERS)
def test_bits_do_not_depend_on_threads(classifier: str) -> None:
    sample = made_sample()
    found = []
    for threads in (1, 3):
        with threadpool_limits(threads):
            found.append(predict_proba(fit_part(sample, classifier, 0), sample))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.fixture(scope="module")
def survey_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lakes") / "survey.lake", create=True)
    fill_survey(lake, n_nights=5, signal=1.0, n_exposures=4)
    return lake


@pytest.mark.parametrize("classifier", estimators.CLASSIFIERS)
def test_same_seed_same_file_which_predicts_the_same(survey_lake: Lake, classifier: str) -> None:
    spec = ClassifierSpec(classifier, class_weight="balanced")
    features = Features(("toy",), spec.context, ("ebv",))
    models = [
        train(
            survey_lake,
            features,
            f"{classifier}-{name}",
            classifier=spec,
            exposure_classifier=False,
        ).model
        for name in ("a", "b")
    ]
    files = [(model_folder(survey_lake, model.name) / MODEL_FILE).read_bytes() for model in models]
    assert files[0] == files[1]
    loaded = load_model(survey_lake, models[0].name)
    assert loaded.card["class_weight"] == "balanced"
    assert next(iter(loaded.card["steps"])) == "imputer"
    assert loaded.card["steps"]["classifier"]
    width = loaded.estimator[0].n_features_in_
    vectors = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    np.testing.assert_array_equal(loaded.probabilities(vectors), models[0].probabilities(vectors))


def test_long_vectors_are_reduced_for_trees_and_columns_kept() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, MAX_VALUES + 40)).astype(np.float32)
    layout = Layout(MAX_VALUES + 39, columns=1)
    reducer = estimators.build("boosted", layout, len(vectors))["reducer"]
    assert isinstance(reducer, VectorReducer)
    reduced = reducer.fit_transform(vectors)
    check_is_fitted(reducer)
    assert reduced.shape == (300, MAX_VALUES + 1)
    np.testing.assert_array_equal(reduced[:, -1], vectors[:, -1])


def test_unknown_classifier_names_the_known() -> None:
    with pytest.raises(SurveyError, match="no classifier 'oracle'; choose one of knn, two-step"):
        estimators.build("oracle", Layout(4), 10)
