"""Scores against planted truth: they agree where it is known, and vanish where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.sample.spec import SampleSpec
from classifiers.train import train
from classifiers.validation.evaluate import evaluate
from classifiers.validation.metrics import score_decided
from tests.classifiers.conftest import CLASSES, MakeSurvey, write_vectors


@pytest.mark.parametrize("strength", [0.4, 0.8, 1.6])
def test_scores_agree_with_the_truth_within_their_intervals(
    make_survey: MakeSurvey, strength: float
) -> None:
    """What 20 labelled nights say of a model is what 25 nights with known truth say of it."""
    survey = make_survey(n_nights=45, signal=strength, scatter=0.3, n_labelled=20)
    labelled = [f"night={20140801 + index}" for index in range(20)]
    model = train(survey.lake, "toy", "m", sample=SampleSpec(nights=labelled)).model
    scores = evaluate(survey.lake, "m").scores[0.0]

    fresh = survey.night > "20140820"
    decided = model.probabilities(survey.vectors[fresh].astype(np.float32)).argmax(axis=1)
    rates = np.array(
        [
            np.bincount(decided[survey.label[fresh] == true], minlength=len(CLASSES))
            for true in range(len(CLASSES))
        ],
        dtype=float,
    )
    rates /= rates.sum(axis=1, keepdims=True)
    # Precision depends on how common the classes are: as in the sample.
    expected = rates * scores.confusion.sum(axis=1, keepdims=True)
    precision, recall = np.diag(expected) / expected.sum(axis=0), np.diag(rates)
    within = [
        low <= truth <= high
        for index, one in enumerate(scores.classes)
        for truth, (low, high) in (
            (precision[index], one.precision_interval),
            (recall[index], one.recall_interval),
        )
    ]
    # Of eight intervals of 95 %, one may miss.
    assert sum(within) >= len(within) - 1
    low, high = scores.accuracy_interval
    assert low <= np.trace(expected) / expected.sum() <= high
    # Strong defects are found, weak ones are not: it is not that the intervals hold everything.
    assert (recall.mean() < 0.65) == (strength < 0.5)
    assert (recall.mean() > 0.95) == (strength > 1)
    assert high - low < 0.2


@pytest.mark.parametrize(("recall", "spread"), [(0.6, 5.0), (0.9, 20.0), (0.99, 20.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(recall: float, spread: float) -> None:
    """Nights differ in how well their images are recognised; the mean over nights is known."""
    rng = np.random.default_rng(0)
    held = []
    for seed in range(100):
        night = np.repeat(np.arange(12), 30)
        by_night = rng.beta(recall * spread, (1 - recall) * spread, 12)
        truth = np.ones(len(night), int)
        decided = (rng.random(len(night)) < by_night[night]).astype(int)
        one = score_decided(("good", "bad"), truth, decided, night, n_bootstrap=200, seed=seed)
        low, high = one.classes[1].recall_interval
        held.append(low <= recall <= high)
    assert np.mean(held) >= 0.9


def test_a_single_night_has_no_interval_and_no_mistake_is_not_certainty() -> None:
    truth = np.repeat([0, 1, 0, 1], 10)
    night = np.repeat([0, 0, 1, 1], 10)
    scores = score_decided(("a", "b"), truth, truth, night, n_bootstrap=50)
    low, high = scores.classes[1].recall_interval
    assert 0.8 < low < 0.9 and high == pytest.approx(1)
    on_one = score_decided(("a", "b"), truth[:30], truth[:30], night[:30], n_bootstrap=50)
    assert np.isnan(on_one.classes[1].recall_interval).all()
    assert np.isfinite(on_one.classes[0].recall_interval).all()


def test_permuted_labels_destroy_every_score(make_survey: MakeSurvey) -> None:
    """Vectors that are dealt out anew: nothing is left to know, by night as by image."""
    survey = make_survey(n_nights=12, n_exposures=12)
    dealt = np.random.default_rng(0).permutation(survey.vectors)
    for night in np.unique(survey.night):
        mine = survey.night == night
        expnum, ccdnum = survey.expnum[mine], survey.ccdnum[mine]
        write_vectors(survey.lake, str(night), expnum, ccdnum, dealt[mine])
    train(survey.lake, "toy", "m")
    result = evaluate(survey.lake, "m")
    for row in result.answers["score_summary"].rows.to_pylist():
        assert row["accuracy"] < row["by_chance"] + 0.08
    for row in result.answers["score_average_precision"].rows.to_pylist():
        assert abs(row["average_precision"] - row["by_chance"]) < 0.08
    for one in result.scores[0.0].classes:
        share = one.support / result.n_held_out
        assert abs(one.precision - share) < 0.12
    half = result.answers["score_looks"].rows.to_pylist()[0]
    assert half["looks"] == pytest.approx(half["looks_by_chance"], rel=0.15)
