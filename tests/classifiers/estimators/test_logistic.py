"""The linear probe: the minimum of scikit-learn's, and the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from classifiers.estimators.logistic import LogisticProbe


def made(n: int = 3000, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 12)).astype(np.float32) * np.arange(1, 13) + 40
    scores = (vectors - 40) / np.arange(1, 13) @ rng.normal(size=(12, n_classes))
    labels = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    return vectors, labels, rng.uniform(0.5, 3, n)


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_coefficients_are_those_of_scikit_learn(strength: float, n_classes: int) -> None:
    vectors, labels, weights = made(n_classes=n_classes)
    probe = LogisticProbe(strength, tol=1e-6).fit(vectors, labels, weights)
    standard = StandardScaler().fit_transform(vectors.astype(float))
    # Of two classes theirs has one row, whose penalty is twice that of two halves.
    theirs = LogisticRegression(C=strength * (2 if n_classes == 2 else 1), tol=1e-9, max_iter=1000)
    theirs.fit(standard, labels, weights)
    slopes = theirs.coef_ if n_classes > 2 else theirs.coef_ * [[-0.5], [0.5]]
    np.testing.assert_allclose(probe.coef_, slopes, atol=2e-4)
    chances = probe.predict_proba(vectors)
    np.testing.assert_allclose(chances, theirs.predict_proba(standard), atol=2e-4)
    assert (probe.predict(vectors) == theirs.predict(standard)).mean() > 0.999


def test_weights_are_repetitions() -> None:
    vectors, labels, _ = made(600)
    weights = 1 + np.arange(600) % 3
    weighted = LogisticProbe(tol=1e-6).fit(vectors, labels, weights)
    weighted_mean, weighted_scale = weighted.mean_, weighted.scale_
    repeated = LogisticProbe(tol=1e-6)
    rows = np.repeat(np.arange(600), weights)
    repeated.fit(vectors[rows], labels[rows])
    # Inputs are standardised by the vectors as they come; in their units the slopes are the same.
    np.testing.assert_allclose(
        weighted.coef_ / weighted_scale, repeated.coef_ / repeated.scale_, atol=2e-3
    )
    assert weighted_mean.shape == (12,)


def test_constant_features_and_far_off_means_do_no_harm() -> None:
    vectors, labels, _ = made()
    shifted = np.concatenate([vectors, np.full((len(vectors), 1), 0.1, np.float32)], axis=1)
    shifted[:, 0] = 57_000 + vectors[:, 0]
    probe = LogisticProbe(tol=1e-5).fit(shifted, labels)
    plain = LogisticProbe(tol=1e-5).fit(vectors, labels)
    assert np.isfinite(probe.coef_).all() and abs(probe.coef_[:, -1]).max() < 1e-6
    np.testing.assert_allclose(
        probe.predict_proba(shifted), plain.predict_proba(vectors), atol=5e-3
    )


@pytest.mark.parametrize(
    ("labels", "weights", "strength"),
    [([1, 1, 1], [1, 1, 1], 1.0), ([0, 1, 1], [0, 0, 0], 1.0), ([0, 1, 1], [1, 1, 1], 0.0)],
)
def test_what_cannot_be_fitted_is_refused(
    labels: list[int], weights: list[float], strength: float
) -> None:
    with pytest.raises(ValueError, match=r"one class alone|must be positive"):
        LogisticProbe(strength).fit(np.eye(3), np.array(labels), np.array(weights))


def test_bits_do_not_depend_on_cores_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels, weights = made(9000)
    threads = torch.get_num_threads()
    found = set()
    for cores in (1, 2, 3):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        torch.set_num_threads(cores)
        probe = LogisticProbe().fit(vectors, labels, weights)
        assert torch.get_num_threads() == cores
        found.add(probe.coef_.tobytes() + probe.predict_proba(vectors).tobytes())
    torch.set_num_threads(threads)
    assert len(found) == 1
