"""The bench of `select`: it learns, counts labels, and compares as it says."""

from __future__ import annotations

import numpy as np
import pytest

from bench.select import Pool, by_lot, by_strategy, divided, labels_needed, learn, ratios
from classifiers.sample.features import Layout

LOT = [(30, 0.2), (40, 0.4), (50, 0.3), (60, 0.6)]


def test_labels_are_read_off_a_curve_that_never_falls() -> None:
    assert labels_needed(LOT, 0.4) == 40
    assert labels_needed(LOT, 0.3) == 35
    assert labels_needed(LOT, 0.5) == 55
    assert labels_needed(LOT, 0.1) == 30
    assert labels_needed(LOT, 0.7) == np.inf


def test_a_strategy_that_needs_half_the_labels_has_half_the_ratio() -> None:
    faster = [(count / 2, value) for count, value in LOT]
    assert ratios(faster, LOT, [40, 60]) == pytest.approx([0.5, 0.5])
    assert ratios(LOT, LOT, [40, 50, 60]) == pytest.approx([1, 1, 1])


@pytest.fixture(scope="module")
def survey() -> Pool:
    """Ten nights of exposures whose classes are apart, and half of them good."""
    rng = np.random.default_rng(0)
    expnum = np.repeat(np.arange(120), 3)
    kind = rng.integers(0, 6, 120).clip(3) - 3
    label = np.repeat(kind, 3)
    vectors = rng.normal(size=(3, 8))[label] * 4 + rng.normal(size=(360, 8))
    faint = np.zeros(360, bool)
    return Pool(vectors, Layout(8), expnum, expnum // 12, label, faint, ("good", "PSF", "Noise"))


@pytest.mark.parametrize("outlier_step", [False, True])
def test_learning_adds_what_is_asked_for_up_to_the_budget(survey: Pool, outlier_step: bool) -> None:
    pool, test = divided(survey, 1)
    assert not set(pool.night) & set(test.night)
    for choose in (by_lot(1), by_strategy("entropy", outlier_step, "knn", 5, 1)):
        curve = learn(pool, test, choose, "knn", 1, 50)
        assert [count for count, _ in curve] == [30, 40, 50]
        assert curve[-1][1] > 0.8
