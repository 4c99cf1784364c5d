"""How much each class counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.estimators.spec import ClassifierSpec
from classifiers.sample.class_weight import reweighted
from classifiers.train import train
from lake.errors import SurveyError
from tests.classifiers.conftest import MakeSurvey

CLASSES = ("good", "PSF", "Noise", "Wonky")

rows = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.1, 10, allow_nan=False)), min_size=1, max_size=50
)


@given(rows)
def test_balanced_classes_have_the_same_total(pairs: list[tuple[int, float]]) -> None:
    labels, weights = (np.array(column) for column in zip(*pairs, strict=True))
    found = reweighted(labels, weights, CLASSES, "balanced")
    totals = np.bincount(labels, found)
    present = np.bincount(labels) > 0
    np.testing.assert_allclose(totals[present], weights.sum() / present.sum())
    for label in np.unique(labels):
        mine = labels == label
        np.testing.assert_allclose(
            found[mine] / found[mine].sum(), weights[mine] / weights[mine].sum()
        )


@given(rows, st.floats(0.01, 0.99))
def test_shares_are_kept_and_the_others_divide_the_rest(
    pairs: list[tuple[int, float]], share: float
) -> None:
    labels, weights = (
        np.array(column) for column in zip(*[*pairs, (0, 1.0), (1, 1.0)], strict=True)
    )
    found = reweighted(labels, weights, CLASSES, f"good={share}")
    np.testing.assert_allclose(found.sum(), weights.sum())
    np.testing.assert_allclose(found[labels == 0].sum() / found.sum(), share)
    others = labels > 0
    np.testing.assert_allclose(
        found[others] / found[others].sum(), weights[others] / weights[others].sum()
    )


def test_without_a_setting_weights_stay() -> None:
    weights = np.array([1.0, 3.0])
    assert reweighted(np.array([0, 1]), weights, CLASSES, "none") is weights


def test_all_shares_may_be_given() -> None:
    setting = "good=0.9, PSF=0.06, Noise=0.04"
    found = reweighted(np.array([0, 0, 1, 2]), np.ones(4), CLASSES[:3], setting)
    np.testing.assert_allclose(found, [1.8, 1.8, 0.24, 0.16])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("even", "expected none, balanced, or shares such as"),
        ("good=much", "expected none, balanced, or shares such as"),
        ("good=0", "the shares must be above 0"),
        ("good=0.9,PSF=0.2", "1 at most in all"),
        ("good=nan", "the shares must be above 0"),
        ("Clouds=0.1", "there are no labels of Clouds; the classes are good, PSF"),
        ("good=1", "nothing is left for the other classes"),
    ],
)
def test_wrong_settings_are_one_line(make_survey: MakeSurvey, setting: str, says: str) -> None:
    survey = make_survey(n_nights=3)
    with pytest.raises(SurveyError) as caught:
        train(survey.lake, "toy", "m", classifier=ClassifierSpec(class_weight=setting))
    assert says in str(caught.value) and "\n" not in str(caught.value)
