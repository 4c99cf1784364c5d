"""Good or bad first, then which; whole exposures and the CCDs that are meant."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from classifiers.estimators import registry as estimators
from classifiers.estimators.forest import RobustZScore
from classifiers.estimators.spec import ClassifierSpec
from classifiers.exposures import classifier
from classifiers.exposures import novelty as surprise
from classifiers.exposures import vote as judged
from classifiers.exposures.classifier import fit_exposure_classifier
from classifiers.model import load_model
from classifiers.predict import predict
from classifiers.sample.features import Features, Layout
from classifiers.sample.held import HeldVectors
from classifiers.sample.sample import Sample
from classifiers.train import train
from classifiers.vote import vote
from lake.errors import SurveyError
from lake.model_files import model_folder
from lake.paths import MODEL_FILE
from lake.store import Lake
from tests.classifiers.conftest import CLASSES, MakeSurvey


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "TREES", 40)
    monkeypatch.setattr(estimators, "TREES", 20)


def _votes(lake: Lake, model: str) -> dict[int, dict]:
    rows = [
        row
        for partition in lake.partitions("votes", model=model)
        for row in lake.read("votes", dict(partition.keys)).to_pylist()
    ]
    return {row["expnum"]: row for row in rows}


def test_learned_vote_names_exposures_and_ccds(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=10, n_exposures=8, n_ccds=10, signal=2.0, struck=3)
    lake = survey.lake
    summary = train(lake, "toy", "two", classifier=ClassifierSpec("two-step"))
    assert summary.scores[0.0].accuracy > 0.9
    learned = summary.model.exposure_classifier
    assert learned is not None
    assert learned.extents[CLASSES.index("Noise")] == pytest.approx(0.3)
    predict(lake, "two")
    vote(lake, "two", rule="learned", min_probability=0.7)
    held_out = {name.split("/")[1] for name in summary.held_out}
    right = wrong = 0
    votes = _votes(lake, "two")
    for night in held_out:
        for expnum in np.unique(survey.expnum[survey.night == night]):
            row = votes[int(expnum)]
            true = CLASSES[survey.label[survey.expnum == expnum].max()]
            # A class of a few CCDs names them; the others make the exposure bad as a whole.
            partial = true == "Noise"
            as_expected = row["is_bad"] == (true not in ("good", "Noise"))
            as_expected &= (row["n_bad"] > 0) == (true != "good")
            as_expected &= not partial or row["n_bad"] <= 3
            right += as_expected and row["class"] == true
            wrong += not (as_expected and row["class"] == true)
    assert right > 9 * wrong


def test_model_is_the_same_bits_and_comes_back(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=5, signal=1.0)
    lake = survey.lake
    models = [
        train(lake, "toy", name, classifier=ClassifierSpec("two-step")).model for name in ("a", "b")
    ]
    files = [(model_folder(lake, model.name) / MODEL_FILE).read_bytes() for model in models]
    assert files[0] == files[1]
    assert models[0].exposure_classifier is not None
    loaded = load_model(lake, "a")
    assert loaded.exposure_classifier is not None
    assert loaded.exposure_classifier.threshold == models[0].exposure_classifier.threshold
    width = loaded.exposure_classifier.pipeline[0].n_features_in_
    summaries = np.random.default_rng(0).normal(size=(5, width)).astype(np.float32)
    np.testing.assert_array_equal(
        loaded.exposure_classifier.probabilities(summaries),
        models[0].exposure_classifier.probabilities(summaries),
    )
    assert loaded.identity == models[0].identity


def test_a_learned_vote_does_not_depend_on_which_nights_are_judged_together(
    make_survey: MakeSurvey, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_survey(n_nights=5, n_exposures=6, signal=1.0).lake
    monkeypatch.setattr(classifier, "TREES", 20)
    train(lake, "toy", "m", exposure_classifier=True)
    predict(lake, "m")
    asked = []
    found = []
    for at_once in (1, 13, 10_000):
        monkeypatch.setattr(judged, "_AT_ONCE", at_once)
        summary = vote(lake, "m", rule="learned", force=True)
        asked.append((summary.done, summary.n_exposures))
        found.append([part.path.read_bytes() for part in lake.partitions("votes", model="m")])
    assert asked == [(5, 30)] * 3
    assert found[0] == found[1] == found[2]
    # The votes of each night are of its own exposures.
    for partition in lake.partitions("votes", model="m"):
        keys = dict(partition.keys)
        voted, predicted = (lake.read(name, keys)["expnum"] for name in ("votes", "predictions"))
        assert voted.to_pylist() == sorted(set(predicted.to_pylist()))


def test_learned_vote_is_refused_where_it_cannot_be(make_survey: MakeSurvey) -> None:
    lake = make_survey(n_nights=5, signal=1.0).lake
    train(lake, "toy", "paper")
    predict(lake, "paper")
    with pytest.raises(SurveyError, match="cannot classify exposures"):
        vote(lake, "paper", rule="learned")
    with pytest.raises(SurveyError, match="--rule 'guess'"):
        vote(lake, "paper", rule="guess")
    with pytest.raises(SurveyError, match="--min-ccds belongs to --rule share"):
        vote(lake, "paper", rule="learned", min_ccds=3)
    train(lake, "toy", "two", classifier=ClassifierSpec("two-step"))
    predict(lake, "two", partitions=["night=20140801"])
    train(lake, "toy", "two", classifier=ClassifierSpec("two-step"), seed=1, force=True)
    with pytest.raises(SurveyError, match="predicted by another version of model two"):
        vote(lake, "two", rule="learned")


def test_deviations_are_from_the_good_of_the_band() -> None:
    rng = np.random.default_rng(0)
    band = np.repeat([103.0, 114.0], 500)
    vectors = rng.normal(size=(1000, 2)) * [1, 5] + band[:, None]
    labels = (rng.random(1000) < 0.2).astype(int)
    vectors[labels == 1] += 1000  # bad ones decide nothing
    inputs = np.column_stack([vectors, band])
    deviations = RobustZScore(band=True).fit(inputs, labels).transform(inputs)
    assert deviations.shape == (1000, 4)
    assert deviations.dtype == np.float32
    good = deviations[labels == 0]
    np.testing.assert_allclose(np.median(good[:, 2:], axis=0), 0, atol=0.01)
    np.testing.assert_allclose(good[:, 2:].std(axis=0), 1, atol=0.15)
    assert (deviations[labels == 1] == 15).all()
    # A band that was never seen is measured against all of them.
    unseen = (
        RobustZScore(band=True).fit(inputs, labels).transform(np.array([[108.0, 108.0, 122.0]]))
    )
    np.testing.assert_array_equal(unseen[:, :2], unseen[:, 2:])


@pytest.mark.parametrize("is_far_out", [False, True])
def test_a_class_of_few_ccds_needs_one_that_is_more_likely_bad_than_good(
    make_survey: MakeSurvey, monkeypatch: pytest.MonkeyPatch, is_far_out: bool
) -> None:
    survey = make_survey(n_nights=8, n_exposures=8, n_ccds=10, signal=2.0, struck=3)
    lake = survey.lake
    if not is_far_out:
        monkeypatch.setattr(surprise, "_FAR", 30.0)
    train(lake, "toy", "two", classifier=ClassifierSpec("two-step"))
    predict(lake, "two")
    vote(lake, "two", rule="learned")
    before = _votes(lake, "two")
    local = [e for e, row in before.items() if row["class"] == "Noise" and not row["is_bad"]]
    assert local
    # The same predictions, but for CCDs that are all rather good than bad.
    for partition in lake.partitions("predictions", model="two"):
        rows = lake.read("predictions", dict(partition.keys))
        shares = np.array(rows["probabilities"].to_pylist())
        shares[:, 0] = np.maximum(shares[:, 0], 0.6)
        rows = rows.set_column(
            rows.column_names.index("probabilities"),
            "probabilities",
            pa.array(shares.tolist(), pa.list_(pa.float32())),
        )
        record = partition.record()
        assert record is not None
        lake.write("predictions", dict(partition.keys), rows, record)
    vote(lake, "two", rule="learned", force=True)
    after = _votes(lake, "two")
    if not is_far_out:
        assert {after[expnum]["class"] for expnum in local} == {"good"}
        return
    # What is beyond anything good is bad, and where no CCD is to blame, as a whole.
    bad = [expnum for expnum, row in before.items() if row["class"] != "good"]
    assert sum(after[expnum]["is_bad"] for expnum in bad) > 0.5 * len(bad)


def _sample(vectors: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Sample:
    """Exposures of ten nights, of one band."""
    n = len(labels)
    inputs = np.column_stack([vectors, np.full(n, 103.0)]).astype(np.float32)
    return Sample(
        held=HeldVectors.of(inputs),
        rows=np.arange(n),
        layout=Layout(vectors.shape[1], band=1),
        labels=labels,
        weights=np.ones(n),
        expnum=np.arange(n),
        ccdnum=np.zeros(n, np.int16),
        night=np.arange(n) % 10,
        classes=classes,
        nights=tuple(f"decam/{night}" for night in range(10)),
        release="sim",
        features=Features(("toy",), "band"),
        settings=("",),
        fingerprint="",
        n_missing=0,
    )


def test_probabilities_are_frequencies() -> None:
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        # The classes overlap, so that no one can be sure.
        labels = (rng.random(n) < 0.4).astype(int)
        vectors = rng.normal(size=(n, 12))
        vectors[:, :3] += 2.0 * labels[:, None]
        return vectors, labels

    vectors, labels = drawn(500)
    learned = fit_exposure_classifier(_sample(vectors, labels, ("good", "PSF")), np.ones(500), 12)
    vectors, labels = drawn(4000)
    inputs = np.column_stack([vectors, np.full(4000, 103.0)]).astype(np.float32)
    chance = 1 - learned.probabilities(inputs)[:, 0]
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (chance >= low) & (chance < low + 0.2)
        assert inside.sum() > 200, "all degrees of certainty occur"
        assert labels[inside].mean() == pytest.approx(chance[inside].mean(), abs=0.1)
    # The share of trees alone is worse: it shies away from 0 and 1.
    raw = learned.pipeline.predict_proba(inputs)[:, 1]
    assert ((chance - labels) ** 2).mean() < ((raw - labels) ** 2).mean()


def test_a_kind_that_was_never_seen_is_bad_when_far_from_all_good_ones() -> None:
    rng = np.random.default_rng(0)
    n_measured, n = 100, 400
    labels = rng.integers(0, 2, n)
    vectors = rng.normal(size=(n, n_measured))
    vectors[labels == 1, :5] += 6
    # Some of what counts as good is bad: lists miss some.
    labels[np.flatnonzero(labels)[:8]] = 0
    learned = fit_exposure_classifier(
        _sample(vectors, labels, ("good", "PSF")), np.ones(n), n_measured
    )

    unseen = rng.normal(size=(500, n_measured))
    unseen[:, 50:54] += 30 * rng.choice([-1, 1], size=(500, 1))
    good = rng.normal(size=(3000, n_measured))
    # One feature alone, however far, is a fluke.
    fluke = rng.normal(size=(500, n_measured))
    fluke[:, 60] = 1e6

    def judged(vectors: np.ndarray) -> float:
        inputs = np.column_stack([vectors, np.full(len(vectors), 103.0)]).astype(np.float32)
        assert (learned.probabilities(inputs)[:, 1:].sum(axis=1) <= 1).all()
        chance = 1 - learned.probabilities(inputs)[:, 0]
        return float((chance >= learned.threshold).mean())

    assert learned.calibration.beyond > 0.8
    assert judged(unseen) > 0.95
    assert judged(good) < 0.03
    assert judged(fluke) < 0.1
    forest = learned.pipeline.predict_proba(np.column_stack([unseen, np.full(500, 103.0)]))
    assert forest[:, 1].mean() < 0.4, "the forest alone sees nothing in them"


def test_card_tells_how_exposures_are_judged(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=8, signal=1.0)
    model = train(
        survey.lake, "toy", "m", classifier=ClassifierSpec("knn"), exposure_classifier=True
    ).model
    scores = model.card["exposure_scores"]
    held_out = {name.split("/")[1] for name in model.card["split"]["held_out"]}
    here = np.isin(survey.night, list(held_out))
    n_bad = len(np.unique(survey.expnum[here & (survey.label > 0)]))
    assert scores["bad"] == n_bad
    assert sum(one["exposures"] for one in scores["calibration"]) == scores["exposures"]
    assert scores["brier"] < scores["brier_of_share"]
    other = train(
        survey.lake,
        "toy",
        "m",
        classifier=ClassifierSpec("two-step"),
        exposure_classifier=False,
        force=True,
    )
    assert other.model.exposure_classifier is None
